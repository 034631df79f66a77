"""One optimiser step: assignment, forward, losses, backward, and the update that a non-finite step does not make.

Letters: N images, R anchors, K classes.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from detector.criterion import ClassDetail, Criterion, Losses
from detector.engine.compilation import CompileName, begin_step, compile_losses, compile_network
from detector.engine.device import ResolvedPrecision
from detector.engine.distributed import share_network
from detector.engine.forward import ConvolutionName, forward
from detector.engine.guard import BatchNormSnapshot, NonfiniteGuard
from detector.engine.matcher import Matcher
from detector.engine.nonfinite import NonfiniteReporter, StepRecord
from detector.engine.optimizer import masked_step
from detector.engine.processes import Processes
from detector.engine.sanity import expected_initial_cls_loss
from detector.engine.state import TrainState
from detector.models.heads import initial_cls_bias
from detector.structures import AnchorTargets, Batch
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
        convolution: how 3x3 convolutions are computed on a CPU, see :func:`detector.engine.forward.uses_winograd`.
        compilation: what runs as compiled graphs; convolutions are then the compiler's.
        cuda_graphs: replay those graphs in one launch each.
        processes: who shares the step.
        clip_grad_norm: largest gradient norm; None = no limit.
        reporter: writes up steps that are not finite; None = they are told in words only.
    """

    def __init__(
        self,
        state: TrainState,
        matcher: Matcher,
        criterion: Criterion,
        *,
        precision: ResolvedPrecision = "fp32",
        convolution: ConvolutionName = "auto",
        compilation: CompileName = "off",
        cuda_graphs: bool = False,
        processes: Processes | None = None,
        clip_grad_norm: float | None = None,
        reporter: NonfiniteReporter | None = None,
    ) -> None:
        self.state = state
        self.matcher = matcher
        self.criterion = criterion
        self.precision = precision
        self.convolution: ConvolutionName = convolution if compilation == "off" else "direct"
        self.cuda_graphs = cuda_graphs
        self.processes = processes or Processes()
        self.clip_grad_norm = clip_grad_norm
        self.reporter = reporter
        self.guard = NonfiniteGuard(self.processes, ignore_gradients=state.scaler is not None)
        self._parameters = [parameter for parameter in state.model.parameters() if parameter.requires_grad]
        self._batch_norm = BatchNormSnapshot(state.model)
        compiled = compile_network(state.model, compilation, cuda_graphs=cuda_graphs)
        self._network = share_network(compiled, self.processes, precision)
        self._compiled_losses = compile_losses(criterion, compilation)

    def __call__(self, batches: Sequence[Batch], *, detail: bool = False) -> StepResult:
        """Make one step from the micro-batches of this process, already on the device.

        Args:
            batches: the micro-batches.
            detail: also split the class loss by class, in more passes over the logits: for steps that are logged.
        """
        state = self.state
        # Assignment needs no network output: every foreground anchor of the step is known before the first forward.
        matched = [self.matcher(batch) for batch in batches]
        num_foreground, num_gt, num_unmatched_gt = self._counts(batches, [targets for _, targets in matched])
        num_images = sum(len(batch.images) for batch in batches) * self.processes.num_processes

        begin_step(len(batches), cuda_graphs=self.cuda_graphs)
        self._batch_norm.take()
        state.optimizer.zero_grad(set_to_none=True)
        sums: _Sums | None = None
        normalizers = []
        for idx, (batch, (anchors, targets)) in enumerate(zip(batches, matched, strict=True)):
            normalizer = state.normalizer(targets.num_foreground, num_foreground, num_images)
            normalizers.append(normalizer)
            with self._synchronised(is_last=idx == len(batches) - 1):
                part = self._forward_backward(batch, anchors, targets, normalizer, num_images, detail=detail)
            sums = part if sums is None else sums + part
        assert sums is not None
        sums = self._over_processes(sums)

        if state.scaler is not None:
            state.scaler.unscale_(state.optimizer)
        grad_norm = torch.nn.utils.get_total_norm([p.grad for p in self._parameters if p.grad is not None])
        ok, message = self._watch(batches, normalizers, sums.losses, grad_norm)
        self._update(ok, grad_norm)
        state.normalizer.update(num_foreground, num_images, ok)
        totals = StepTotals(
            losses=sums.losses,
            num_gt=num_gt,
            num_unmatched_gt=num_unmatched_gt,
            normalizer=sums.normalizer,
            grad_norm=grad_norm,
            detail=sums.detail,
        )
        return StepResult(totals, message)

    def _watch(
        self, batches: Sequence[Batch], normalizers: Sequence[Tensor], losses: Losses, grad_norm: Tensor
    ) -> tuple[Tensor, str | None]:
        """Have the guard judge this step; what it was made of is kept until its verdict is read, in the next one."""
        step, write_up = self.state.step + 1, None
        if self.reporter is not None:
            lr = self.state.optimizer.param_groups[0]["lr"]
            write_up = partial(self.reporter, StepRecord(step, batches, normalizers, losses, grad_norm, lr))
        image_ids = [image_id for batch in batches for image_id in batch.image_ids]
        return self.guard.watch(step, losses.total, grad_norm, image_ids, write_up)

    def expected_first_loss(self, batches: Sequence[Batch], *, prior: float) -> Tensor:
        """Return the class loss that theory gives for the first step on these micro-batches; 0-dim, no forward pass."""
        matched = [self.matcher(batch) for batch in batches]
        num_foreground, _, _ = self._counts(batches, [targets for _, targets in matched])
        num_images = sum(len(batch.images) for batch in batches) * self.processes.num_processes
        model = self.state.model
        parts = [
            expected_initial_cls_loss(
                self.criterion,
                targets,
                anchors,
                self.state.normalizer(targets.num_foreground, num_foreground, num_images),
                anchors_per_level=self.matcher.anchors_per_level(batch.images),
                cls_bias=initial_cls_bias(model.num_classes, prior, model.activation),
            )
            for batch, (anchors, targets) in zip(batches, matched, strict=True)
        ]
        return self.processes.sum(torch.stack(parts).sum())

    def _counts(self, batches: Sequence[Batch], targets: Sequence[AnchorTargets]) -> tuple[Tensor, ...]:
        """Return foreground anchors, objects and objects without an anchor of the whole step, each 0-dim."""
        num_foreground = torch.stack([target.num_foreground.sum() for target in targets]).sum()
        num_gt = torch.stack([batch.gt_mask.sum() for batch in batches]).sum()
        num_unmatched_gt = torch.stack([target.num_unmatched_gt.sum() for target in targets]).sum()
        return self.processes.sum(torch.stack((num_foreground, num_gt, num_unmatched_gt))).unbind()

    def _forward_backward(
        self,
        batch: Batch,
        anchors: Tensor,
        targets: AnchorTargets,
        normalizer: Tensor,
        num_images: int,
        *,
        detail: bool,
    ) -> "_Sums":
        outputs = forward(self._network, batch.images, batch.sizes, self.precision, self.convolution)
        losses = (self._compiled_losses or self.criterion)(outputs, targets, anchors, normalizer)
        # DDP averages gradients over processes; the normaliser is already that of all of them.
        total = losses.total * self.processes.num_processes
        (total if self.state.scaler is None else self.state.scaler.scale(total)).backward()
        class_detail = None
        if detail:
            class_detail = self.criterion.detail(
                outputs,
                targets,
                anchors,
                normalizer,
                batch.gt_labels,
                batch.gt_mask,
                num_classes=self.state.model.num_classes,
            )
        share = normalizer.expand(len(batch.images)).sum() / num_images
        return _Sums(losses.detach(), share, class_detail)

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

    def _over_processes(self, sums: "_Sums") -> "_Sums":
        """Return the sums over all processes, in one exchange."""
        if self.processes.num_processes == 1:
            return sums
        parts = [sums.losses.stack(), sums.normalizer.double().reshape(1)]
        parts += [] if sums.detail is None else [sums.detail.stack()]
        added = self.processes.sum(torch.cat(parts)).split([len(part) for part in parts])
        return _Sums(
            Losses.from_stack(added[0]),
            added[1][0],
            None if sums.detail is None else ClassDetail.from_stack(added[2], self.state.model.num_classes),
        )


@dataclass(frozen=True, slots=True)
class _Sums:
    """What adds up over micro-batches and processes.

    Attributes:
        losses: of the images.
        normalizer: 0-dim, their share in the mean over all images of the step.
        detail: if it was asked for.
    """

    losses: Losses
    normalizer: Tensor
    detail: ClassDetail | None

    def __add__(self, other: "_Sums") -> "_Sums":
        detail = None if self.detail is None or other.detail is None else self.detail + other.detail
        return _Sums(self.losses + other.losses, self.normalizer + other.normalizer, detail)
