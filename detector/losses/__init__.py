"""Losses: pure functions, one a file, with the symbols of their papers. They never divide by a count of anchors."""

from detector.losses.giou import giou_loss
from detector.losses.sigmoid_focal import sigmoid_focal_loss
from detector.losses.smooth_l1 import smooth_l1_loss

__all__ = ["giou_loss", "sigmoid_focal_loss", "smooth_l1_loss"]
