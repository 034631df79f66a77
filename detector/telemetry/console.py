"""The console of a run: lines of text, and a progress bar below them where the output is a terminal."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

BAR_SECONDS = 0.2
"""Shortest time between two redraws of the bar."""

LINE_SECONDS = 30.0
"""Time between two progress lines where there is no bar."""


class RunConsole:
    """Prints lines; on a terminal above a progress bar (rich), elsewhere plainly and flushed.

    Nothing is drawn from a background thread: a data-loader process forked while such a thread holds the console's
    lock could wait for it forever.

    Args:
        progress: draw progress bars; None: where the output is a terminal.
        console: where to print; None for standard output.
    """

    def __init__(self, *, progress: bool | None = None, console: Console | None = None) -> None:
        # Decided by the stream alone: rich would also take FORCE_COLOR in a log file for a terminal.
        self._console = console or Console(force_terminal=sys.stdout.isatty())
        self._has_bar = self._console.is_interactive if progress is None else progress
        self._bar: Progress | None = None
        self._main_task: TaskID | None = None
        self._last_shown = -BAR_SECONDS

    def print(self, text: str, *, style: str = "") -> None:
        """Print ``text`` as it is (no markup, no wrapping), above the bar if there is one."""
        encoding = self._console.encoding
        # A class name that the terminal cannot show must not end a run.
        text = text.encode(encoding, "backslashreplace").decode(encoding)
        if self._has_bar:
            self._console.print(Text(text, style), highlight=False, soft_wrap=True)
        else:
            print(text, file=self._console.file, flush=True)

    def warn(self, text: str) -> None:
        """Print a warning."""
        self.print(f"warning: {text}", style="yellow")

    def show_step(self, step: int, max_steps: int, *, detail: str) -> None:
        """Move the run's bar to ``step`` of ``max_steps``, with ``detail`` beside it; without a bar nothing happens."""
        is_due = step == max_steps or time.monotonic() - self._last_shown >= BAR_SECONDS
        if not self._has_bar or not is_due:
            return
        self._last_shown = time.monotonic()
        bar = self._started_bar()
        if self._main_task is None:
            self._main_task = bar.add_task("train", total=max_steps, detail=detail)
        bar.update(self._main_task, completed=step, total=max_steps, detail=detail, refresh=True)

    @contextmanager
    def progress(self, description: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show the progress of a shorter job, such as an evaluation: a bar, or a line every 30 seconds.

        Args:
            description: what is done, for example ``evaluating``.
            total: units of work.

        Yields:
            A function to call with the number of units done since its last call.
        """
        done, last_shown = 0, time.monotonic()
        task = self._started_bar().add_task(description, total=total, detail="") if self._has_bar else None

        def advance(amount: int) -> None:
            nonlocal done, last_shown
            done += amount
            is_due = time.monotonic() - last_shown >= (LINE_SECONDS if task is None else BAR_SECONDS)
            if not is_due:
                return
            last_shown = time.monotonic()
            if task is None:
                self.print(f"{description} {done}/{total}")
            else:
                self._started_bar().update(task, completed=done, refresh=True)

        try:
            yield advance
        finally:
            if task is not None:
                self._remove_task(task)

    def close(self) -> None:
        """Remove the bar and give the terminal back; closing twice is fine, and a later line is still printed."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._main_task = None

    def __enter__(self) -> Self:
        """Return the console itself."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close the console."""
        self.close()

    def _started_bar(self) -> Progress:
        if self._bar is None:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[detail]}", markup=False),
                console=self._console,
                auto_refresh=False,
                transient=True,  # the lines say all; a finished bar would only stand between them
            )
            self._bar.start()
        return self._bar

    def _remove_task(self, task: TaskID) -> None:
        if self._bar is None:
            return
        self._bar.remove_task(task)
        if self._bar.tasks:
            self._bar.refresh()
        else:
            self.close()
