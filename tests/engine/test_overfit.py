"""The whole chain learns: a few images are learnt by heart, boxes included."""

import json
from pathlib import Path

import pytest

from detector.cli.evaluate import main as evaluate
from detector.engine.train import train
from tests.engine.tiny import read_rows, tiny_config


@pytest.mark.slow
def test_eight_images_are_learnt_by_heart(tmp_path: Path):
    config, origins = tiny_config(
        tmp_path,
        "data.short_side=[96]",
        "data.max_side=128",
        "model.fpn.channels=64",
        "model.head.num_convs=2",
        "model.head.norm=group",
        "optimizer.name=adamw",
        "optimizer.lr=0.001",
        "schedule.name=cosine",
        "schedule.max_steps=400",
        "schedule.warmup_steps=20",
        "eval.every=400",
        "checkpoint.every=400",
        "log_every=50",
    )
    train(config, origins)
    (evaluation,) = read_rows(Path(config.output_dir), "eval")
    assert evaluation["AP"] >= 0.9
    rows = read_rows(Path(config.output_dir), "train")
    assert rows[-1]["loss"] < 0.1 * rows[0]["loss"]
    assert_both_scorers_agree_on_its_detections(Path(config.output_dir), evaluation["AP"])


def assert_both_scorers_agree_on_its_detections(run: Path, expected: float) -> None:
    found = {}
    for scorer in ("hotcoco", "pycocotools"):
        out = run / f"{scorer}.json"
        line = ["--checkpoint", str(run / "checkpoints/last.pt"), "--metrics-out", str(out)]
        assert evaluate([*line, f"eval.scorer={scorer}"]) == 0
        found[scorer] = json.loads(out.read_text())
    assert found["hotcoco"] == found["pycocotools"]
    assert found["hotcoco"]["AP"] == expected
