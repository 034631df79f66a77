"""The fused focal loss as one node of autograd's graph, whose gradient is computed together with the value.

Letters: N images, L levels, Rl anchors of a level, K classes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from detector.losses.focal_form import FocalForm, FocalKernels, Upstream
from detector.losses.split import FocalSums


def fused_focal_sums(
    kernels: FocalKernels,
    cls_logits: Sequence[Tensor],
    target_labels: Sequence[Tensor],
    form: FocalForm,
    divisor: Tensor | float,
) -> FocalSums:
    """Return the focal loss's sums; they can be differentiated once.

    Args:
        kernels: what computes.
        cls_logits: one [N, Rl, K] per level.
        target_labels: one [N, Rl] int64 per level.
        form: alpha and gamma.
        divisor: what both sums are about to be divided by, one number or [N, 1].
    """
    ones = torch.ones(len(cls_logits[0]), len(cls_logits), dtype=form.dtype, device=cls_logits[0].device)
    expected = ones / divisor  # as autograd will compute it, to the last bit
    outputs: tuple[Tensor, ...] = _FusedFocal.apply(
        kernels, form, expected, len(cls_logits), *cls_logits, *target_labels
    )
    return FocalSums(*outputs)


class _FusedFocal(torch.autograd.Function):
    """Keeps the gradient from forward to backward.

    It is kept as if the sums were only going to be divided by the divisor and added up. The first backward multiplies
    it in place where that is not so, and gives it away. Where backward runs again (``retain_graph``, gradcheck), it is
    computed again from the logits, which are alive anyway. So it is for float16: only backward knows the loss scale,
    without which small gradients would be rounded to 0.
    """

    @staticmethod
    def forward(
        ctx: Any, kernels: FocalKernels, form: FocalForm, expected: Tensor, num_levels: int, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        logits, labels = tensors[:num_levels], tensors[num_levels:]
        keeps = any(ctx.needs_input_grad) and logits[0].dtype != torch.float16
        ctx.gradients = [torch.empty_like(level) for level in logits] if keeps else None
        ctx.kernels, ctx.form, ctx.expected, ctx.num_levels = kernels, form, expected, num_levels
        ctx.save_for_backward(*tensors)
        sums = kernels.compute(logits, labels, form, ctx.gradients, Upstream(expected, expected))
        counts = (sums.num_foreground, sums.num_background, sums.num_ignored)
        ctx.mark_non_differentiable(*counts)
        return sums.foreground, sums.background, *counts

    @staticmethod
    def backward(ctx: Any, foreground: Tensor, background: Tensor, *_counts: None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph=True: the kept gradient has no graph
            raise RuntimeError(
                "the fused focal loss has no second derivative (create_graph=True); "
                "detector.losses.sigmoid_focal.sigmoid_focal_sums_by_autograd has"
            )
        logits, labels = ctx.saved_tensors[: ctx.num_levels], ctx.saved_tensors[ctx.num_levels :]
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            gradients = [torch.empty_like(level) for level in logits]
            ctx.kernels.compute(logits, labels, ctx.form, gradients, Upstream(foreground, background))
        else:
            rest = Upstream(foreground / ctx.expected, background / ctx.expected)
            ctx.kernels.scale_(gradients, labels, rest)
        return None, None, None, None, *gradients, *[None] * len(labels)
