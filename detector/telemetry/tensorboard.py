"""TensorBoard event files: the same numbers as ``metrics.jsonl``, with pictures and histograms."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from detector.telemetry.rows import EvalRow, JsonRow, scalars

NUM_SCORE_BINS = 50
"""Bins of the score histogram over [0, 1]; TensorBoard's own exponential bins put all scores above 0.5 in seven."""


class EventFiles:
    """Writes rows under the tags ``train/<name>`` and ``eval/<name>``, with the global step, into a new event file.

    Args:
        log_dir: folder of the event files.
        start_step: optimiser steps already done. Older files stay, but TensorBoard hides their events after this step
            (with 0: all), because the run writes them again.
    """

    def __init__(self, log_dir: Path, *, start_step: int = 0) -> None:
        # An event at purge_step itself is purged: the first step that will be written again.
        purge_step = start_step + 1 if start_step > 0 else 0
        self._writer = SummaryWriter(str(log_dir), purge_step=purge_step)

    def write_train(self, row: JsonRow) -> None:
        """Write the numbers of a train row; None becomes NaN."""
        self._write_scalars("train", scalars(row), step=_step(row))
        self._writer.flush()

    def write_eval(self, row: EvalRow) -> None:
        """Write an evaluation: numbers, AP per class, pictures and the histogram of scores."""
        self._write_scalars("eval", scalars(row.to_json()), step=row.step)
        self._write_scalars("eval_per_class", row.per_class, step=row.step)
        for i, picture in enumerate(row.pictures):
            self._writer.add_image(f"eval/pictures/{i}", picture, row.step, dataformats="HWC")
        if row.scores is not None and row.scores.size > 0:  # SummaryWriter refuses an empty histogram
            bins = np.linspace(0.0, 1.0, NUM_SCORE_BINS + 1)
            self._writer.add_histogram("eval/scores", row.scores, row.step, bins=bins)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file; closing twice is fine."""
        self._writer.close()

    def _write_scalars(self, prefix: str, values: Mapping[str, float], *, step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(f"{prefix}/{name}", value if np.isfinite(value) else np.nan, step)


def _step(row: JsonRow) -> int:
    step = row["step"]
    assert isinstance(step, int)
    return step
