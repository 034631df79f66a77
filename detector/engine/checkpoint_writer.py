"""Checkpoints written beside training: the training thread copies to host memory, another one hashes and writes."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detector.engine.checkpoint_files import save_checkpoint
from detector.engine.host_copy import HostCopier
from detector.errors import UserError


@dataclass(frozen=True, slots=True)
class SaveOutcome:
    """What became of a checkpoint.

    Attributes:
        step: optimiser steps done.
        is_best: whether it was the best so far.
        best: highest AP so far and its step, as the checkpoint has them.
        path: its file; None if it could not be written.
        error: why not, in plain words; empty if it was.
    """

    step: int
    is_best: bool
    best: tuple[float | None, int] = (None, 0)
    path: Path | None = None
    error: str = ""


class CheckpointWriter:
    """Writes one checkpoint at a time in a thread. Use it as a context manager: leaving waits for the last one.

    Args:
        folder: ``checkpoints`` of the run folder.
        keep: how many ``step-*.pt`` files stay.
        report: told what became of each, on the training thread: when the next is begun, or by :meth:`poll` and
            :meth:`finish`.
    """

    def __init__(self, folder: Path, *, keep: int, report: Callable[[SaveOutcome], None]) -> None:
        self._folder = folder
        self._keep = keep
        self._report = report
        self._copy_to_host = HostCopier()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[SaveOutcome] | None = None

    def begin(self, content: Mapping[str, Any], *, step: int, is_best: bool) -> None:
        """Copy the content and begin to write it, when the one before is written."""
        self.write(self.copy(content), step=step, is_best=is_best)

    def copy(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """Return a copy of the content in host memory, for :meth:`write`, valid until the next one is made."""
        self.finish()  # its copy is in the memory that is about to be overwritten
        copy: dict[str, Any] = self._copy_to_host(dict(content))
        return copy

    def write(self, copy: Mapping[str, Any], *, step: int, is_best: bool) -> None:
        """Begin to write the last copy."""
        self.finish()
        self._pending = self._thread.submit(self._save, copy, step, is_best)

    def poll(self) -> None:
        """Report the checkpoint that is being written if it is done; cheap enough for every step."""
        if self._pending is not None and self._pending.done():
            self.finish()

    def finish(self) -> None:
        """Wait for the checkpoint that is being written, and report it."""
        pending, self._pending = self._pending, None
        if pending is not None:
            self._report(pending.result())

    def close(self) -> None:
        """Wait for the checkpoint that is being written and end the thread; closing twice is fine."""
        try:
            self.finish()
        finally:
            self._thread.shutdown()

    def _save(self, content: Mapping[str, Any], step: int, is_best: bool) -> SaveOutcome:
        best = (content["best"]["ap"], content["best"]["step"])
        try:
            path = save_checkpoint(self._folder, content, step=step, is_best=is_best, keep=self._keep)
        except UserError as error:
            return SaveOutcome(step, is_best, error=str(error))
        return SaveOutcome(step, is_best, best, path)
