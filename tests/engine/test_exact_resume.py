"""A run that is killed and continued is the run that was never killed, to the last bit: real processes on the CPU."""

from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from detector.engine.checkpoint import load_checkpoint
from tests.engine.ranks import Launch, Ranks
from tests.engine.tiny import make_dataset, read_rows, without_times, write_config

KILLED = -9
STATE = ("step", "model", "ema", "optimizer", "normalizer", "best", "guard", "evaluation_due")


@pytest.fixture
def line(tmp_path: Path) -> list[str]:
    recipe = write_config(tmp_path, make_dataset(tmp_path / "data", num_images=12))
    return [
        "--config", str(recipe), "schedule.max_steps=6", "schedule.milestones=[5]",
        "eval.every=3", "eval.num_pictures=0", "ema.decay=0.9", "loss.normalizer=ema", "optimizer.lr=0.05",
        "eval.score_thresh=0.005",
    ]  # fmt: skip


def assert_same_run(folder: Path, expected: Path) -> None:
    """See that weights, state, rows and TensorBoard's scalars are those of another run, to the last bit."""
    contents = [load_checkpoint(run / "checkpoints/last.pt") for run in (folder, expected)]
    for key in STATE:
        torch.testing.assert_close(contents[0][key], contents[1][key], rtol=0, atol=0, msg=key)
    assert without_times(read_rows(folder)) == without_times(read_rows(expected))
    assert scalars(folder) == scalars(expected)


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}, purge_orphaned_data=False)
    events.Reload()
    timed = {"train/data_seconds", "train/step_seconds", "train/images_per_second"}
    return {
        tag: [(event.step, repr(event.value)) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
        if tag not in timed
    }


@pytest.mark.slow
@pytest.mark.parametrize(("num_ranks", "batch_size"), [(1, 2), (3, 6)])
def test_a_killed_run_continues_exactly(
    line: list[str], tmp_path: Path, ranks: Ranks, num_ranks: int, batch_size: int
) -> None:
    line = [*line, f"data.batch_size={batch_size}", "data.images_per_forward=1"]  # two micro-batches a step
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options = ["--resume", f"output_dir={parts}"]
    codes = ranks.run([
        Launch(num_ranks, [*line, f"output_dir={whole}"]),
        Launch(num_ranks, [*line, *options], kill_at=3, run_folder=str(parts)),
        Launch(num_ranks, [*line, *options, "data.num_workers=1"]),
    ])  # fmt: skip
    assert codes == [[0] * num_ranks, [KILLED] * num_ranks, [0] * num_ranks]
    assert_same_run(parts, whole)


@pytest.mark.slow
def test_another_number_of_processes_continues_within_rounding(line: list[str], tmp_path: Path, ranks: Ranks) -> None:
    line = [*line, "data.batch_size=6", "eval.every=6"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options = ["--resume", f"output_dir={parts}"]
    codes = ranks.run([
        Launch(1, [*line, f"output_dir={whole}"]),
        Launch(2, [*line, *options], stop_at=3, run_folder=str(parts)),
        Launch(1, [*line, *options]),
    ])  # fmt: skip
    assert codes == [[0], [75, 75], [0]]  # one of two processes was told to stop
    for row, other in zip(read_rows(parts, "train"), read_rows(whole, "train"), strict=True):
        assert row["num_gt"] == other["num_gt"]
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-4)
