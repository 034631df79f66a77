"""The rows of ``metrics.jsonl``: what a train step and an evaluation report, under the names users rely on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from detector.telemetry.json_values import JsonRow, json_value
from detector.telemetry.loss_profile import LossProfile

LEVEL_PREFIX = "level_"
"""Fields of this beginning hold a number per pyramid level, finest first."""

CLASS_PREFIX = "class_"
"""Fields of this beginning hold a number per class, by label."""

_COUNT = "num_"
"""Fields with this in their name are whole numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRow:
    """Numbers of one train step, and timings since the row before.

    Losses, split and counts are those of that step alone, over all processes and micro-batches, after normalisation.
    Any number may be NaN where it is unknown, and a loss infinite.

    Attributes:
        step: optimiser steps done, from 1.
        epoch: passes over the training images, with fraction.
        loss: the total that was minimised.
        loss_cls: class loss.
        loss_box: box loss.
        loss_cls_fg: part of the class loss from anchors with an object.
        loss_cls_bg: part of the class loss from background anchors.
        fg_share: ``loss_cls_fg / (loss_cls_fg + loss_cls_bg)`` in [0, 1].
        num_foreground: anchors with an object.
        num_background: anchors without one.
        num_ignored: anchors in no loss.
        lr: learning rate of this step.
        grad_norm: L2 norm of all gradients, before clipping.
        data_seconds: mean wait for data per step since the last row.
        step_seconds: mean wall time of a step since the last row, the wait for data included.
        images_per_second: images of all processes per second since the last row.
        p_foreground: mean probability of the target class over foreground anchors; NaN without any.
        p_background: mean of the highest class probability over background anchors; NaN without any.
        num_gt: objects (ground-truth boxes but ignore regions).
        num_unmatched_gt: objects that no anchor was assigned to.
        normalizer: what the losses were divided by; where every image has its own, the mean over the images.
        level_loss_cls_fg: what each pyramid level adds to ``loss_cls_fg``, finest first.
        level_loss_cls_bg: likewise for ``loss_cls_bg``.
        level_num_foreground: anchors with an object of each level.
        level_num_background: anchors without one of each level.
        level_num_ignored: anchors in no loss of each level.
        class_loss_cls_fg: ``loss_cls_fg`` by the class of the anchor's object (all its terms), by label.
        class_loss_cls_bg: ``loss_cls_bg`` by the class of the logit that it comes from.
        class_num_foreground: anchors that have an object of each class.
        class_num_gt: objects of each class.
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
    p_foreground: float
    p_background: float
    num_gt: float
    num_unmatched_gt: float
    normalizer: float
    level_loss_cls_fg: tuple[float, ...]
    level_loss_cls_bg: tuple[float, ...]
    level_num_foreground: tuple[float, ...]
    level_num_background: tuple[float, ...]
    level_num_ignored: tuple[float, ...]
    class_loss_cls_fg: tuple[float, ...]
    class_loss_cls_bg: tuple[float, ...]
    class_num_foreground: tuple[float, ...]
    class_num_gt: tuple[float, ...]

    def to_json(self) -> JsonRow:
        """Return the row as strict JSON can hold it: counts as int, None for what is not finite."""
        return {"kind": "train"} | _to_json(asdict(self))

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """Return the row that :meth:`to_json` made this of.

        What is None or, in a file of an older version, missing becomes NaN or an empty tuple.
        """
        values = {name: _from_json(name, row.get(name)) for name in (one.name for one in fields(cls))}
        return cls(**values | {"step": int(row["step"])})


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
        fg_share: as in a :class:`TrainRow`, over all validation images, like everything down to ``class_num_gt``.
        p_foreground: likewise.
        p_background: likewise.
        num_gt: likewise.
        num_unmatched_gt: likewise.
        level_loss_cls_fg: likewise.
        level_loss_cls_bg: likewise.
        level_num_foreground: likewise.
        level_num_background: likewise.
        level_num_ignored: likewise.
        class_loss_cls_fg: likewise.
        class_loss_cls_bg: likewise.
        class_num_foreground: likewise.
        class_num_gt: likewise.
        profile: how the class loss is spread over the anchors; None where this evaluation did not look.
        per_class: AP by class name, for TensorBoard only.
        pictures: [H, W, 3] uint8 RGB images (predictions beside ground truth), for TensorBoard only.
        figures: [H, W, 3] uint8 RGB figures by name, for TensorBoard only.
        scores: [D] scores in [0, 1] of all detections, for TensorBoard's histogram; None or empty for none.
    """

    step: int
    metrics: Mapping[str, float]
    loss: float
    loss_cls: float
    loss_cls_fg: float
    loss_cls_bg: float
    loss_box: float
    fg_share: float = math.nan
    p_foreground: float = math.nan
    p_background: float = math.nan
    num_gt: float = math.nan
    num_unmatched_gt: float = math.nan
    level_loss_cls_fg: tuple[float, ...] = ()
    level_loss_cls_bg: tuple[float, ...] = ()
    level_num_foreground: tuple[float, ...] = ()
    level_num_background: tuple[float, ...] = ()
    level_num_ignored: tuple[float, ...] = ()
    class_loss_cls_fg: tuple[float, ...] = ()
    class_loss_cls_bg: tuple[float, ...] = ()
    class_num_foreground: tuple[float, ...] = ()
    class_num_gt: tuple[float, ...] = ()
    profile: LossProfile | None = None
    per_class: Mapping[str, float] = field(default_factory=dict)
    pictures: Sequence[npt.NDArray[np.uint8]] = ()
    figures: Mapping[str, npt.NDArray[np.uint8]] = field(default_factory=dict)
    scores: npt.NDArray[np.floating] | None = None

    def to_json(self) -> JsonRow:
        """Return the row of ``metrics.jsonl``: without what is for TensorBoard only; None for what is not finite.

        ``loss_profile`` is there only if the evaluation made one.
        """
        left_out = ("step", "metrics", "profile", "per_class", "pictures", "figures", "scores")
        numbers = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in left_out}
        profile = {} if self.profile is None else {"loss_profile": json_value(self.profile.to_json())}
        return {"kind": "eval"} | _to_json({"step": self.step} | dict(self.metrics) | numbers) | profile


