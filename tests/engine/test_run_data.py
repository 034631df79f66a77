"""Every start looks at annotations and anchors, and says what it finds."""

import json
from pathlib import Path

import pytest
import torch

from detector.engine import device
from detector.engine.device import memory_format_for_training, place_for_training
from detector.engine.processes import Processes
from detector.engine.run_data import open_run_data
from detector.engine.train import train
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


@pytest.mark.parametrize(
    ("capability", "expected"),
    [("AVX2", torch.contiguous_format), ("AVX512", torch.channels_last), ("DEFAULT", torch.channels_last)],
)
def test_only_a_cpu_with_avx2_alone_trains_in_contiguous_memory(
    monkeypatch: pytest.MonkeyPatch, capability: str, expected: torch.memory_format
):
    monkeypatch.setattr(device.torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert memory_format_for_training(torch.device("cpu")) == expected
    assert memory_format_for_training(torch.device("meta")) == torch.channels_last
    model = place_for_training(torch.nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last), torch.device("cpu"))
    assert model.weight.is_contiguous(memory_format=expected)
