"""L1 loss on box offsets."""

from torch import Tensor

from detector.losses.smooth_l1 import smooth_l1_loss


def l1_loss(bbox_deltas: Tensor, target_deltas: Tensor) -> Tensor:
    """Return the L1 loss of every box, summed over its four offsets.

    The limit of :func:`detector.losses.smooth_l1_loss` for beta = 0, with gradient 0 where an offset is exact.

    Args:
        bbox_deltas: [..., 4] predicted offsets; half types are computed in float32.
        target_deltas: [..., 4] offsets to reach.

    Returns:
        [...] loss of each box, >= 0.

    Raises:
        ValueError: if the shapes differ.
    """
    return smooth_l1_loss(bbox_deltas, target_deltas, beta=0.0)
