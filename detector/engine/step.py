"""One optimiser step: assignment, forward, losses, backward, and the update that a non-finite step does not make.

Letters: N images, R anchors, K classes.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from detector.criterion import Criterion, Losses
from detector.engine.device import ResolvedPrecision
from detector.engine.forward import forward
from detector.engine.guard import BatchNormSnapshot, NonfiniteGuard
from detector.engine.matcher import Matcher
from detector.engine.optimizer import masked_step
from detector.engine.processes import Processes
from detector.engine.sanity import expected_initial_cls_loss
from detector.engine.state import TrainState
from detector.models import RetinaNet
from detector.structures import BACKGROUND, AnchorTargets, Batch
from detector.telemetry import StepTotals


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step leaves behind.

    Attributes:
        totals: losses, split and counts of the whole step, on the device.
        message: if the step *before* this one was skipped, why.
    """

    totals: StepTotals
    message: str | None


class Stepper:
    """Makes optimiser steps.

    Args:
        state: what the steps move.
        matcher: anchors and targets.
        criterion: losses.
        precision: arithmetic of the network.
        processes: who shares the step.
        clip_grad_norm: largest gradient norm; None = no limit.
    """

    def __init__(
        self,
        state: TrainState,
        matcher: Matcher,
        criterion: Criterion,
        *,
        precision: ResolvedPrecision = "fp32",
        processes: Processes | None = None,
        clip_grad_norm: float | None = None,
    ) -> None:
        self.state = state
        self.matcher = matcher
        self.criterion = criterion
        self.precision = precision
        self.processes = processes or Processes()
        self.clip_grad_norm = clip_grad_norm
        self.guard = NonfiniteGuard(self.processes, ignore_gradients=state.scaler is not None)
        self._parameters = [parameter for parameter in state.model.parameters() if parameter.requires_grad]
        self._batch_norm = BatchNormSnapshot(state.model)
        self._network = _wrap(state.model, self.processes)

    def __call__(self, batches: Sequence[Batch]) -> StepResult:
        """Make one step from the micro-batches of this process, already on the device."""
        state = self.state
        # Assignment needs no network output: every foreground anchor of the step is known before the first forward.
        matched = [self.matcher(batch) for batch in batches]
        counts = self.processes.sum(_count_anchors([targets for _, targets in matched]))
        num_images = sum(len(batch.images) for batch in batches) * self.processes.num_processes

        self._batch_norm.take()
        state.optimizer.zero_grad(set_to_none=True)
        losses: Losses | None = None
        for idx, (batch, (anchors, targets)) in enumerate(zip(batches, matched, strict=True)):
            normalizer = state.normalizer(targets.num_foreground, counts[0], num_images)
            with self._synchronised(is_last=idx == len(batches) - 1):
                part = self._forward_backward(batch, anchors, targets, normalizer)
            losses = part if losses is None else losses + part
        assert losses is not None
        losses = self._over_processes(losses)

        if state.scaler is not None:
            state.scaler.unscale_(state.optimizer)
        grad_norm = torch.nn.utils.get_total_norm([p.grad for p in self._parameters if p.grad is not None])
        image_ids = [image_id for batch in batches for image_id in batch.image_ids]
        ok, message = self.guard.watch(state.step + 1, losses.total, grad_norm, image_ids)
        self._update(ok, grad_norm)
        state.normalizer.update(counts[0], num_images, ok)
        return StepResult(_totals(losses, counts, grad_norm), message)

    def expected_first_loss(self, batches: Sequence[Batch], *, prior: float) -> Tensor:
        """Return the class loss that theory gives for the first step on these micro-batches; 0-dim, no forward pass."""
        matched = [self.matcher(batch)[1] for batch in batches]
        counts = self.processes.sum(_count_anchors(matched))
        num_images = sum(len(batch.images) for batch in batches) * self.processes.num_processes
        parts = [
            expected_initial_cls_loss(
                targets.num_foreground,
                (targets.target_labels == BACKGROUND).sum(dim=1),
                self.state.normalizer(targets.num_foreground, counts[0], num_images),
                num_classes=self.state.model.num_classes,
                prior=prior,
                alpha=self.criterion.alpha,
                gamma=self.criterion.gamma,
            )
            for targets in matched
        ]
        return self.processes.sum(torch.stack(parts).sum())

    def _forward_backward(self, batch: Batch, anchors: Tensor, targets: AnchorTargets, normalizer: Tensor) -> Losses:
        outputs = forward(self._network, batch.images, batch.sizes, self.precision)
        losses = self.criterion(outputs, targets, anchors, normalizer)
        # DDP averages gradients over processes; the normaliser is already that of all of them.
        total = losses.total * self.processes.num_processes
        (total if self.state.scaler is None else self.state.scaler.scale(total)).backward()
        return losses.detach()

    def _update(self, ok: Tensor, grad_norm: Tensor) -> None:
        if self.clip_grad_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self._parameters, self.clip_grad_norm, grad_norm)
        masked_step(self.state.optimizer, ok)
        if self.state.scaler is not None:
            self.state.scaler.update()
        self._batch_norm.restore_unless(ok)
        if self.state.ema is not None:
            self.state.ema.update(self.state.model, ok)

    def _synchronised(self, *, is_last: bool) -> AbstractContextManager[object]:
        """Return the context of one micro-batch: processes exchange gradients with the last one only."""
        if is_last or not isinstance(self._network, DistributedDataParallel):
            return nullcontext()
        return self._network.no_sync()

    def _over_processes(self, losses: Losses) -> Losses:
        if self.processes.num_processes == 1:
            return losses
        parts = (losses.total, losses.loss_cls, losses.loss_box, losses.loss_cls_fg, losses.loss_cls_bg)
        return Losses(*self.processes.sum(torch.stack(parts)).unbind())


def _wrap(model: RetinaNet, processes: Processes) -> nn.Module:
    if processes.num_processes == 1:
        return model
    # Buffers are the same everywhere (frozen, group, sync), or brought together before an evaluation (batch).
    return DistributedDataParallel(model, gradient_as_bucket_view=True, broadcast_buffers=False)


def _count_anchors(targets: Sequence[AnchorTargets]) -> Tensor:
    """Return [3] int64: foreground, background and ignored anchors of all micro-batches."""
    counts = []
    for target in targets:
        labels = target.target_labels
        num_foreground, num_background = (labels >= 0).sum(), (labels == BACKGROUND).sum()
        counts.append(torch.stack((num_foreground, num_background, labels.numel() - num_foreground - num_background)))
    return torch.stack(counts).sum(dim=0)


def _totals(losses: Losses, counts: Tensor, grad_norm: Tensor) -> StepTotals:
    num_foreground, num_background, num_ignored = counts.unbind()
    return StepTotals(
        loss=losses.total,
        loss_cls=losses.loss_cls,
        loss_box=losses.loss_box,
        loss_cls_fg=losses.loss_cls_fg,
        loss_cls_bg=losses.loss_cls_bg,
        num_foreground=num_foreground,
        num_background=num_background,
        num_ignored=num_ignored,
        grad_norm=grad_norm,
    )
