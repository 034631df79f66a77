"""From samples to a batch: padded images and padded ground truth.

Letters: N images, M ground truths of one image (padded to the batch's largest).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from detector.structures import Batch, Sample, Size


class PaddedTargets(NamedTuple):
    """Ground truth of a batch, as :class:`~detector.structures.Batch` holds it, in arrays of one process.

    Attributes:
        boxes: [N, M, 4] float32.
        labels: [N, M] int64.
        mask: [N, M] bool, True for objects.
        ignore: [N, M] bool, True for ignore regions.
    """

    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    mask: npt.NDArray[np.bool_]
    ignore: npt.NDArray[np.bool_]


def pad_targets(samples: Sequence[Sample]) -> PaddedTargets:
    """Put the ground truth of at least one sample together.

    It is padded to the largest M of the batch, and to at least one row, so that nothing is empty; ignore regions are in
    ``boxes`` and ``ignore``, but not in ``mask``.
    """
    shape = (len(samples), max(1, *(len(sample.boxes) for sample in samples)))
    targets = PaddedTargets(
        boxes=np.zeros((*shape, 4), dtype=np.float32),
        labels=np.zeros(shape, dtype=np.int64),
        mask=np.zeros(shape, dtype=np.bool_),
        ignore=np.zeros(shape, dtype=np.bool_),
    )
    for i, sample in enumerate(samples):
        m = len(sample.boxes)
        targets.boxes[i, :m] = sample.boxes
        targets.labels[i, :m] = sample.labels
        targets.mask[i, :m] = ~sample.ignore
        targets.ignore[i, :m] = sample.ignore
    return targets


def collate(samples: Sequence[Sample], padded_size: Size) -> Batch:
    """Put samples into one batch, padded bottom and right with zeros.

    Args:
        samples: at least one sample, of any sizes and any number of ground truths, also none.
        padded_size: planned (height, width); it grows where an image does not fit.

    Returns:
        The batch on the host; its ground truth is that of :func:`pad_targets`.
    """
    sizes = [(int(sample.image.shape[0]), int(sample.image.shape[1])) for sample in samples]
    height = max(padded_size[0], *(h for h, _ in sizes))
    width = max(padded_size[1], *(w for _, w in sizes))
    images = np.zeros((len(samples), height, width, 3), dtype=np.uint8)
    for i, (sample, (h, w)) in enumerate(zip(samples, sizes, strict=True)):
        images[i, :h, :w] = sample.image
    targets = pad_targets(samples)
    return Batch(
        images=torch.from_numpy(images),
        sizes=torch.tensor(sizes, dtype=torch.int64),
        gt_boxes=torch.from_numpy(targets.boxes),
        gt_labels=torch.from_numpy(targets.labels),
        gt_mask=torch.from_numpy(targets.mask),
        gt_ignore=torch.from_numpy(targets.ignore),
        image_ids=tuple(sample.image_id for sample in samples),
        original_sizes=tuple(sample.original_size for sample in samples),
    )
