"""The five commands of docs/own_dataset.md lead from a folder of photos to predictions, run as they are written."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from detector.cli import make_demo

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "own_dataset.md"

# Minutes become seconds with these; everything else stays as the page says.
SHORT = ["schedule.max_steps=4", "data.short_side=[96]", "eval.short_side=96", "model.fpn.channels=16", "log_every=1"]


def five_commands() -> list[list[str]]:
    first = re.search(r"^```bash\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert first is not None
    return [shlex.split(line) for line in first[1].splitlines()]


def detector(arguments: list[str], folder: Path) -> str:
    words = [sys.executable, "-m", "detector.cli.main", *arguments]
    result = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def test_the_page_has_five_commands() -> None:
    words = [command[:2] for command in five_commands()]
    names = ["check-dataset", "fit-anchors", "show-batch", "train", "predict"]
    assert words == [["detector", name] for name in names]


@pytest.mark.slow
def test_the_five_commands_lead_from_photos_to_predictions(tmp_path: Path) -> None:
    assert make_demo.main(["--output", str(tmp_path / "demo"), "--num-train", "16", "--num-val", "2"]) == 0
    demo = ["demo/annotations/train.json", "--images", "demo/train"]
    detector(["convert-dataset", *demo, "--to", "voc", "--output", "data/mine"], tmp_path)
    shutil.copytree(tmp_path / "demo" / "val", tmp_path / "data" / "new")
    printed = {}
    for _, name, *arguments in five_commands():
        printed[name] = detector([name, *arguments, *(SHORT if name == "train" else [])], tmp_path)

    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert (tmp_path / "anchors" / "anchors.png").is_file()
    assert list((tmp_path / "batches").glob("**/*.jpg")) + list((tmp_path / "batches").glob("**/*.png"))
    assert "optimizer.lr = auto: 0.000707" in printed["train"]
    assert "train: all 13 image files are there" in printed["train"]  # 16, less the held-out fifth
    assert "val: all 3 image files are there" in printed["train"]
    row = json.loads((tmp_path / "runs/retina_small/metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert row["kind"] == "eval"
    pictures = sorted(path.name for path in (tmp_path / "predictions").rglob("*.jpg"))
    assert len(pictures) == 2
