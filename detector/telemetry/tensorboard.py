"""TensorBoard event files: the same numbers as ``metrics.jsonl``, with pictures, figures and histograms."""

import errno
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

from detector.config import FINEST_LEVEL
from detector.telemetry.event_truncation import truncate_events
from detector.telemetry.full_disk import is_full_disk, suppress_full_disk
from detector.telemetry.json_values import JsonRow
from detector.telemetry.rows import CLASS_PREFIX, LEVEL_PREFIX, EvalRow, WarningRow, number_lists, scalars

NUM_SCORE_BINS = 50
"""Bins of the score histogram over [0, 1]; TensorBoard's own exponential bins put all scores above 0.5 in seven."""

MAX_CLASS_TAGS = 100
"""With more classes there are no tags by class: nobody looks through them, and TensorBoard would be slow. They are in
``metrics.jsonl``."""


MIN_FREE_BYTES = 2**20
"""Below this a row is not tried: SummaryWriter's thread would end with a traceback on the terminal."""


class EventFiles:
    """Writes rows with the global step into a new event file.

    Tags are ``train/<name>`` and ``eval/<name>``; numbers by pyramid level stand under ``train_levels/<name>/P3``,
    numbers by class under ``train_classes/<name>/<class name>``, where the name is that of the row without ``level_``
    and ``class_``.

    Args:
        log_dir: folder of the event files.
        start_step: optimiser steps already done. Older files are cut after this step (with 0: removed), because the
            run writes the rest again; a TensorBoard that has read them is told to forget it.
        class_names: by label; more than ``MAX_CLASS_TAGS``, or none, for no tags by class.
    """

    def __init__(self, log_dir: Path, *, start_step: int = 0, class_names: Sequence[str] = ()) -> None:
        truncate_events(log_dir, start_step)
        self._log_dir = log_dir
        # An event at purge_step itself is purged: the first step that will be written again.
        purge_step = start_step + 1 if start_step > 0 else 0
        self._open_writer: SummaryWriter | None = SummaryWriter(str(log_dir), purge_step=purge_step)
        self.num_missed = 0
        """Rows that found no room on the disk, and are missing here."""
        self._class_names = tuple(class_names) if len(class_names) <= MAX_CLASS_TAGS else ()

    def write_train(self, row: JsonRow) -> None:
        """Write the numbers of a train row; None becomes NaN."""
        self._unless_full(lambda: self._write_numbers(row, "train"))

    def write_eval(self, row: EvalRow) -> None:
        """Write an evaluation: numbers, AP per class, pictures, figures and the histogram of scores."""
        self._unless_full(lambda: self._write_evaluation(row))

    def write_warning(self, row: WarningRow) -> None:
        """Write a warning as text, under the tag ``warnings``."""
        self._unless_full(lambda: self._writer.add_text("warnings", row.text, row.step))

    def close(self) -> None:
        """Close the event file; closing twice is fine."""
        with suppress_full_disk():
            if self._open_writer is not None:
                self._open_writer.close()

    @property
    def _writer(self) -> SummaryWriter:
        if self._open_writer is None:
            self._open_writer = SummaryWriter(str(self._log_dir))
        return self._open_writer

    def _unless_full(self, write: Callable[[], None]) -> None:
        """Write a row and bring it to the file; on a full disk it is missing, and a later row begins a new file."""
        try:
            if shutil.disk_usage(self._log_dir).free < MIN_FREE_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            write()
            self._writer.flush()
        except OSError as error:
            if not is_full_disk(error):
                raise
            self.num_missed += 1
            self.close()
            self._open_writer = None

    def _write_evaluation(self, row: EvalRow) -> None:
        writer = self._writer
        self._write_numbers(row.to_json(), "eval")
        self._write_scalars({f"eval_per_class/{name}": value for name, value in row.per_class.items()}, row.step)
        for i, picture in enumerate(row.pictures):
            writer.add_image(f"eval/pictures/{i}", picture, row.step, dataformats="HWC")
        for name, figure in row.figures.items():
            writer.add_image(f"eval/figures/{name}", figure, row.step, dataformats="HWC")
        if row.scores is not None and row.scores.size > 0:  # SummaryWriter refuses an empty histogram
            bins = np.linspace(0.0, 1.0, NUM_SCORE_BINS + 1)
            writer.add_histogram("eval/scores", row.scores, row.step, bins=bins)

    def _write_numbers(self, row: JsonRow, kind: str) -> None:
        values = {f"{kind}/{name}": value for name, value in scalars(row).items()}
        for name, numbers in number_lists(row, LEVEL_PREFIX).items():
            values |= {f"{kind}_levels/{name}/P{FINEST_LEVEL + idx}": number for idx, number in enumerate(numbers)}
        if self._class_names:
            for name, numbers in number_lists(row, CLASS_PREFIX).items():
                pairs = zip(self._class_names, numbers, strict=False)  # a row without detail has none by class
                values |= {f"{kind}_classes/{name}/{class_name}": number for class_name, number in pairs}
        self._write_scalars(values, _step(row))

    def _write_scalars(self, values: Mapping[str, float], step: int) -> None:
        # All in one event: add_scalar writes one for each, which for the 365 numbers of 80 classes takes 14 ms
        # instead of 2.
        finite = {tag: value if np.isfinite(value) else np.nan for tag, value in values.items()}
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in finite.items()])
        writer = self._writer.file_writer
        assert writer is not None  # it is there until the event file is closed
        writer.add_summary(summary, step)


def _step(row: JsonRow) -> int:
    step = row["step"]
    assert isinstance(step, int)
    return step
