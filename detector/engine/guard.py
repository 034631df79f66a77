"""Non-finite steps: noticed on the device at once, told to the user one step late."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from detector.engine.processes import Processes
from detector.errors import DivergedError

MAX_IN_A_ROW = 20
"""Non-finite steps in a row after which a run stops: nothing has moved since the first, so nothing will."""


WriteUp = Callable[[str], str]
"""Writes a step up: takes what is not finite, "loss" or "gradient", and returns a sentence with what it found."""


@dataclass(frozen=True, slots=True)
class _Pending:
    step: int
    flags: Tensor
    image_ids: tuple[int, ...]
    write_up: WriteUp | None
    ready: "torch.cuda.Event | None" = None


class NonfiniteGuard:
    """Reads each step's verdict when the next step has been launched, so that the GPU never waits for the host.

    Args:
        processes: who shares the steps; the images of all of them are named.
        ignore_gradients: True with a loss scaler, whose gradients overflow while it looks for its scale.

    Attributes:
        num_skipped: steps skipped so far, but for those overflows.
    """

    def __init__(self, processes: Processes | None = None, *, ignore_gradients: bool = False) -> None:
        self._processes = processes or Processes()
        self.num_skipped = 0
        self._in_a_row = 0
        self._first_in_row = ""
        self._ignore_gradients = ignore_gradients
        self._pending: _Pending | None = None

    def watch(
        self,
        step: int,
        loss: Tensor,
        grad_norm: Tensor,
        image_ids: Sequence[int],
        write_up: WriteUp | None = None,
    ) -> tuple[Tensor, str | None]:
        """Judge a step on the device, and read the verdict on the step before.

        Args:
            step: number of this step, from 1.
            loss: its loss, 0-dim.
            grad_norm: its gradient norm, 0-dim.
            image_ids: its images.
            write_up: called if it is skipped, before any later step has moved the weights.

        Returns:
            ``ok``, 0-dim bool on the device: whether the update may happen; and a message if the step before was
            skipped.

        Raises:
            DivergedError: after ``MAX_IN_A_ROW`` such steps.
        """
        message = self.read()
        flags = torch.stack((loss.detach().isfinite(), grad_norm.isfinite()))
        if flags.is_cuda:
            host = torch.empty(2, dtype=torch.bool, pin_memory=True).copy_(flags, non_blocking=True)
            ready = torch.cuda.Event()
            ready.record()
            self._pending = _Pending(step, host, tuple(image_ids), write_up, ready)
        else:
            self._pending = _Pending(step, flags, tuple(image_ids), write_up)
        return flags.all(), message

    def read(self) -> str | None:
        """Read the verdict that is pending, and return a message if that step was skipped."""
        pending, self._pending = self._pending, None
        if pending is None:
            return None
        if pending.ready is not None:
            pending.ready.synchronize()
        finite_loss, finite_gradients = pending.flags.tolist()
        if finite_loss and finite_gradients:
            self._in_a_row, self._first_in_row = 0, ""
            return None
        self._in_a_row += 1
        if finite_loss and self._ignore_gradients and self._in_a_row < MAX_IN_A_ROW:
            return None  # the scaler halves its scale; from 2^16 that can happen 16 times
        self.num_skipped += 1
        what = "gradient" if finite_loss else "loss"
        # Loss and gradient are those of all processes, so all of them come here, at the same step.
        image_ids = self._processes.gather_all(pending.image_ids)
        message = (
            f"step {pending.step}: the {what} is not finite; the step was skipped and nothing moved. "
            f"Image ids: {[image_id for ids in image_ids for image_id in ids]}"
        )
        if pending.write_up is not None:
            found = pending.write_up(what)
            message += f"\n{found}"
            if not self._first_in_row:
                self._first_in_row = f" The first of them: {found}."
        if self._in_a_row >= MAX_IN_A_ROW:
            raise DivergedError(
                f"{message}\nThis was step {self._in_a_row} in a row: training has diverged.{self._first_in_row} "
                "The last checkpoint is intact. Lower optimizer.lr, lengthen schedule.warmup_steps or set "
                "optimizer.clip_grad_norm"
            )
        return message

    def state_dict(self) -> dict[str, int]:
        """Return what a checkpoint keeps; the verdict that is pending is not in it, so read it before."""
        return {"num_skipped": self.num_skipped, "in_a_row": self._in_a_row}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Take over the state of a checkpoint."""
        self.num_skipped, self._in_a_row = state["num_skipped"], state["in_a_row"]


class BatchNormSnapshot:
    """Batch-norm statistics before a step, to be put back if the step is skipped: the forward pass moves them.

    Args:
        model: network; nothing is kept if it has no trained batch norm.
    """

    def __init__(self, model: nn.Module) -> None:
        self._buffers = [
            buffer
            for module in model.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm)
            for buffer in module.buffers()
        ]
        self._saved: list[Tensor] = []

    def take(self) -> None:
        """Keep the statistics as they are."""
        self._saved = [buffer.clone() for buffer in self._buffers]

    def restore_unless(self, ok: Tensor) -> None:
        """Put the kept statistics back unless ``ok`` (0-dim bool on the device) holds; the host does not read it."""
        for buffer, saved in zip(self._buffers, self._saved, strict=True):
            buffer.copy_(torch.where(ok, buffer, saved))
