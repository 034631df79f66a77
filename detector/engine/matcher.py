"""Anchors of a batch and what each of them is to learn."""

from torch import Tensor

from detector.anchors import AnchorGenerator, build_anchor_generator
from detector.assign import Backend, assign_anchors
from detector.config import Config
from detector.structures import AnchorTargets, Batch


class Matcher:
    """Lays anchors over a batch and assigns them to its ground truth.

    Args:
        anchor_generator: lays the anchors.
        fg_iou_thresh: see :func:`detector.assign.assign_anchors`, like the others.
        bg_iou_thresh: likewise.
        allow_low_quality_matches: likewise.
        ignore_ioa_thresh: likewise.
        backend: likewise.
    """

    def __init__(
        self,
        anchor_generator: AnchorGenerator,
        *,
        fg_iou_thresh: float,
        bg_iou_thresh: float,
        allow_low_quality_matches: bool,
        ignore_ioa_thresh: float,
        backend: Backend = "auto",
    ) -> None:
        self.anchor_generator = anchor_generator
        self.fg_iou_thresh = fg_iou_thresh
        self.bg_iou_thresh = bg_iou_thresh
        self.allow_low_quality_matches = allow_low_quality_matches
        self.ignore_ioa_thresh = ignore_ioa_thresh
        self.backend: Backend = backend

    def anchors(self, images: Tensor) -> Tensor:
        """Return [R, 4] anchors for padded images [N, H, W, 3], on their device."""
        height, width = images.shape[1:3]
        return self.anchor_generator(self.anchor_generator.feature_shapes((height, width)), images.device)

    def anchors_per_level(self, images: Tensor) -> tuple[int, ...]:
        """Return Rl of each level for padded images [N, H, W, 3]."""
        height, width = images.shape[1:3]
        shapes = self.anchor_generator.feature_shapes((height, width))
        return tuple(rows * columns * self.anchor_generator.num_per_cell for rows, columns in shapes)

    def __call__(self, batch: Batch) -> tuple[Tensor, AnchorTargets]:
        """Return anchors [R, 4] and targets [N, R] of a batch, on its device."""
        anchors = self.anchors(batch.images)
        targets = assign_anchors(
            anchors,
            batch.gt_boxes,
            batch.gt_labels,
            batch.gt_mask,
            batch.gt_ignore,
            fg_iou_thresh=self.fg_iou_thresh,
            bg_iou_thresh=self.bg_iou_thresh,
            allow_low_quality_matches=self.allow_low_quality_matches,
            ignore_ioa_thresh=self.ignore_ioa_thresh,
            backend=self.backend,
        )
        return anchors, targets


def build_matcher(config: Config) -> Matcher:
    """Return the matcher that a configuration describes."""
    return Matcher(
        build_anchor_generator(config.model.anchors),
        fg_iou_thresh=config.assign.fg_iou_thresh,
        bg_iou_thresh=config.assign.bg_iou_thresh,
        allow_low_quality_matches=config.assign.allow_low_quality_matches,
        ignore_ioa_thresh=config.assign.ignore_ioa_thresh,
        backend=config.assign.backend,
    )
