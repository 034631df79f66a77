"""Training a grid: what is trained, what is not trained again, and how an interrupted grid goes on."""

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detector.cli.loss_lab import main
from detector.cli.train import main as train_main
from detector.config import Config
from detector.errors import DivergedError, StoppedEarly
from tests.engine.tiny import make_dataset, read_rows, without_times, write_config
from tests.lab.fake_runs import write_run

CELLS = ("ce_pi.01", "fl_g2_a.25")
NAMES = [f"{cell}/seed-{seed}" for seed in (0, 1) for cell in CELLS]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_config(tmp_path, make_dataset(tmp_path / "data"))


class CountingTrain:
    """Stands in for the training: leaves a finished run, or ends in an error where one is given."""

    def __init__(self) -> None:
        self.trained: list[str] = []
        self.errors: dict[str, BaseException] = {}

    def __call__(self, config: Config, origins: Any, *, notes: Any, resume: str | None) -> None:
        assert resume == "auto"
        name = "/".join(Path(config.output_dir).parts[-2:])
        self.trained.append(name)
        error = self.errors.pop(name, None)
        write_run(config, None if error else 0.25 + 0.125 * NAMES.index(name))
        if error:
            raise error


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> CountingTrain:
    counting = CountingTrain()
    monkeypatch.setattr("detector.lab.ablation.train", counting)
    return counting


@pytest.fixture
def ablate(recipe: Path, tmp_path: Path) -> Callable[..., int]:
    def call(*arguments: str) -> int:
        grid = ["--config", str(recipe), "--output", str(tmp_path / "grid"), "--cells", *CELLS]
        return main(["ablate", *grid, *arguments])

    return call


