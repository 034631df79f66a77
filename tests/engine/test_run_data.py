"""Every start looks at annotations and anchors, and says what it finds."""

import json
from pathlib import Path

import pytest

from detector.engine.benchmark import host_memory
from detector.engine.processes import Processes
from detector.engine.run_data import open_run_data
from detector.engine.train import train
from detector.errors import UserError
from tests.engine.tiny import tiny_config


def test_the_start_says_what_the_anchors_reach_and_what_is_wrong_with_the_annotations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    config, origins = tiny_config(tmp_path, "schedule.max_steps=1")
    path = tmp_path / "data" / "annotations.json"
    content = json.loads(path.read_text())
    content["annotations"].append({**content["annotations"][0], "id": 99})
    path.write_text(json.dumps(content))
    train(config, origins)
    printed = capsys.readouterr().out
    assert "anchors: 100 % of 14 boxes have an anchor with IoU >= 0.5" in printed
    assert "warning: train: " in printed
    assert "annotations[13] (id 99, image id 100)" in printed
    assert "check-dataset" in printed


def test_one_process_speaks_for_all(tmp_path: Path):
    config, _ = tiny_config(tmp_path)
    data = open_run_data(config, Processes(rank=1, num_processes=2))
    assert (data.notes, data.warnings) == ((), ())
    assert data.images_per_epoch == 8


def test_the_memory_for_a_cache_is_looked_at_before_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config, _ = tiny_config(tmp_path, "data.cache=ram")
    for path in (tmp_path / "data").glob("**/*.png"):
        path.unlink()
    monkeypatch.setattr(host_memory, "available_memory", lambda: 1000)
    with pytest.raises(UserError, match=r"data\.cache: ram needs"):
        open_run_data(config, Processes())
