"""The focal loss and its gradient in one pass, in plain torch operations: the form that runs everywhere.

With z = x for a "no" term and z = -x for the anchor's own class, both terms are one function of z:
f(z) = w p^gamma s with p = sigmoid(z) and s = softplus(z), and f'(z) = w p^gamma (p + gamma (1 - p) s), which follows
from Lin et al. 2017, Appendix B. Everything is computed slice by slice in a few buffers that stay in the processor's
cache; torch's autograd would send a dozen tensors of the logits' size to memory and back.

Letters: N images, Rl anchors of a level, r of them in a slice, P anchors with an object, K classes.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from typing import Final

import torch
from torch import Tensor

from detector.losses.focal_form import FocalForm, FocalKernels, Upstream, anchor_factors
from detector.losses.sigmoid_terms import own_class_idxs, own_class_weights
from detector.losses.split import FocalSums, focal_sums

_SLICE: Final = 2**17
"""Logits of a slice at least: fewer would cost more in calls than in memory. Four buffers of them are 2 MiB."""

_SLICE_OF_THREAD: Final = 2**15
"""... and for each thread at least: torch gives none less than that."""

_SLICE_ON_DEVICE: Final = 2**24
"""... and on an accelerator, where launches cost more than memory."""

_LARGEST: Final = 80.0
"""Above it softplus(z) = z in float64 too, and exp(z) is still finite in float32."""


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
    if may_read(gradients[0].device) and all(bool((side == 1).all()) for side in sides):
        return
    for level, (gradient, labels) in enumerate(zip(gradients, target_labels, strict=True)):
        foreground, background = upstream.of_level(level)
        if gradient.dtype in (torch.float32, torch.float64):
            gradient.mul_(anchor_factors(labels, foreground, background))
            continue
        # In float32, as a rounded factor would make the whole gradient too large or too small.
        slices = _Slices(gradient, torch.float32)
        for half, y in zip(slices.split(gradient), slices.split(labels), strict=True):
            half.copy_(slices.buffer(0, half).copy_(half).mul_(anchor_factors(y, foreground, background)))


def may_read(device: torch.device) -> bool:
    """Return whether the host may look at values: on a CPU, where nobody has to wait for them."""
    return device.type == "cpu"


class _Slices:
    """How a level is cut into slices of its anchors, and memory that every slice uses again.

    Args:
        logits: [N, Rl, K].
        dtype: of the memory.
    """

    def __init__(self, logits: Tensor, dtype: torch.dtype) -> None:
        num_images, num_rows, num_classes = logits.shape
        in_cache = max(_SLICE, _SLICE_OF_THREAD * torch.get_num_threads())
        size = in_cache if may_read(logits.device) else _SLICE_ON_DEVICE
        self.num_rows = max(1, min(num_rows, size // max(1, num_images * num_classes)))
        self.num_anchors = num_images * self.num_rows
        self._new_buffer = partial(
            torch.empty, (num_images, self.num_rows, num_classes), dtype=dtype, device=logits.device
        )
        self._buffers: dict[int, Tensor] = {}

    def split(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """Return the slices of a tensor [N, Rl] or [N, Rl, K]; the last one may have fewer anchors."""
        parts: tuple[Tensor, ...] = tensor.split(self.num_rows, dim=1)
        return parts

    def buffer(self, idx: int, slice_: Tensor) -> Tensor:
        """Return one of the buffers with the shape of a slice of logits; what it holds means nothing."""
        if idx not in self._buffers:
            self._buffers[idx] = self._new_buffer()
        num_rows = slice_.shape[1]
        return self._buffers[idx] if num_rows == self.num_rows else self._buffers[idx][:, :num_rows]


def _compute_level(
    logits: Tensor, labels: Tensor, form: FocalForm, gradient: Tensor | None, foreground: Tensor, background: Tensor
) -> Tensor:
    """Return the loss of every anchor [N, Rl] and write the gradient; the factors are [N, 1]."""
    anchor_loss = torch.empty(labels.shape, dtype=form.dtype, device=logits.device)
    slices = _Slices(logits, form.dtype)
    parts = [slices.split(tensor) for tensor in (logits, labels, anchor_loss)]
    gradient_parts = [None] * len(parts[0]) if gradient is None else slices.split(gradient)
    for x, y, loss_out, gradient_out in zip(*parts, gradient_parts, strict=True):
        factors = anchor_factors(y, foreground, background)
        compute_slice = _look_up_background if _has_tables(x) else _compute_background
        compute_slice(x, form, slices, loss_out, gradient_out, factors)
    for images, rows in _positions_of_objects(labels, slices.num_anchors):
        factors = anchor_factors(labels[images, rows], foreground[images, 0], background[images, 0])
        _compute_objects((images, rows), logits, labels, form, anchor_loss, gradient, factors)
    return anchor_loss


def _compute_background(
    logits: Tensor,
    form: FocalForm,
    slices: _Slices,
    anchor_loss: Tensor,
    gradient: Tensor | None,
    factors: Tensor,
) -> None:
    """Write the losses [N, r] and, unless None, the gradients [N, r, K] of a slice, as if it had no objects."""
    z = logits if logits.dtype == form.dtype else slices.buffer(3, logits).copy_(logits)
    slope_out = gradient if gradient is not None and gradient.dtype == form.dtype else slices.buffer(2, z)
    loss, slope = _terms(z, form.other_weight, form.gamma, (slices.buffer(0, z), slices.buffer(1, z), slope_out))
    torch.sum(loss, dim=-1, out=anchor_loss)
    if gradient is not None:
        slope.mul_(factors)
        if slope is not gradient:
            gradient.copy_(slope)


def _has_tables(logits: Tensor) -> bool:
    return logits.dtype in (torch.bfloat16, torch.float16) and may_read(logits.device)


def _look_up_background(
    logits: Tensor,
    form: FocalForm,
    slices: _Slices,
    anchor_loss: Tensor,
    gradient: Tensor | None,
    factors: Tensor,
) -> None:
    """Do what :func:`_compute_background` does, for half types on a CPU.

    A logit of 16 bits is one of 65,536 numbers, and reading its terms takes a third of the time of computing them.
    """
    by_class = form.other_weight if isinstance(form.other_weight, Tensor) else None
    losses, slopes = _tables(logits.dtype, form.gamma, 1.0 if by_class is not None else float(form.other_weight))
    numbers = slices.buffer(0, logits).view(torch.int32).copy_(logits.view(torch.int16)).add_(2**15).reshape(-1)
    loss = losses.index_select(0, numbers).view(logits.shape)
    torch.sum(loss if by_class is None else loss.mul_(by_class), dim=-1, out=anchor_loss)
    if gradient is not None:
        slope = torch.index_select(slopes, 0, numbers, out=loss.view(-1)).view(logits.shape)
        gradient.copy_((slope if by_class is None else slope.mul_(by_class)).mul_(factors))


@lru_cache(maxsize=8)  # 512 KiB each
def _tables(dtype: torch.dtype, gamma: float, weight: float) -> tuple[Tensor, Tensor]:
    """Return f and f' of all numbers of a half type in the order of their bits as integers, [65536] float32 each."""
    with torch.inference_mode(False), torch.no_grad():
        z = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype).float()
        return _terms(z, weight, gamma, [torch.empty_like(z) for _ in range(3)])


