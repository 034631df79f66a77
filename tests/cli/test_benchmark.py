"""detector/cli/benchmark.py: what a user types and reads."""

import json
from pathlib import Path

import pytest

from detector.cli.benchmark import main
from detector.engine.benchmark import ceilings
from tests.engine.tiny import make_dataset, write_config


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(ceilings, "COPY_BYTES", {"cpu": 2**20})
    monkeypatch.setattr(ceilings, "MATMUL_SIZE", {"cpu": 64})
    monkeypatch.setattr(ceilings, "CONVOLUTION_SHAPE", {"cpu": (1, 8, 16, 16)})
    return str(write_config(tmp_path, make_dataset(tmp_path / "data")))


@pytest.mark.slow
def test_it_prints_the_figures_and_writes_them_as_json(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "speed.json"
    assert main(["--config", config, "--steps", "1", "--json", str(path), "data.batch_size=2"]) == 0
    said = capsys.readouterr().out
    assert "2 images a step, at once" in said
    assert "loader alone" in said
    assert f"figures written to {path}" in said
    content = json.loads(path.read_text())
    assert (content["batch_size"], content["overrides"], content["whole"]["num_steps"]) == (2, ["data.batch_size=2"], 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["optimizer.learning_rate=1"], "optimizer.lr"),
        (["data.train.annotations=nowhere.json"], "nowhere.json: no such file"),
        (["--json", "no/such/folder/f.json"], "the folder no/such/folder does not exist"),
        (["--steps", "0"], "expected a whole number from 1 on, found 0"),
    ],
)
def test_what_is_wrong_is_said_plainly(
    config: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", config, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
