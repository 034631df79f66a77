"""The focal loss by Triton's kernels on a CUDA device: with its gradient in one pass over the logits, or by class.

One launch per level. torch adds up what the programs have written, in a fixed order: repeated runs give the same bits.
Letters: N images, L levels, Rl anchors of a level, K classes.
"""

from collections.abc import Sequence
from typing import Any, Final

import torch
import triton
from torch import Tensor

from detector.losses.focal_class_kernel import by_class_kernel
from detector.losses.focal_form import FocalForm, FocalKernels, Upstream
from detector.losses.focal_triton_kernels import compute_kernel, scale_kernel
from detector.losses.split import ClassSums, FocalSums

_SIZE: Final = 1024
"""Logits that a program takes at a time: with 4 warps 8 for each thread, one load of 128 bits in half types and two in
float32, and few enough registers for 5 or 6 programs on a multiprocessor."""

_STEPS: Final = 8
"""... and how many times, so that adding up the threads' sums, and being launched for nothing, cost little."""

_NUM_WARPS: Final = 4

_TILE: Final = 2048
"""Logits that a program which adds up by class takes at a time, or one anchor's: 16 for each thread, as 32 do not fit
its registers (ptxas for sm_90a: 128 of them with 16, all 255 and more with 32)."""

_ROWS: Final = 512
"""Anchors that it takes, or more with few classes: the three numbers of each class that it writes are then a small part
of what it has read."""

_NUM_SUMS: Final = 5
"""Numbers that a program writes: foreground and background loss, foreground, background and ignored anchors."""


def compute(
    cls_logits: Sequence[Tensor],
    target_labels: Sequence[Tensor],
    form: FocalForm,
    gradients: Sequence[Tensor] | None,
    upstream: Upstream,
) -> FocalSums:
    """Return the sums and write the gradients; see :class:`detector.losses.focal_form.FocalKernels`."""
    device = cls_logits[0].device
    num_images, num_levels = len(cls_logits[0]), len(cls_logits)
    num_runs = [_num_runs(logits) for logits in cls_logits]
    sums = torch.zeros(num_images, num_levels, max(num_runs), _NUM_SUMS, device=device)
    own_weight, other_weight, table = _weights(form, sums)
    with _device_of(device):
        for level, (logits, labels) in enumerate(zip(cls_logits, target_labels, strict=True)):
            if not logits.numel():
                continue
            gradient = logits if gradients is None else gradients[level]
            foreground, background = upstream.of_level(level)
            level_sums = sums[:, level]
            compute_kernel[num_runs[level], num_images](
                logits,
                labels,
                gradient,
                table,
                foreground,
                background,
                level_sums,
                logits.shape[1],
                *logits.stride(),
                *gradient.stride(),
                *labels.stride(),
                foreground.stride(0),
                background.stride(0),
                level_sums.stride(0),
                own_weight,
                other_weight,
                float(form.gamma),
                **_layout(logits, gradient),
                weight_per_class=isinstance(form.own_weight, Tensor),
                gamma_is_two=form.gamma == 2,
                has_gradient=gradients is not None,
                num_sums=_NUM_SUMS,
                rows_size=triton.next_power_of_2(_SIZE * _STEPS // logits.shape[2] + 1),
            )
    foreground, background, *counts = sums.sum(dim=2, dtype=torch.float64).unbind(-1)
    return FocalSums(foreground.float(), background.float(), *(count.long() for count in counts))


def scale_(gradients: Sequence[Tensor], target_labels: Sequence[Tensor], upstream: Upstream) -> None:
    """Multiply the gradients in place; see :class:`detector.losses.focal_form.FocalKernels`."""
    with _device_of(gradients[0].device):
        for level, (gradient, labels) in enumerate(zip(gradients, target_labels, strict=True)):
            if not gradient.numel():
                continue
            foreground, background = upstream.of_level(level)
            scale_kernel[_num_runs(gradient), len(gradient)](
                gradient,
                labels,
                foreground,
                background,
                gradient.shape[1],
                *gradient.stride(),
                *labels.stride(),
                foreground.stride(0),
                background.stride(0),
                **_layout(gradient),
            )


def by_class(cls_logits: Sequence[Tensor], target_labels: Sequence[Tensor], form: FocalForm) -> ClassSums:
    """Return the sums by class; see :class:`detector.losses.focal_form.FocalKernels`."""
    device, (num_images, _, num_classes) = cls_logits[0].device, cls_logits[0].shape
    classes_size = max(1, triton.next_power_of_2(num_classes))
    rows_size = max(1, _TILE // classes_size)
    num_steps = max(1, _ROWS // rows_size)
    num_runs = [triton.cdiv(logits.shape[1], rows_size * num_steps) for logits in cls_logits]
    sums = torch.zeros(num_images, sum(num_runs), 3 * num_classes + 2, device=device)
    own_weight, other_weight, table = _weights(form, sums)
    with _device_of(device):
        for logits, labels, level_sums in zip(cls_logits, target_labels, sums.split(num_runs, dim=1), strict=True):
            if not logits.numel():
                continue
            by_class_kernel[level_sums.shape[1], num_images](
                logits,
                labels,
                table,
                level_sums,
                logits.shape[1],
                *logits.stride(),
                *labels.stride(),
                level_sums.stride(0),
                own_weight,
                other_weight,
                float(form.gamma),
                num_classes=num_classes,
                weight_per_class=isinstance(form.own_weight, Tensor),
                gamma_is_two=form.gamma == 2,
                classes_size=classes_size,
                rows_size=rows_size,
                num_steps=num_steps,
                num_warps=_NUM_WARPS,
            )
    by_image = sums.sum(dim=1, dtype=torch.float64)
    foreground, background, num_foreground, probabilities = by_image.split([num_classes] * 3 + [2], dim=1)
    return ClassSums(foreground, background, num_foreground.long(), *probabilities.unbind(1))


def _weights(form: FocalForm, unread: Tensor) -> tuple[float, float, Tensor]:
    """Return the weights of own and other terms, and in place of both their table [2K] where each class has its own."""
    if isinstance(form.own_weight, Tensor):
        assert isinstance(form.other_weight, Tensor)
        return 0.0, 0.0, torch.cat((form.own_weight, form.other_weight))
    return float(form.own_weight), float(form.other_weight), unread


def _layout(*tensors: Tensor) -> dict[str, Any]:
    """Return what kernels are compiled for: classes, and whether an image's numbers lie one after another."""
    num_classes = tensors[0].shape[2]
    is_dense = all(tensor.stride()[1:] == (num_classes, 1) for tensor in tensors)
    return {
        "num_classes": num_classes,
        "is_dense": is_dense,
        "size": _SIZE,
        "num_steps": _STEPS,
        "num_warps": _NUM_WARPS,
    }


def _num_runs(tensor: Tensor) -> int:
    """Return how many programs share the logits of one image."""
    return int(triton.cdiv(tensor.shape[1] * tensor.shape[2], _SIZE * _STEPS))


def _device_of(device: torch.device) -> torch.cuda.device:
    """Return the context in which Triton launches on this device; it does nothing on a CPU, for tests."""
    return torch.cuda.device(device if device.type == "cuda" else -1)


TRITON: Final = FocalKernels(compute, scale_, by_class)
