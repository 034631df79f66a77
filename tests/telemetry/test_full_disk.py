"""Rows on a disk that is full for a while."""

import errno
import json
import os
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from detector.errors import UserError
from detector.telemetry import RunRecorder, tensorboard
from detector.telemetry.jsonl import MetricsFile
from detector.telemetry.tensorboard import EventFiles
from tests.telemetry.sample_rows import train_row

Usage = namedtuple("Usage", "free")


class Disk:
    """A file on a disk with room for some more bytes."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def write(self, data: memoryview) -> int:
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken: int = self.file.write(data[: self.room])
        self.room -= taken
        return taken

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def test_rows_wait_for_room_and_the_file_never_has_half_a_row(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path)
    metrics.write({"step": 1})
    disk = Disk(metrics._file, room=5)
    metrics._file = disk  # type: ignore[assignment]
    metrics.write({"step": 2})
    metrics.write({"step": 3})
    assert metrics.is_behind
    assert path.read_text() == '{"step": 1}\n'
    with pytest.raises(OSError, match="No space left"):
        metrics.flush()
    disk.room = 10**6
    metrics.write({"step": 4})
    assert not metrics.is_behind
    metrics.flush()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3, 4]
    disk.room = 0
    metrics.write({"step": 5})
    with pytest.raises(OSError, match="No space left"):
        metrics.close()
    metrics.close()


def test_rows_that_find_no_room_do_not_hide_the_error_that_ends_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = RunRecorder(tmp_path, max_steps=6)
    assert recorder._sinks is not None
    disk = Disk(recorder._sinks.metrics._file, room=5)
    monkeypatch.setattr(recorder._sinks.metrics, "_file", disk)
    with pytest.raises(UserError, match="the checkpoint"), recorder:  # noqa: PT012
        recorder.train_row(train_row(2))
        raise UserError("the checkpoint cannot be written")


def test_rows_that_are_lost_at_the_end_are_an_error_that_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = RunRecorder(tmp_path, max_steps=6)
    assert recorder._sinks is not None
    monkeypatch.setattr(recorder._sinks.metrics, "_file", Disk(recorder._sinks.metrics._file, room=5))
    with pytest.raises(OSError, match="No space left") as caught, recorder:
        recorder.train_row(train_row(2))
    assert caught.value.filename == str(tmp_path / "metrics.jsonl")


def test_tensorboard_goes_on_in_a_new_file_when_there_is_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = EventFiles(tmp_path)
    events.write_train({"kind": "train", "step": 1, "loss": 1.0})
    with monkeypatch.context() as patch:
        patch.setattr(tensorboard.shutil, "disk_usage", lambda _: Usage(free=0))
        events.write_train({"kind": "train", "step": 2, "loss": 2.0})
    assert events.num_missed == 1
    events.write_train({"kind": "train", "step": 3, "loss": 3.0})
    events.close()
    accumulator = EventAccumulator(str(tmp_path))
    accumulator.Reload()
    assert [event.step for event in accumulator.Scalars("train/loss")] == [1, 3]
