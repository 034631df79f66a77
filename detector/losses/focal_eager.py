"""The focal loss and its gradient in one pass, in plain torch operations: the form that runs everywhere.

With z = x for a "no" term and z = -x for the anchor's own class, both terms are one function of z:
f(z) = w p^gamma s with p = sigmoid(z) and s = softplus(z), and f'(z) = w p^gamma (p + gamma (1 - p) s), which follows
from Lin et al. 2017, Appendix B. Everything is computed slice by slice in a few buffers that stay in the processor's
cache; torch's autograd would send a dozen tensors of the logits' size to memory and back.

Letters: N images, Rl anchors of a level, r of them in a slice, P anchors with an object, K classes.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import torch
from torch import Tensor

from detector.losses import focal_slices
from detector.losses.focal_form import FocalForm, FocalKernels, Upstream, anchor_factors
from detector.losses.focal_slices import Slices, write_terms
from detector.losses.focal_tables import look_up_background
from detector.losses.sigmoid_terms import own_class_idxs, own_class_weights
from detector.losses.split import FocalSums, focal_sums


def compute(
    cls_logits: Sequence[Tensor],
    target_labels: Sequence[Tensor],
    form: FocalForm,
    gradients: Sequence[Tensor] | None,
    upstream: Upstream,
) -> FocalSums:
    """Return the sums and write the gradients; see :class:`detector.losses.focal_form.FocalKernels`."""
    losses = []
    for level, (logits, labels) in enumerate(zip(cls_logits, target_labels, strict=True)):
        gradient = None if gradients is None else gradients[level]
        losses.append(_compute_level(logits, labels, form, gradient, *upstream.of_level(level)))
    return focal_sums(losses, target_labels)


def scale_(gradients: Sequence[Tensor], target_labels: Sequence[Tensor], upstream: Upstream) -> None:
    """Multiply the gradients in place; see :class:`detector.losses.focal_form.FocalKernels`."""
    sides = (upstream.foreground, upstream.background)
    if focal_slices.may_read(gradients[0].device) and all(bool((side == 1).all()) for side in sides):
        return
    for level, (gradient, labels) in enumerate(zip(gradients, target_labels, strict=True)):
        foreground, background = upstream.of_level(level)
        if gradient.dtype in (torch.float32, torch.float64):
            gradient.mul_(anchor_factors(labels, foreground, background))
            continue
        # In float32, as a rounded factor would make the whole gradient too large or too small.
        slices = Slices(gradient, torch.float32)
        for half, y in zip(slices.split(gradient), slices.split(labels), strict=True):
            half.copy_(slices.buffer(0, half).copy_(half).mul_(anchor_factors(y, foreground, background)))


def _compute_level(
    logits: Tensor, labels: Tensor, form: FocalForm, gradient: Tensor | None, foreground: Tensor, background: Tensor
) -> Tensor:
    """Return the loss of every anchor [N, Rl] and write the gradient; the factors are [N, 1]."""
    anchor_loss = torch.empty(labels.shape, dtype=form.dtype, device=logits.device)
    slices = Slices(logits, form.dtype)
    if logits.dtype in (torch.bfloat16, torch.float16) and focal_slices.may_read(logits.device):
        look_up_background(logits, labels, form, anchor_loss, gradient, foreground, background)
    else:
        parts = [slices.split(tensor) for tensor in (logits, labels, anchor_loss)]
        gradient_parts = [None] * len(parts[0]) if gradient is None else slices.split(gradient)
        for x, y, loss_out, gradient_out in zip(*parts, gradient_parts, strict=True):
            factors = anchor_factors(y, foreground, background)
            _compute_background(x, form, slices, loss_out, gradient_out, factors)
    for images, rows in _positions_of_objects(labels, slices.num_anchors):
        factors = anchor_factors(labels[images, rows], foreground[images, 0], background[images, 0])
        _compute_objects((images, rows), logits, labels, form, anchor_loss, gradient, factors)
    return anchor_loss


def _compute_background(
    logits: Tensor,
    form: FocalForm,
    slices: Slices,
    anchor_loss: Tensor,
    gradient: Tensor | None,
    factors: Tensor,
) -> None:
    """Write the losses [N, r] and, unless None, the gradients [N, r, K] of a slice, as if it had no objects."""
    z = logits if logits.dtype == form.dtype else slices.buffer(3, logits).copy_(logits)
    slope_out = gradient if gradient is not None and gradient.dtype == form.dtype else slices.buffer(2, z)
    loss, slope = write_terms(z, form.other_weight, form.gamma, (slices.buffer(0, z), slices.buffer(1, z), slope_out))
    torch.sum(loss, dim=-1, out=anchor_loss)
    if gradient is not None:
        slope.mul_(factors)
        if slope is not gradient:
            gradient.copy_(slope)


def _positions_of_objects(target_labels: Tensor, most: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Return images and rows of the anchors that have an object, at most so many at a time.

    Where they are cannot be read from an accelerator; there it is all anchors.
    """
    if focal_slices.may_read(target_labels.device):
        positions = (target_labels >= 0).flatten().nonzero().squeeze(1)
    else:
        positions = torch.arange(target_labels.numel(), device=target_labels.device)
    for part in positions.split(most):
        yield part // target_labels.shape[1], part % target_labels.shape[1]


def _compute_objects(
    positions: tuple[Tensor, Tensor],
    cls_logits: Tensor,
    target_labels: Tensor,
    form: FocalForm,
    anchor_loss: Tensor,
    gradient: Tensor | None,
    factors: Tensor,
) -> None:
    """Write the losses and gradients of the anchors at these positions (P images, P rows of a level) anew."""
    labels, z = target_labels[positions], cls_logits[positions].to(form.dtype)
    own_idxs = own_class_idxs(labels)
    own_z = -z.gather(-1, own_idxs)
    own_weight = own_class_weights(form.own_weight, own_idxs)
    loss, slope = write_terms(z, form.other_weight, form.gamma, [torch.empty_like(z) for _ in range(3)])
    own_loss, own_slope = write_terms(own_z, own_weight, form.gamma, [torch.empty_like(own_z) for _ in range(3)])
    is_own = (labels >= 0).unsqueeze(-1)
    for terms, own_terms in ((loss, own_loss), (slope, own_slope.neg_())):
        terms.scatter_(-1, own_idxs, torch.where(is_own, own_terms, terms.gather(-1, own_idxs)))
    anchor_loss[positions] = loss.sum(dim=-1)
    if gradient is not None:
        gradient[positions] = slope.mul_(factors).to(gradient.dtype)


EAGER: Final = FocalKernels(compute, scale_)