def _positions_of_objects(target_labels: Tensor, most: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Return images and rows of the anchors that have an object, at most so many at a time.

    Where they are cannot be read from an accelerator; there it is all anchors.
    """
    if may_read(target_labels.device):
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
    loss, slope = _terms(z, form.other_weight, form.gamma, [torch.empty_like(z) for _ in range(3)])
    own_loss, own_slope = _terms(own_z, own_weight, form.gamma, [torch.empty_like(own_z) for _ in range(3)])
    is_own = (labels >= 0).unsqueeze(-1)
    for terms, own_terms in ((loss, own_loss), (slope, own_slope.neg_())):
        terms.scatter_(-1, own_idxs, torch.where(is_own, own_terms, terms.gather(-1, own_idxs)))
    anchor_loss[positions] = loss.sum(dim=-1)
    if gradient is not None:
        gradient[positions] = slope.mul_(factors).to(gradient.dtype)


def _terms(z: Tensor, weight: float | Tensor, gamma: float, buffers: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return f(z) and f'(z), written into two of three buffers like ``z``."""
    p, softplus, slope = buffers
    torch.clamp_max(z, _LARGEST, out=p).exp_()
    torch.log1p(p, out=softplus)
    torch.add(p, 1, out=slope)
    p.div_(slope)
    torch.div(softplus, slope, out=slope)  # (1 - p) s, before the next line: 0 where s is huge
    torch.maximum(softplus, z, out=softplus)
    torch.add(p, slope, alpha=gamma, out=slope)
    # p^gamma by log p = z - s, where a product does not do.
    modulation = p.mul_(p) if gamma == 2 else torch.sub(z, softplus, out=p).mul_(gamma).exp_()
    modulation.mul_(weight)
    return softplus.mul_(modulation), slope.mul_(modulation)


EAGER: Final = FocalKernels(compute, scale_)