@dataclass(frozen=True, slots=True, kw_only=True)
class WarningRow:
    """Something that the numbers say is wrong.

    Attributes:
        step: optimiser steps done when it was noticed.
        name: of the finding; each is told once per run.
        text: one line with cause and remedy.
    """

    step: int
    name: str
    text: str

    def to_json(self) -> JsonRow:
        """Return the row of ``metrics.jsonl``."""
        return {"kind": "warning"} | _to_json(asdict(self))


def scalars(row: JsonRow) -> dict[str, float]:
    """Return the numbers of a row without ``kind``, ``step`` and lists, NaN for None: what TensorBoard shows."""
    return {
        name: math.nan if value is None else float(value)
        for name, value in row.items()
        if name not in ("kind", "step") and isinstance(value, int | float | None)
    }


def number_lists(row: JsonRow, prefix: str) -> dict[str, list[float]]:
    """Return the lists of a row whose name begins with ``prefix``, without it; NaN for None."""
    return {
        name.removeprefix(prefix): [number if isinstance(number, int | float) else math.nan for number in value]
        for name, value in row.items()
        if name.startswith(prefix) and isinstance(value, list)
    }


def _to_json(values: Mapping[str, Any]) -> JsonRow:
    return {name: json_value(_whole(value) if _COUNT in name else value) for name, value in values.items()}


def _whole(count: Any) -> Any:
    """Return a count, or each of a tuple of counts, as int; NaN stays."""
    if isinstance(count, tuple):
        return tuple(_whole(part) for part in count)
    return int(count) if math.isfinite(count) else count


def _from_json(name: str, value: Any) -> Any:
    if not name.startswith((LEVEL_PREFIX, CLASS_PREFIX)):
        return math.nan if value is None else value
    return () if value is None else tuple(math.nan if part is None else part for part in value)
