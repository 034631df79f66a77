"""``detector loss-lab`` as a user meets it."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest

from detector.cli.loss_lab import SUBCOMMANDS, main

ROOT = Path(__file__).parents[2]


def test_the_script_runs_from_any_folder(tmp_path: Path) -> None:
    line = [sys.executable, ROOT / "tools/loss_lab.py", "example"]
    result = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "0.4127 under focal loss" in result.stdout


@pytest.mark.parametrize("argv", [["--help"], *([name, "--help"] for name in SUBCOMMANDS)])
def test_help_needs_no_heavy_library(argv: list[str]) -> None:
    program = (
        "import sys\nfrom detector.cli.main import main\ncode = main(['loss-lab', *sys.argv[1:]])\n"
        "heavy = {'torch', 'cv2', 'matplotlib', 'pycocotools'} & set(sys.modules)\n"
        "raise SystemExit(f'imported {heavy}' if heavy else code)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, *argv], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"usage: detector loss-lab {argv[0] if len(argv) > 1 else ''}".rstrip())


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["curvs"], "invalid choice: 'curvs'"),
        (["--gammas", "1", "curves"], "invalid choice: '1'"),
        (["--", "curves"], "the command comes first: loss-lab curves ..."),
        (["curves", "--gammas", "-1"], "expected a number from 0 on, found -1"),
        (["curves", "--gammas", "nan"], "expected a number from 0 on, found nan"),
        (["curves", "--alphas", "2"], "expected none or a number from 0 to 1, found 2"),
        (["example", "--positive-p-t", "1"], "expected a number between 0 and 1, found 1"),
        (["example", "--negatives", "1e12"], "expected 0 to 10000000 examples, found 1e12"),
        (["ablate", "--steps", "0"], "expected a whole number from 1 on, found 0"),
        (["ablate", "--seeds", "0", "x"], "--seeds: expected whole numbers from 0 on, found 'x'"),
        (["ablate", "--seeds", "log_every=1"], "--seeds: expected one value or more, found log_every=1"),
        (["cdf", "--checkpoint", "x.pt", "--gammas", "-2"], "--gammas: expected a number from 0 on, found -2"),
        (["cdf", "--checkpoint", "x.pt", "--images", "x"], "--images needs --annotations"),
        (["cdf", "--checkpoint", "missing.pt"], "missing.pt: no such checkpoint file"),
        (["ablate", "--cells", "fl_g2"], "there is no cell 'fl_g2'. Did you mean 'fl_g2_a.25'?"),
        (["ablate", "--cells", "ce_pi.5", "--full"], "--full takes all of them: give one of the two"),
        (["ablate", "--cells", "ce_pi.5", "optimizer.lrr=1"], "unknown key 'optimizer.lrr'"),
        (["ablate", "--config", "retina_dem"], "Did you mean 'retina_demo'?"),
        (["ablate", "loss.cls.gamma=1"], "the grid sets this key itself"),
        (["ablate", "model.head.activation=softmax"], "softmax does not fit loss.cls.name"),
    ],
)
def test_a_wrong_line_is_exit_2_and_says_why(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_curves_are_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "curves.png"
    assert main(["curves", "--gammas", "0", ".5", "2", "--alphas", "none", ".25", "--output", str(path)]) == 0
    assert capsys.readouterr().out == f"6 curves written to {path}\n"
    picture = cv2.imread(str(path))
    assert picture is not None
    assert min(picture.shape[:2]) > 200


@pytest.mark.parametrize(
    ("name", "message"),
    [("missing/curves.png", "the folder .* does not exist"), ("curves.doc", r"cannot write a figure as '\.doc'")],
)
def test_a_picture_that_cannot_be_written_is_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, message: str
) -> None:
    assert main(["curves", "--output", str(tmp_path / name)]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_the_example_takes_other_counts_and_bases(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["example", "--negatives", "10000", "--log-base", "e"]) == 0
    printed = capsys.readouterr().out
    assert "10,000" in printed
    assert "29.957" in printed  # 10 positives x ln 20
    assert "the positives' share of the loss: 0.0552 under cross-entropy, 0.8754 under focal loss" in printed


def test_overrides_may_follow_a_list_of_cells_or_seeds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    def run_grid(runs: Any, output: Path, **others: Any) -> None:
        seen.update(names=[run.name for run in runs], output=output, config=runs[0].config, **others)

    monkeypatch.setattr("detector.lab.ablation.run_grid", run_grid)
    line = ["ablate", "--cells", "ce_pi.5", "fl_g2_a.25", "log_every=3", "--seeds", "4", "data.batch_size=2"]
    assert main([*line, "--output", str(tmp_path), "--steps", "9"]) == 0
    assert seen["names"] == ["ce_pi.5, seed 4", "fl_g2_a.25, seed 4"]
    assert seen["overrides"] == ["log_every=3", "data.batch_size=2"]
    assert (seen["config"].log_every, seen["config"].data.batch_size, seen["config"].schedule.max_steps) == (3, 2, 9)
    assert seen["command"].startswith("detector loss-lab ablate --cells ce_pi.5")
