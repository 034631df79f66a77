"""detector/engine/benchmark/measuring.py on a real, tiny run: all figures, and nothing left behind."""

import tempfile
from pathlib import Path

import pytest

from detector.engine.benchmark import benchmark, ceilings
from detector.errors import UserError
from tests.engine.tiny import tiny_config


@pytest.fixture(autouse=True)
def _small_ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "COPY_BYTES", {"cpu": 2**20})
    monkeypatch.setattr(ceilings, "MATMUL_SIZE", {"cpu": 64})
    monkeypatch.setattr(ceilings, "CONVOLUTION_SHAPE", {"cpu": (1, 8, 16, 16)})


def files_under(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.slow
def test_it_measures_a_run_and_leaves_output_dir_and_everything_else_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config, origins = tiny_config(tmp_path, "data.images_per_forward=2")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious.txt").write_text("of an earlier run")
    before = files_under(tmp_path)
    result = benchmark(config, origins, num_steps=2)
    assert files_under(tmp_path) == before
    assert capsys.readouterr().out == ""
    assert (result.batch_size, result.images_per_forward, result.precision) == (4, 2, "fp32")
    assert (result.whole.num_steps, result.ready.num_steps, result.loader.num_steps) == (2, 2, 2)
    assert 0 <= result.whole.waited <= result.whole.seconds
    assert result.flops > 0
    assert result.ceilings is not None
    assert result.largest.size == (96, 96)
    assert result.fit is None or result.fit.largest >= 1


def test_a_folder_is_removed_where_the_data_is_wrong_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, origins = tiny_config(tmp_path)
    Path(str(config.data.train.annotations)).unlink()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    with pytest.raises(UserError, match=r"annotations\.json"):
        benchmark(config, origins, num_steps=1)
    assert not files_under(tmp_path / "temporary")


def test_several_processes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, origins = tiny_config(tmp_path)
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="benchmark: measures one process; start it without torchrun"):
        benchmark(config, origins, num_steps=1)
