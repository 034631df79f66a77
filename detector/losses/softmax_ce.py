"""Softmax cross-entropy with integer targets.

CE(p_t) = -log p_t, p_t = softmax(x)_t at the target class t. Letters: C classes (in a detector K + 1: the background is
one of them).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from detector.losses.class_targets import Reduction, checked_targets, reduce_loss, weight_per_class
from detector.ops.precision import at_least_float32


def softmax_ce_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    class_weights: Sequence[float] | Tensor | None = None,
    reduction: Reduction = "mean",
    ignore_index: int = -100,
) -> Tensor:
    """Return the softmax cross-entropy, each target weighted by its class.

    Equal to ``torch.nn.functional.cross_entropy``, whose weighted mean divides by the sum of the targets' weights, but
    for three things: the classes lie in the last dimension; the mean over nothing (no targets, all ignored, all of
    weight 0) is 0 and not NaN; and an ignored target has no gradient even if its logits are inf or NaN.

    Args:
        logits: [..., C] floating point, C >= 2. Half types are computed in float32.
        targets: [...] integers: 0 ... C-1 or ``ignore_index``. Others raise on a CPU; on a GPU, where a look at them
            would make the host wait, they end in the device's assertion.
        class_weights: [C] factors >= 0, indexed by the target; None: all 1. Never differentiated.
        reduction: "none", "sum", or "mean" = sum / sum of the weights of the targets that are not ignored.
        ignore_index: target that counts nowhere; may be one of the classes.

    Returns:
        [...] for "none" (0 where ignored), else a scalar. 0 for empty inputs.

    Raises:
        ValueError: if the shapes or types do not fit together, C < 2, targets are out of range, class_weights are
            not C numbers or one is negative, or the reduction is unknown.
    """
    targets = checked_targets(logits, targets, ignore_index)
    kept = targets != ignore_index
    # Replaced before the loss: the gradient of a non-finite softmax would be NaN even where the loss is not selected.
    x = at_least_float32(logits.masked_fill(~kept.unsqueeze(-1), 0.0))
    weights = None if class_weights is None else weight_per_class("class_weights", class_weights, x)
    loss = F.cross_entropy(
        x.reshape(-1, x.shape[-1]),
        targets.flatten(),
        weight=weights,
        reduction="none",
        ignore_index=ignore_index,
    )
    counts = kept if weights is None else torch.where(kept, weights[torch.where(kept, targets, 0)], 0.0)
    return reduce_loss(loss.view(targets.shape), counts, reduction)
