"""The rows of ``metrics.jsonl``: what a train step and an evaluation report, under the names users rely on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import numpy.typing as npt

JsonRow = dict[str, str | int | float | None]
"""One line of ``metrics.jsonl``: plain numbers, None for what is not finite."""

COUNTS = ("num_foreground", "num_background", "num_ignored")
"""Fields of a train row that are whole numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRow:
    """Numbers of one train step, and timings since the row before.

    Losses, split and counts are those of that step alone, over all processes and micro-batches, after normalisation.
    Any float may be NaN or infinite.

    Attributes:
        step: optimiser steps done, from 1.
        epoch: passes over the training images, with fraction.
        loss: the total that was minimised.
        loss_cls: class loss.
        loss_box: box loss.
        loss_cls_fg: part of the class loss from anchors with an object.
        loss_cls_bg: part of the class loss from background anchors.
        fg_share: ``loss_cls_fg / (loss_cls_fg + loss_cls_bg)`` in [0, 1].
        num_foreground: anchors with an object; a whole number (float, as it comes from the device).
        num_background: anchors without one; a whole number.
        num_ignored: anchors in no loss; a whole number.
        lr: learning rate of this step.
        grad_norm: L2 norm of all gradients, before clipping.
        data_seconds: mean wait for data per step since the last row.
        step_seconds: mean wall time of a step since the last row, the wait for data included.
        images_per_second: images of all processes per second since the last row.
    """

    step: int
    epoch: float
    loss: float
    loss_cls: float
    loss_box: float
    loss_cls_fg: float
    loss_cls_bg: float
    fg_share: float
    num_foreground: float
    num_background: float
    num_ignored: float
    lr: float
    grad_norm: float
    data_seconds: float
    step_seconds: float
    images_per_second: float

    def to_json(self) -> JsonRow:
        """Return the row as strict JSON can hold it: counts as int, None for what is not finite."""
        row = {"kind": "train"} | {name: finite_or_none(value) for name, value in asdict(self).items()}
        return row | {name: int(value) for name in COUNTS if (value := row[name]) is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalRow:
    """Result of one evaluation.

    Attributes:
        step: optimiser steps done when it was made.
        metrics: the 12 COCO numbers by name (AP, AP50, ... ARl), as pycocotools gives them: -1 where undefined.
        loss: total loss on the validation images; the other losses likewise, NaN where not computed.
        loss_cls: class loss.
        loss_cls_fg: part of the class loss from anchors with an object.
        loss_cls_bg: part of the class loss from background anchors.
        loss_box: box loss.
        per_class: AP by class name, for TensorBoard only.
        pictures: [H, W, 3] uint8 RGB images (predictions beside ground truth), for TensorBoard only.
        scores: [D] scores in [0, 1] of all detections, for TensorBoard's histogram; None or empty for none.
    """

    step: int
    metrics: Mapping[str, float]
    loss: float
    loss_cls: float
    loss_cls_fg: float
    loss_cls_bg: float
    loss_box: float
    per_class: Mapping[str, float] = field(default_factory=dict)
    pictures: Sequence[npt.NDArray[np.uint8]] = ()
    scores: npt.NDArray[np.floating] | None = None

    def to_json(self) -> JsonRow:
        """Return the row of ``metrics.jsonl``: without classes, pictures and scores; None for what is not finite."""
        losses = {name: getattr(self, name) for name in ("loss", "loss_cls", "loss_cls_fg", "loss_cls_bg", "loss_box")}
        numbers = {"step": self.step} | dict(self.metrics) | losses
        return {"kind": "eval"} | {name: finite_or_none(value) for name, value in numbers.items()}


def scalars(row: JsonRow) -> dict[str, float]:
    """Return the numbers of a row without ``kind`` and ``step``, NaN for None: what TensorBoard shows."""
    numbers = {name: value for name, value in row.items() if name not in ("kind", "step")}
    return {name: math.nan if value is None else float(value) for name, value in numbers.items()}


def finite_or_none(value: float) -> int | float | None:
    """Return ``value`` as a Python int or float, None if it is NaN or infinite (JSON has no word for either)."""
    if isinstance(value, int | np.integer):
        return int(value)
    return float(value) if math.isfinite(value) else None
