"""The network: normalised images to raw outputs."""

from detector.models.build import build_model
from detector.models.retinanet import RetinaNet

__all__ = ["RetinaNet", "build_model"]
