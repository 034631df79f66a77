"""From samples to a batch: padded images and padded ground truth."""

from collections.abc import Sequence

import torch

from detector.structures import Batch, Sample, Size


def collate(samples: Sequence[Sample], padded_size: Size) -> Batch:
    """Put samples into one batch, padded bottom and right with zeros.

    Args:
        samples: at least one sample, of any sizes and any number of ground truths, also none.
        padded_size: planned (height, width); it grows where an image does not fit, as a transform may have enlarged it.

    Returns:
        The batch on the host. The ground truth is padded to the largest M of the batch, and to at least one row, so
        that no tensor is empty; ignore regions are in ``gt_boxes`` and ``gt_ignore``, but not in ``gt_mask``.
    """
    sizes = [(int(sample.image.shape[0]), int(sample.image.shape[1])) for sample in samples]
    height = max(padded_size[0], *(h for h, _ in sizes))
    width = max(padded_size[1], *(w for _, w in sizes))
    num_rows = max(1, *(len(sample.boxes) for sample in samples))

    images = torch.zeros(len(samples), height, width, 3, dtype=torch.uint8)
    gt_boxes = torch.zeros(len(samples), num_rows, 4)
    gt_labels = torch.zeros(len(samples), num_rows, dtype=torch.int64)
    gt_mask = torch.zeros(len(samples), num_rows, dtype=torch.bool)
    gt_ignore = torch.zeros(len(samples), num_rows, dtype=torch.bool)
    for i, (sample, (h, w)) in enumerate(zip(samples, sizes, strict=True)):
        m = len(sample.boxes)
        # Through numpy's views: torch.from_numpy warns about read-only arrays.
        images.numpy()[i, :h, :w] = sample.image
        gt_boxes.numpy()[i, :m] = sample.boxes
        gt_labels.numpy()[i, :m] = sample.labels
        gt_mask.numpy()[i, :m] = ~sample.ignore
        gt_ignore.numpy()[i, :m] = sample.ignore
    return Batch(
        images=images,
        sizes=torch.tensor(sizes, dtype=torch.int64),
        gt_boxes=gt_boxes,
        gt_labels=gt_labels,
        gt_mask=gt_mask,
        gt_ignore=gt_ignore,
        image_ids=tuple(sample.image_id for sample in samples),
        original_sizes=tuple(sample.original_size for sample in samples),
    )
