"""Batches to assign, and whether two results are the same."""

import os
from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.testing import assert_close

from detector.anchors import AnchorGenerator
from detector.structures import AnchorTargets
from tests.helpers import random_boxes

BACKENDS = ("triton",) if os.environ.get("TRITON_INTERPRET") == "1" else ("sparse", "eager")
"""Those that run here: Triton's interpreter has to be asked for before anything imports triton."""

SIZE = (96, 160)

RULES = [
    {"allow_low_quality_matches": low_quality, "fg_iou_thresh": fg, "bg_iou_thresh": bg, "ignore_ioa_thresh": ioa}
    for low_quality, (fg, bg, ioa) in product(
        (True, False), ((0.5, 0.4, 0.5), (0.7, 0.3, 0.9), (0.3, 0.0, 1.0), (0.0, 0.0, 0.1))
    )
]

Arguments = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def pyramid_anchors() -> Tensor:
    """The anchors of a small image: 2,907, so that the last block of any size is not full."""
    generator = AnchorGenerator(sizes=(16, 32, 64, 128, 256))
    return generator(generator.feature_shapes(SIZE))


def plain_batch(generator: torch.Generator, num_images: int = 3, num_gt: int = 9) -> Arguments:
    """Objects, ignore regions and padding in any order."""
    boxes = random_boxes(num_images * num_gt, generator, SIZE).view(num_images, num_gt, 4)
    kind = torch.randint(0, 3, (num_images, num_gt), generator=generator)
    boxes[kind == 2] = 0
    labels = torch.randint(0, 80, (num_images, num_gt), generator=generator)
    return pyramid_anchors(), boxes, labels, kind == 0, kind == 1


def batch_with_ties(generator: torch.Generator) -> Arguments:
    """Equal boxes, and boxes of whole pixels, which many anchors overlap equally."""
    anchors, boxes, *rest = plain_batch(generator)
    boxes = (boxes / 8).round() * 8
    boxes[:, 6:] = boxes[:, :3]
    return anchors, boxes, *rest


def batch_of_small_boxes(generator: torch.Generator) -> Arguments:
    """No anchor reaches a threshold; some boxes have no width, some lie off the image."""
    anchors, boxes, *rest = plain_batch(generator)
    boxes[..., 2:] = boxes[..., :2] + torch.rand(boxes[..., 2:].shape, generator=generator) * 5
    boxes[:, 0, 2] = boxes[:, 0, 0]
    boxes[:, 1] += 1000
    return anchors, boxes, *rest


def batch_without_objects(generator: torch.Generator) -> Arguments:
    """Images with nothing, with regions alone, and with objects."""
    anchors, boxes, labels, mask, ignore = plain_batch(generator)
    mask[:2] = False
    ignore[0] = False
    return anchors, boxes, labels, mask, ignore


def batch_of_equal_anchors(generator: torch.Generator) -> Arguments:
    """Every anchor is a candidate."""
    anchors, *rest = plain_batch(generator)
    return anchors[700:701].repeat(1100, 1), *rest


CASES: dict[str, Callable[[torch.Generator], Arguments]] = {
    "plain": plain_batch,
    "ties": batch_with_ties,
    "small boxes": batch_of_small_boxes,
    "without objects": batch_without_objects,
    "equal anchors": batch_of_equal_anchors,
}


def assert_targets_equal(actual: AnchorTargets, expected: AnchorTargets, message: Any = None) -> None:
    for name in ("target_labels", "matched_idxs", "matched_boxes", "num_unmatched_gt"):
        what = f"{name}: {message}"
        assert_close(getattr(actual, name), getattr(expected, name), atol=0, rtol=0, msg=lambda m, w=what: f"{w}: {m}")
