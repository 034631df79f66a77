"""The focal loss of half types on a CPU, read from tables.

A logit of 16 bits is one of 65,536 numbers, whose terms are computed once and then read.

Letters: N images, Rl anchors of a level, r of them in a slice, K classes.
"""

from functools import lru_cache

import torch
from torch import Tensor

from detector.losses.focal_form import FocalForm, anchor_factors
from detector.losses.focal_slices import Slices, write_terms
from detector.structures import BACKGROUND


def look_up_background(
    logits: Tensor,
    labels: Tensor,
    form: FocalForm,
    anchor_loss: Tensor,
    gradient: Tensor | None,
    foreground: Tensor,
    background: Tensor,
) -> None:
    """Write the losses [N, Rl] and, unless None, the gradients [N, Rl, K] of a level, as if it had no objects.

    Args:
        logits: [N, Rl, K] of a half type, any strides.
        labels: [N, Rl].
        form: parameters of the loss.
        anchor_loss: to be written.
        gradient: to be written, like the logits.
        foreground: [N, 1], factor of the gradient of anchors with an object.
        background: [N, 1], that of background anchors; ignored ones have none.
    """
    slices = Slices(logits, torch.int32)
    by_class = form.other_weight if isinstance(form.other_weight, Tensor) else None
    losses, slopes = _tables(logits.dtype, form.gamma, 1.0 if by_class is not None else float(form.other_weight))
    is_one_factor = by_class is None and background.numel() > 0 and bool((background == background[0]).all())
    if gradient is not None and is_one_factor:
        slopes = (slopes * background[0]).to(gradient.dtype)  # rounded once, as a product at each place would be
    gradients = [None] * len(slices.split(logits)) if gradient is None else slices.split(gradient)
    for x, y, loss_out, gradient_out in zip(*map(slices.split, (logits, labels, anchor_loss)), gradients, strict=True):
        numbers = slices.buffer(0, x).copy_(x.view(torch.uint16))
        loss = _read(losses, numbers)
        torch.sum(loss if by_class is None else loss.mul_(by_class), dim=-1, out=loss_out)
        del loss  # so that the slopes get its memory
        if gradient_out is None:
            continue
        slope = _read(slopes, numbers)
        if not is_one_factor:
            slope = slope if by_class is None else slope.mul_(by_class)
            slope.mul_(anchor_factors(y, foreground, background))
        gradient_out.copy_(slope)
    if gradient is not None and is_one_factor and bool((is_ignored := labels < BACKGROUND).any()):
        gradient[is_ignored] = 0


def _read(table: Tensor, numbers: Tensor) -> Tensor:
    """Return the entries of a table [65536] at numbers of any shape."""
    return table.index_select(0, numbers.reshape(-1)).view(numbers.shape)


@lru_cache(maxsize=8)  # 512 KiB each
def _tables(dtype: torch.dtype, gamma: float, weight: float) -> tuple[Tensor, Tensor]:
    """Return f and f' of all numbers of a half type in the order of their bits as integers, [65536] float32 each."""
    with torch.inference_mode(False), torch.no_grad():
        z = torch.arange(2**16, dtype=torch.int32, device="cpu").to(torch.uint16).view(dtype).float()
        return write_terms(z, weight, gamma, [torch.empty_like(z) for _ in range(3)])
