"""What flows through the detector, from an image file to a detection.

Letters: N images, M ground truths of one image (padded to the batch's largest), K classes (no background slot),
L levels, A anchors per cell, R = sum of Hl * Wl * A anchors of all levels, D detections of one image.

Boxes are float32 ``(x1, y1, x2, y2)`` in absolute pixels of the image at hand, continuous: width = x2 - x1, without
"+1". Sizes are ``(height, width)``. Labels are 0 ... K-1; dataset category ids exist only where files are read or
written.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

BACKGROUND: Final = -1
"""Label of an anchor that belongs to no object: all its K terms push the scores down."""

IGNORE: Final = -2
"""Label of an anchor that takes part in no loss: between the thresholds, or inside an ignore region."""

Size = tuple[int, int]
"""``(height, width)`` in pixels."""

Activation = Literal["sigmoid", "softmax"]
"""What makes probabilities of an anchor's class logits: sigmoid, of each of the K for itself, or softmax, of the K
classes and, last, background."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One image with its ground truth, on the host.

    Attributes:
        image: [H, W, 3] uint8, RGB.
        boxes: [M, 4] float32, xyxy pixels of ``image``; M may be 0.
        labels: [M] int64 in [0, K). Labels of ignore regions are kept, but no loss reads them.
        ignore: [M] bool, True for regions (crowds, difficult boxes) in which anchors are neither object nor background.
        image_id: the image's id in the annotation file.
        original_size: size of the stored image, before transforms and resize.
    """

    image: npt.NDArray[np.uint8]
    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    ignore: npt.NDArray[np.bool_]
    image_id: int
    original_size: Size


@dataclass(frozen=True, slots=True)
class Batch:
    """Images of one forward pass, padded bottom and right, with padded ground truth.

    Attributes:
        images: [N, H, W, 3] uint8 RGB; 0 outside ``sizes``.
        sizes: [N, 2] int64, the (height, width) that each image fills.
        gt_boxes: [N, M, 4] float32, xyxy in pixels of ``images``; padded rows are 0.
        gt_labels: [N, M] int64 in [0, K); padded rows are 0.
        gt_mask: [N, M] bool, True for objects; False for padding and for ignore regions.
        gt_ignore: [N, M] bool, True for ignore regions; False for padding and for objects.
        image_ids: ids of the images in the annotation file, in order.
        original_sizes: stored size of each image, to bring detections back to original pixels.
    """

    images: Tensor
    sizes: Tensor
    gt_boxes: Tensor
    gt_labels: Tensor
    gt_mask: Tensor
    gt_ignore: Tensor
    image_ids: tuple[int, ...]
    original_sizes: tuple[Size, ...]

    def to(self, device: torch.device) -> Self:
        """Return the batch with its tensors on ``device``, copied without blocking where memory is pinned."""
        return self._map_tensors(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Self:
        """Return the batch with its tensors in page-locked memory (``DataLoader`` calls this)."""
        return self._map_tensors(Tensor.pin_memory)

    def _map_tensors(self, function: Callable[[Tensor], Tensor]) -> Self:
        tensors = {f.name: value for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)}
        mapped: dict[str, Any] = {name: function(tensor) for name, tensor in tensors.items()}
        return replace(self, **mapped)


@dataclass(frozen=True, slots=True)
class HeadOutputs:
    """Raw outputs of the subnets, one entry per pyramid level, finest first.

    Attributes:
        cls_logits: L tensors [N, Rl, K], with softmax [N, Rl, K + 1], background last; rows in the order (y, x, anchor
            of the cell).
        bbox_deltas: L tensors [N, Rl, 4] as (dx, dy, dw, dh), see :func:`detector.ops.box_coding.decode_boxes`.
    """

    cls_logits: tuple[Tensor, ...]
    bbox_deltas: tuple[Tensor, ...]

    @property
    def anchors_per_level(self) -> tuple[int, ...]:
        """Rl of each level."""
        return tuple(logits.shape[1] for logits in self.cls_logits)


@dataclass(frozen=True, slots=True)
class AnchorTargets:
    """What each anchor is to learn.

    Attributes:
        target_labels: [N, R] int64: 0 ... K-1, ``BACKGROUND`` or ``IGNORE``.
        matched_idxs: [N, R] int64, row of the matched ground truth; 0 where the anchor is not foreground.
        matched_boxes: [N, R, 4] float32, the matched ground truth's box; meaningless where not foreground.
        num_unmatched_gt: [N] int64, objects (not ignore regions) that no anchor was assigned to.
    """

    target_labels: Tensor
    matched_idxs: Tensor
    matched_boxes: Tensor
    num_unmatched_gt: Tensor

    @property
    def foreground(self) -> Tensor:
        """[N, R] bool, anchors that have an object."""
        return self.target_labels >= 0

    @property
    def num_foreground(self) -> Tensor:
        """[N] int64, foreground anchors of each image."""
        return self.foreground.sum(dim=1)


@dataclass(frozen=True, slots=True)
class Detections:
    """Detections of one image, best first.

    Attributes:
        boxes: [D, 4] float32, xyxy in pixels of the *original* image; D may be 0.
        scores: [D] float32 in [0, 1], falling.
        labels: [D] int64 in [0, K).
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def to(self, device: torch.device | str) -> "Detections":
        """Return the detections on ``device``."""
        return Detections(self.boxes.to(device), self.scores.to(device), self.labels.to(device))


@dataclass(frozen=True, slots=True)
class Categories:
    """The classes of a dataset: label ``i`` is category ``ids[i]`` with name ``names[i]``.

    Attributes:
        ids: category ids of the annotation file, rising; gaps and 0 are fine.
        names: class names, one per id.
    """

    ids: tuple[int, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        """K, the number of real classes."""
        return len(self.ids)

    @classmethod
    def from_coco(cls, entries: Sequence[dict[str, object]]) -> "Categories":
        """Build from the ``categories`` list of a COCO file, sorted by id."""
        ordered = sorted(entries, key=lambda entry: int(str(entry["id"])))
        return cls(tuple(int(str(e["id"])) for e in ordered), tuple(str(e["name"]) for e in ordered))
