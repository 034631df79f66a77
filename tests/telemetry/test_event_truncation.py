from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from detector.telemetry.event_truncation import EVENT_FILES, truncate_events
from detector.telemetry.tensorboard import EventFiles


def write_steps(folder: Path, first: int, last: int, *, start_step: int = 0) -> Path:
    before = {*folder.glob(EVENT_FILES)}
    events = EventFiles(folder, start_step=start_step)
    for step in range(first, last + 1):
        events.write_train({"kind": "train", "step": step, "loss": float(step)})
    events.close()
    (new,) = {*folder.glob(EVENT_FILES)} - before
    return new


def steps_in(folder: Path) -> list[int]:
    """Return the steps that lie in the files, also those that TensorBoard would hide."""
    accumulator = EventAccumulator(str(folder), purge_orphaned_data=False)
    accumulator.Reload()
    return [event.step for event in accumulator.Scalars("train/loss")]


def test_events_after_the_step_are_cut_off(tmp_path: Path) -> None:
    path = write_steps(tmp_path, 1, 5)
    truncate_events(tmp_path, 3)
    assert steps_in(tmp_path) == [1, 2, 3]
    size = path.stat().st_size
    truncate_events(tmp_path, 3)
    assert path.stat().st_size == size


@pytest.mark.parametrize("is_length", [True, False])
def test_a_damaged_record_is_cut_off_with_what_follows(tmp_path: Path, is_length: bool) -> None:
    whole = write_steps(tmp_path / "whole", 1, 2).stat().st_size  # where the third step begins
    path = write_steps(tmp_path / "damaged", 1, 5)
    content = bytearray(path.read_bytes())
    start, num_bytes = (whole, 8) if is_length else (whole + 12, 4)
    content[start : start + num_bytes] = b"\xff" * num_bytes
    path.write_bytes(content)
    truncate_events(path.parent, 9)
    assert steps_in(path.parent) == [1, 2]


def test_a_torn_record_is_cut_off(tmp_path: Path) -> None:
    path = write_steps(tmp_path, 1, 4)
    for num_bytes in (3, 20):
        path.write_bytes(path.read_bytes()[:-num_bytes])
        truncate_events(tmp_path, 9)
        write_more = path.stat().st_size
        truncate_events(tmp_path, 9)
        assert path.stat().st_size == write_more
    assert steps_in(tmp_path) == [1, 2]


def test_a_run_that_starts_anew_has_no_older_events(tmp_path: Path) -> None:
    write_steps(tmp_path, 1, 2)
    (tmp_path / "notes.txt").write_text("mine")
    truncate_events(tmp_path, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_missing_folder_has_no_events(tmp_path: Path) -> None:
    truncate_events(tmp_path / "none", 3)
    assert not (tmp_path / "none").exists()
