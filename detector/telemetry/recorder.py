"""The one place that a finished row goes to: ``metrics.jsonl``, TensorBoard and the console get the same numbers."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console

from detector.telemetry.console import RunConsole
from detector.telemetry.full_disk import is_full_disk
from detector.telemetry.json_values import JsonRow
from detector.telemetry.jsonl import MetricsFile
from detector.telemetry.lines import format_duration, format_eval_line, format_train_line
from detector.telemetry.rows import EvalRow, TrainRow, WarningRow
from detector.telemetry.tensorboard import EventFiles

METRICS_FILE = "metrics.jsonl"
"""Name of the metrics file in the run folder."""

ETA_MOMENTUM = 0.7
"""Weight of the older rows in the step time that the ETA is made of; nothing else is smoothed."""


@dataclass(frozen=True, slots=True)
class _Sinks:
    metrics: MetricsFile
    events: EventFiles
    console: RunConsole


class RunRecorder:
    """Writes finished rows to all three places. Use it as a context manager, so that the terminal is given back.

    Rows that an earlier process wrote after ``start_step`` (all rows if it is 0) are removed from ``metrics.jsonl`` and
    hidden in TensorBoard at once, because this run writes them again: make it only when the checkpoint is loaded.

    Args:
        output_dir: run folder, made if missing.
        max_steps: optimiser steps of the whole run.
        start_step: optimiser steps already done.
        class_names: by label, for TensorBoard's tags.
        is_main: False in all processes but one: every method then does nothing.
        progress: draw a progress bar; None: where standard output is a terminal.
        console: where to print; None for standard output.

    Raises:
        OSError: a file cannot be written.
    """

    def __init__(
        self,
        output_dir: Path,
        *,
        max_steps: int,
        start_step: int = 0,
        class_names: Sequence[str] = (),
        is_main: bool = True,
        progress: bool | None = None,
        console: Console | None = None,
    ) -> None:
        self._max_steps = max_steps
        self._smoothed_step_seconds = math.nan
        self._eta = ""
        self._sinks: _Sinks | None = None
        self._is_full, self._num_missed = False, 0
        self._held: list[tuple[JsonRow, Callable[[], None]]] | None = None
        if not is_main:
            return
        output_dir.mkdir(parents=True, exist_ok=True)
        self._sinks = _Sinks(
            metrics=MetricsFile(output_dir / METRICS_FILE, start_step=start_step),
            events=EventFiles(output_dir, start_step=start_step, class_names=class_names),
            console=RunConsole(progress=progress, console=console),
        )
        if num_removed := self._sinks.metrics.num_removed:
            self.note(f"{METRICS_FILE}: removed {num_removed} lines after step {start_step}; they are written again")

    def train_row(self, row: TrainRow) -> None:
        """Record a train step."""
        if self._sinks is None:
            return
        json_row = row.to_json()
        self._to_files(json_row, partial(self._sinks.events.write_train, json_row))
        eta_seconds = self._eta_seconds(row)
        self._sinks.console.print(format_train_line(row, max_steps=self._max_steps, eta_seconds=eta_seconds))
        self._eta = f"eta {format_duration(eta_seconds)}"

    def step_done(self, step: int) -> None:
        """Move the progress bar, if there is one; cheap enough for every step."""
        if self._sinks is not None:
            self._sinks.console.show_step(step, self._max_steps, detail=self._eta)

    def eval_row(self, row: EvalRow) -> None:
        """Record an evaluation, before the rows that :meth:`hold_rows` holds; its full table is for :meth:`note`."""
        if self._sinks is None:
            return
        held, self._held = self._held, None
        self._to_files(row.to_json(), partial(self._sinks.events.write_eval, row))
        self._held = held
        self._release_rows()
        self._sinks.console.print(format_eval_line(row, max_steps=self._max_steps))

    def warning_row(self, row: WarningRow) -> None:
        """Record a warning that is to stay: beside the console, which :meth:`warn` is for, in the files too."""
        if self._sinks is None:
            return
        self._to_files(row.to_json(), partial(self._sinks.events.write_warning, row))
        self._sinks.console.warn(row.text)

    def hold_rows(self) -> None:
        """Keep rows out of the files until that of an evaluation which belongs before them, or until the end.

        The console has them at once.
        """
        self._held = []

    def note(self, text: str) -> None:
        """Print ``text``, one or more lines, on the console only."""
        if self._sinks is not None:
            self._sinks.console.print(text)

    def warn(self, text: str) -> None:
        """Print a warning on the console only."""
        if self._sinks is not None:
            self._sinks.console.warn(text)

    @contextmanager
    def progress(self, description: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show the progress of a shorter job; see :meth:`RunConsole.progress`."""
        if self._sinks is None:
            yield lambda amount: None
            return
        with self._sinks.console.progress(description, total) as advance:
            yield advance

    def flush(self) -> None:
        """Bring the rows to the disk.

        Raises:
            OSError: it is full.
        """
        if self._sinks is not None:
            self._sinks.metrics.flush()

    def close(self) -> None:
        """Close the files and give the terminal back; closing twice is fine.

        Raises:
            OSError: the disk is full, and rows of ``metrics.jsonl`` are lost.
        """
        if self._sinks is not None:
            self._release_rows()
            self._sinks.console.close()
            self._sinks.events.close()
            self._sinks.metrics.close()

    def __enter__(self) -> Self:
        """Return the recorder itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the recorder; rows that find no room on the disk do not hide an error that ends the run."""
        try:
            self.close()
        except OSError as full:
            if error is None or not is_full_disk(full):
                raise

    def _to_files(self, row: JsonRow, write_event: Callable[[], None]) -> None:
        """Write a row to ``metrics.jsonl`` and to TensorBoard, or hold it."""
        assert self._sinks is not None
        if self._held is not None:
            self._held.append((row, write_event))
            return
        self._sinks.metrics.write(row)
        write_event()
        self._tell_of_full_disk()

    def _release_rows(self) -> None:
        held, self._held = self._held or [], None
        for row, write_event in held:
            self._to_files(row, write_event)

    def _tell_of_full_disk(self) -> None:
        """Warn when rows begin to find no room on the disk, and say when they find it again."""
        assert self._sinks is not None
        metrics, num_missed = self._sinks.metrics, self._sinks.events.num_missed
        is_full = metrics.is_behind or num_missed > self._num_missed
        if is_full and not self._is_full:
            self.warn(f"the disk is full: rows of {METRICS_FILE} wait in memory for room, TensorBoard misses some")
        elif self._is_full and not is_full:
            self.note(f"the disk has room again: {METRICS_FILE} is complete, TensorBoard misses {num_missed} rows")
        self._is_full, self._num_missed = is_full, num_missed

    def _eta_seconds(self, row: TrainRow) -> float:
        if math.isfinite(row.step_seconds):
            older = self._smoothed_step_seconds if math.isfinite(self._smoothed_step_seconds) else row.step_seconds
            self._smoothed_step_seconds = ETA_MOMENTUM * older + (1 - ETA_MOMENTUM) * row.step_seconds
        return max(self._max_steps - row.step, 0) * self._smoothed_step_seconds
