"""Where a non-finite step goes wrong: its micro-batch made again, looked at module by module and image by image.

Letters: N images, M ground truths of an image (padded), L levels.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

import torch
from torch import Tensor, nn

from detector.config import FINEST_LEVEL
from detector.criterion import Criterion
from detector.engine.device import ResolvedPrecision
from detector.engine.forward import forward
from detector.engine.guard import BatchNormSnapshot
from detector.models import RetinaNet
from detector.structures import AnchorTargets, HeadOutputs

MAX_NAMED: Final = 10
"""Parameters named in a report; where one gradient is not finite, often hundreds are not."""

_LOSSES = ("total", "loss_cls", "loss_box", "loss_cls_fg", "loss_cls_bg")


@dataclass(frozen=True, slots=True)
class Findings:
    """What a micro-batch shows when it is made again.

    Attributes:
        first_module: the first module, in the order of the forward pass, with an output that is not finite; None where
            all are finite.
        levels: a mapping per pyramid level, finest first: range of its logits and of its offsets.
        image_losses: a mapping per image: its part of each loss.
        parameters: names of parameters that are not finite themselves.
        gradients: names of parameters whose gradient is not finite; the one nearest to the loss first.
    """

    first_module: str | None
    levels: list[dict[str, Any]]
    image_losses: list[dict[str, float]]
    parameters: list[str]
    gradients: list[str]

    @property
    def is_finite(self) -> bool:
        """Whether nothing is wrong this time."""
        losses = torch.tensor([list(losses.values()) for losses in self.image_losses])
        return not (self.first_module or self.parameters or self.gradients) and bool(losses.isfinite().all())


def make_again(
    model: RetinaNet,
    criterion: Criterion,
    images: Tensor,
    sizes: Tensor,
    anchors: Tensor,
    targets: AnchorTargets,
    normalizer: Tensor,
    *,
    precision: ResolvedPrecision,
    scale: float = 1.0,
) -> Findings:
    """Make the forward and the backward pass of a micro-batch once more, and look where it stops being finite.

    Weights, gradients and batch statistics stay as they are, and the processes of a run need not do it together.

    Args:
        model: with the weights of the step.
        criterion: losses.
        images: [N, H, W, 3] uint8.
        sizes: [N, 2] what each image fills.
        anchors: [R, 4].
        targets: [N, R].
        normalizer: scalar or [N], that of the step.
        precision: arithmetic of the network.
        scale: factor on the loss, of a loss scaler.
    """
    statistics = BatchNormSnapshot(model)
    statistics.take()
    try:
        with torch.enable_grad(), _watched(model) as watch:
            outputs = forward(model, images, sizes, precision)
            total = criterion(outputs, targets, anchors, normalizer).total * scale
        named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        gradients = torch.autograd.grad(total, [parameter for _, parameter in named], allow_unused=True)
    finally:
        statistics.restore_unless(torch.zeros((), dtype=torch.bool, device=images.device))
    bad_gradients = [
        name
        for (name, _), gradient in zip(named, gradients, strict=True)
        if gradient is not None and not gradient.isfinite().all()
    ]
    return Findings(
        first_module=watch.first,
        levels=_levels(outputs),
        image_losses=_image_losses(criterion, outputs, targets, anchors, normalizer),
        parameters=[name for name, parameter in model.named_parameters() if not parameter.isfinite().all()],
        gradients=bad_gradients[::-1],
    )


@dataclass(slots=True)
class _Watch:
    first: str | None = None
    calls: dict[str, int] = field(default_factory=dict)

    def look(self, name: str, output: object) -> None:
        self.calls[name] = self.calls.get(name, 0) + 1
        if self.first is None and not all(bool(tensor.isfinite().all()) for tensor in _tensors(output)):
            # The subnets run once a level, on the same modules.
            call = self.calls[name]
            self.first = name if call == 1 else f"{name}, call {call}"


@contextmanager
def _watched(model: nn.Module) -> Iterator[_Watch]:
    """Look at the output of every module; a module comes after those that it is made of."""
    watch = _Watch()
    handles = [
        module.register_forward_hook(lambda _module, _inputs, output, name=name: watch.look(name, output))
        for name, module in model.named_modules()
        if name
    ]
    try:
        yield watch
    finally:
        for handle in handles:
            handle.remove()


def _tensors(output: object) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Sequence):
        for part in output:
            yield from _tensors(part)


def _levels(outputs: HeadOutputs) -> list[dict[str, Any]]:
    return [
        {"level": f"P{FINEST_LEVEL + idx}", "cls_logits": value_range(logits), "bbox_deltas": value_range(deltas)}
        for idx, (logits, deltas) in enumerate(zip(outputs.cls_logits, outputs.bbox_deltas, strict=True))
    ]


def value_range(tensor: Tensor) -> dict[str, Any]:
    """Return the smallest and the largest finite value of a tensor (None without any), and how many are not finite."""
    values = tensor.detach().float()
    finite = values[values.isfinite()]
    low, high = (float(finite.min()), float(finite.max())) if finite.numel() else (None, None)
    return {"min": low, "max": high, "num_not_finite": values.numel() - finite.numel()}


@torch.no_grad()
def _image_losses(
    criterion: Criterion, outputs: HeadOutputs, targets: AnchorTargets, anchors: Tensor, normalizer: Tensor
) -> list[dict[str, float]]:
    """Return what each image adds to the losses."""
    rows = []
    for idx in range(len(targets.target_labels)):
        one = slice(idx, idx + 1)
        losses = criterion(
            HeadOutputs(
                tuple(logits[one] for logits in outputs.cls_logits),
                tuple(deltas[one] for deltas in outputs.bbox_deltas),
            ),
            replace(targets, **{part.name: getattr(targets, part.name)[one] for part in fields(targets)}),
            anchors,
            normalizer[one] if normalizer.ndim else normalizer,
        )
        rows.append({name: float(getattr(losses, name)) for name in _LOSSES})
    return rows
