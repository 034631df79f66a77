"""Losses: pure functions, one a file, with the symbols of their papers.

They know no detector: classes are integers, boxes are corners. None divides by a count of anchors; only the two
softmax losses, which classifiers use as they are, average over their targets if ``reduction`` says so.
"""

from detector.losses.ciou import ciou_loss
from detector.losses.diou import diou_loss
from detector.losses.focal_star import focal_star_loss
from detector.losses.giou import giou_loss
from detector.losses.iou import iou_loss
from detector.losses.l1 import l1_loss
from detector.losses.ohem import hard_example_mask
from detector.losses.quality_focal import quality_focal_loss
from detector.losses.sigmoid_ce import sigmoid_ce_loss
from detector.losses.sigmoid_focal import sigmoid_focal_loss
from detector.losses.smooth_l1 import smooth_l1_loss
from detector.losses.softmax_ce import softmax_ce_loss
from detector.losses.softmax_focal import softmax_focal_loss
from detector.losses.split import FocalSums
from detector.losses.varifocal import varifocal_loss

__all__ = [
    "FocalSums",
    "ciou_loss",
    "diou_loss",
    "focal_star_loss",
    "giou_loss",
    "hard_example_mask",
    "iou_loss",
    "l1_loss",
    "quality_focal_loss",
    "sigmoid_ce_loss",
    "sigmoid_focal_loss",
    "smooth_l1_loss",
    "softmax_ce_loss",
    "softmax_focal_loss",
    "varifocal_loss",
]