def test_a_grid_is_trained_once(
    ablate: Callable[..., int], train: CountingTrain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ablate() == 0
    printed = capsys.readouterr().out
    assert train.trained == NAMES
    assert "cell 1/4: ce_pi.01, seed 0\n" in printed
    assert "cell 4/4: fl_g2_a.25, seed 1: AP 0.6250 AP50 0.8250 AP75 0.5250" in printed
    assert "FL (γ 2, α .25) against CE without the prior: not trained" in printed
    page = (tmp_path / "grid/ablation.md").read_text()
    assert "| CE, π .01 | 0 | - | .01 | .375 (.250–.500)" in page
    assert "| FL (γ 2, α .25) | CE, π .01 | +.1250 | .2500 | tie |" in page
    assert f"ablate --config {tmp_path}/tiny.yaml" in page
    content = json.loads((tmp_path / "grid/ablation.json").read_text())
    assert [run["metrics"]["AP"] for run in content["cells"][1]["runs"]] == [0.375, 0.625]
    assert (tmp_path / "grid/ablation.png").read_bytes().startswith(b"\x89PNG")

    assert ablate() == 0
    again = capsys.readouterr().out
    assert train.trained == NAMES
    assert "continuing the grid in" in again
    assert "4 of 4 runs are done, 0 begun" in again
    assert "cell 1/4: ce_pi.01, seed 0: done before, AP 0.2500" in again
    assert (tmp_path / "grid/ablation.md").read_text() == page


@pytest.mark.parametrize(
    ("interruption", "code"), [(StoppedEarly("stopped by SIGTERM after step 2"), 75), (KeyboardInterrupt(), 130)]
)
def test_an_interrupted_grid_goes_on_with_the_same_line(
    ablate: Callable[..., int],
    train: CountingTrain,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    interruption: BaseException,
    code: int,
) -> None:
    train.errors[NAMES[2]] = interruption
    assert ablate("--steps", "3") == code
    printed = "".join(capsys.readouterr())
    assert "the grid is stopped with 2 of 4 runs done. Continue with the same line: detector loss-lab ablate" in printed
    assert "--steps 3" in printed
    page = (tmp_path / "grid/ablation.md").read_text()
    assert "2 of 4 runs" in page
    assert "| FL (γ 2, α .25) | CE, π .01 | +.1250 | - | one seed |" in page

    assert ablate("--steps", "3") == 0
    printed = capsys.readouterr().out
    assert train.trained == [*NAMES[:3], *NAMES[2:]]
    assert "2 of 4 runs are done, 1 begun" in printed
    assert "cell 3/4: ce_pi.01, seed 1 (continued)\n" in printed
    assert "4 of 4 runs" in (tmp_path / "grid/ablation.md").read_text()


def test_a_run_that_diverges_is_a_result(
    ablate: Callable[..., int], train: CountingTrain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train.errors = {name: DivergedError("training has diverged: 20 steps in a row") for name in (NAMES[0], NAMES[2])}
    assert ablate() == 0
    assert train.trained == NAMES
    assert "cell 1/4: ce_pi.01, seed 0: diverged, which is a result too" in capsys.readouterr().out
    page = (tmp_path / "grid/ablation.md").read_text()
    assert "| CE, π .01 | 0 | - | .01 | diverged (2 of 2) | diverged (2 of 2) | diverged (2 of 2) |" in page
    assert "| FL (γ 2, α .25) | CE, π .01 | - | - | ahead |" in page
    assert "20 steps in a row" in (tmp_path / "grid/runs/ce_pi.01/seed-0/diverged.txt").read_text()
    assert ablate() == 0
    assert train.trained == NAMES  # nor is it tried again


def test_runs_of_another_configuration_end_the_grid_before_anything_is_trained(
    ablate: Callable[..., int], train: CountingTrain, capsys: pytest.CaptureFixture[str]
) -> None:
    train.errors[NAMES[1]] = KeyboardInterrupt()
    ablate()
    capsys.readouterr()
    assert ablate("optimizer.lr=0.25") == 2
    error = capsys.readouterr().err
    assert "begun with another configuration: optimizer.lr 0.005, now 0.25" in error
    assert "Traceback" not in error
    assert train.trained == NAMES[:2]


def test_cells_may_be_added_later(ablate: Callable[..., int], train: CountingTrain, tmp_path: Path) -> None:
    assert ablate("--seeds", "1") == 0
    assert train.trained == [NAMES[2], NAMES[3]]
    assert ablate() == 0
    assert train.trained == [NAMES[2], NAMES[3], NAMES[0], NAMES[1]]


def test_several_processes_are_refused(
    ablate: Callable[..., int],
    train: CountingTrain,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert ablate() == 2
    assert "start it without torchrun" in capsys.readouterr().err
    assert train.trained == []


@pytest.mark.slow
def test_a_real_grid_trains_what_the_train_command_trains(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = tmp_path / "grid"
    line = [
        "ablate",
        "--config",
        str(recipe),
        "--output",
        str(grid),
        "--steps",
        "2",
        "--cells",
        "fl_g2_a.25",
        "ohem_1to3",
    ]
    before = multiprocessing.active_children()
    assert main([*line, "--seeds", "0", "1"]) == 0
    assert {*multiprocessing.active_children()} <= {*before}  # the loaders' workers of a run end with it
    printed = capsys.readouterr().out
    assert "step 2/2 eval" in printed  # the normal lines of a training
    for name in ("ohem_1to3/seed-0", "ohem_1to3/seed-1", "fl_g2_a.25/seed-0", "fl_g2_a.25/seed-1"):
        assert [row["step"] for row in read_rows(grid / "runs" / name)] == [1, 2, 2]
    values = ["schedule.max_steps=2", "eval.every=2", "seed=1", f"output_dir={tmp_path}/alone"]
    assert train_main(["--config", str(recipe), *values]) == 0
    alone = without_times(read_rows(tmp_path / "alone"))
    assert without_times(read_rows(grid / "runs/fl_g2_a.25/seed-1")) == alone
    aps = [row["AP"] for seed in (0, 1) for row in read_rows(grid / f"runs/fl_g2_a.25/seed-{seed}", "eval")]
    numbers = json.loads((grid / "ablation.json").read_text())
    assert [run["metrics"]["AP"] for run in numbers["cells"][1]["runs"]] == aps
