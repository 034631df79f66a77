"""When a run is saved, and what is said of it: a full disk costs a checkpoint, not the run."""

import shlex
from types import TracebackType
from typing import Any, Self, TypeAlias

from detector.config_io import dump_config
from detector.engine.checkpoint_writer import CheckpointWriter, SaveOutcome
from detector.engine.run import Run
from detector.engine.run_folder import CHECKPOINTS
from detector.errors import UserError
from detector.telemetry import WarningRow

Snapshot: TypeAlias = dict[str, Any]
"""Content of a checkpoint, copied to host memory; valid until the next one is taken."""


class RunSaver:
    """Saves a run; on the main process, the others do nothing. Leaving it waits for the file that is being written.

    Args:
        run: what is saved.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._best_on_disk = (run.state.best_ap, run.state.best_step)
        self._error = ""
        self._begun_step = 0
        self._writer: CheckpointWriter | None = None
        if run.processes.is_main:
            self._writer = CheckpointWriter(
                run.output_dir / CHECKPOINTS, keep=run.config.checkpoint.keep, report=self._report
            )

    def save(self) -> None:
        """Begin to save the run as it is, unless this step has been; it is written while training goes on."""
        if self._begun_step == self._run.state.step:
            return
        if (snapshot := self.snapshot()) is not None:
            self.write(snapshot, is_best=False)

    def snapshot(self) -> Snapshot | None:
        """Return a copy of the run as it is; None on the processes that save nothing."""
        run = self._run
        self.tell_skipped_step()
        if self._writer is None:
            return None
        content = run.state.to_checkpoint(dump_config(run.config), run.evaluator.categories)
        content |= {"guard": run.stepper.guard.state_dict(), "provenance": dict(run.provenance)}
        return self._writer.copy(content)

    def write(self, snapshot: Snapshot, *, is_best: bool) -> None:
        """Begin to write the last snapshot, with the best AP so far as it is known by now; on the main process."""
        run, step = self._run, snapshot["step"]
        self._begun_step = step
        assert self._writer is not None
        try:
            run.recorder.flush()  # rows up to this step lie on the disk before the checkpoint does
        except OSError as error:
            text = f"step {step} is not saved, as the rows before it are not: {error.strerror or error}"
            self._report(SaveOutcome(step, is_best, error=text))
            return
        best = {"ap": run.state.best_ap, "step": run.state.best_step}
        self._writer.write(snapshot | {"best": best}, step=step, is_best=is_best)

    def tell_skipped_step(self) -> None:
        """Read the verdict on the last step, before a checkpoint forgets that there was one; in all processes."""
        if (message := self._run.stepper.guard.read()) is not None:
            self._run.recorder.warn(message)

    def poll(self) -> None:
        """Tell of a file that has been written in the meantime."""
        if self._writer is not None:
            self._writer.poll()

    def finish(self) -> None:
        """Wait for the file that is being written and tell of it."""
        if self._writer is not None:
            self._writer.finish()

    def require_saved(self) -> None:
        """Wait for the last file, at the end of a run, in all processes.

        A launcher that sees one process end begins to end the others, so none ends while the main one is writing.

        Raises:
            UserError: it could not be written; in all processes.
        """
        self.finish()
        if error := self._run.processes.broadcast(self._error):
            raise UserError(f"{error}; the run ends here without it. The checkpoints before it are intact")

    def __enter__(self) -> Self:
        """Return the saver itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait for the file that is being written."""
        if self._writer is not None:
            self._writer.close()

    def _report(self, outcome: SaveOutcome) -> None:
        run, self._error = self._run, outcome.error
        if outcome.path is not None:
            if outcome.is_best:
                self._best_on_disk = outcome.best
            run.recorder.note(f"saved {outcome.path}{' (best so far)' if outcome.is_best else ''}")
            return
        if outcome.is_best:  # the next evaluation that beats what is on the disk is saved
            run.state.best_ap, run.state.best_step = self._best_on_disk
        text = (
            f"{outcome.error}; training goes on, the checkpoints before it are intact, the next one is tried when due"
        )
        run.recorder.warning_row(WarningRow(step=run.state.step, name="checkpoint", text=text))


def how_to_continue(run: Run, reason: str) -> str:
    """Return what a run that was stopped says last."""
    config_file = shlex.quote(str(run.output_dir / "config.yaml"))
    num_processes = run.processes.num_processes
    launcher = "detector train" if num_processes == 1 else "torchrun ... -m detector.cli.main train"
    same = "" if num_processes == 1 else f" in {num_processes} processes"
    return (
        f"stopped by {reason} after step {run.state.step}; everything is saved. Continue{same} with: {launcher} "
        f"--config {config_file} --resume"
    )
