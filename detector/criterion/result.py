"""What the criterion returns: the losses with their split by pyramid level, and on demand the split by class.

Both are additive over the micro-batches of a step and over processes. Letters: L levels, K classes.
"""

import math
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

_NUM_SCALARS = 5
"""Fields of :class:`Losses` that are one number."""

_NUM_PER_LEVEL = 5
"""Numbers of each pyramid level: two losses and three counts."""

_NUM_PER_CLASS = 4
"""Numbers of each class in :class:`ClassDetail` ..."""

_NUM_DETAIL_SCALARS = 3
"""... and its fields that are one number."""


@dataclass(frozen=True, slots=True)
class Losses:
    """Losses of some images, already divided by the normaliser.

    Attributes:
        total: loss_cls + loss_box; the one to call ``backward`` on.
        loss_cls: class loss, loss_cls_fg + loss_cls_bg.
        loss_box: box loss times its weight.
        loss_cls_fg: part of the class loss from foreground anchors (all their terms).
        loss_cls_bg: part of the class loss from background anchors.
        level_loss_cls_fg: [L] what each pyramid level adds to ``loss_cls_fg``, finest first; without graph.
        level_loss_cls_bg: [L] likewise for ``loss_cls_bg``.
        level_counts: [3, L] int64, foreground, background and ignored anchors of each level.
    """

    total: Tensor
    loss_cls: Tensor
    loss_box: Tensor
    loss_cls_fg: Tensor
    loss_cls_bg: Tensor
    level_loss_cls_fg: Tensor
    level_loss_cls_bg: Tensor
    level_counts: Tensor

    def detach(self) -> "Losses":
        """Return the same numbers without their graph."""
        return Losses(*(getattr(self, field.name).detach() for field in fields(self)))

    def __add__(self, other: "Losses") -> "Losses":
        """Return the sum: losses of the micro-batches of one step add up."""
        return Losses(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def stack(self) -> Tensor:
        """Return all numbers as one [5 + 5L] float64 tensor without graph, to be added over processes."""
        parts = [getattr(self, field.name).detach().double().reshape(-1) for field in fields(self)]
        return torch.cat(parts)

    @staticmethod
    def stack_size(num_levels: int) -> int:
        """Return how many numbers :meth:`stack` gives."""
        return _NUM_SCALARS + _NUM_PER_LEVEL * num_levels

    @classmethod
    def from_stack(cls, stacked: Tensor) -> "Losses":
        """Return the losses that :meth:`stack` made one tensor of; in float64, counts in int64."""
        num_levels = (len(stacked) - _NUM_SCALARS) // _NUM_PER_LEVEL
        scalars, level_fg, level_bg, counts = stacked.split([_NUM_SCALARS, num_levels, num_levels, 3 * num_levels])
        total, loss_cls, loss_box, fg, bg = scalars.unbind()
        return cls(total, loss_cls, loss_box, fg, bg, level_fg, level_bg, counts.view(3, num_levels).long())


@dataclass(frozen=True, slots=True)
class ClassDetail:
    """The class loss of some images by class, and how sure the network is.

    Attributes:
        class_loss_cls_fg: [K] float64, class loss of foreground anchors (all their terms) by the class they have;
            normalised, sums to ``loss_cls_fg``.
        class_loss_cls_bg: [K] float64, class loss of background anchors by the logit that it comes from; normalised,
            sums to ``loss_cls_bg``.
        class_num_foreground: [K] int64, foreground anchors of each class.
        class_num_gt: [K] int64, objects of each class, ignore regions not counted.
        sum_p_foreground: 0-dim float64, sum of the target class's probability over foreground anchors.
        sum_p_background: 0-dim float64, sum of the highest class probability over background anchors.
        num_unmatched_gt: 0-dim int64, objects that no anchor was assigned to.
    """

    class_loss_cls_fg: Tensor
    class_loss_cls_bg: Tensor
    class_num_foreground: Tensor
    class_num_gt: Tensor
    sum_p_foreground: Tensor
    sum_p_background: Tensor
    num_unmatched_gt: Tensor

    @property
    def num_gt(self) -> Tensor:
        """0-dim int64, objects of all classes."""
        return self.class_num_gt.sum()

    def __add__(self, other: "ClassDetail") -> "ClassDetail":
        """Return the sum: that of other images, micro-batches or processes."""
        return ClassDetail(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def stack(self) -> Tensor:
        """Return all numbers as one [4K + 3] float64 tensor, in the order of the fields."""
        return torch.cat([getattr(self, field.name).double().reshape(-1) for field in fields(self)])

    @staticmethod
    def stack_size(num_classes: int) -> int:
        """Return how many numbers :meth:`stack` gives."""
        return _NUM_PER_CLASS * num_classes + _NUM_DETAIL_SCALARS

    @classmethod
    def from_stack(cls, stacked: Tensor, num_classes: int) -> "ClassDetail":
        """Return the detail that :meth:`stack` made one tensor of."""
        loss_fg, loss_bg, num_foreground, num_gt, rest = stacked.split(
            [*[num_classes] * _NUM_PER_CLASS, _NUM_DETAIL_SCALARS]
        )
        p_foreground, p_background, num_unmatched_gt = rest.unbind()
        return cls(
            loss_fg, loss_bg, num_foreground.long(), num_gt.long(), p_foreground, p_background, num_unmatched_gt.long()
        )


def split_numbers(losses: Losses, detail: ClassDetail | None, *, divisor: float = 1.0) -> dict[str, Any]:
    """Return the split by the names that the rows of ``metrics.jsonl`` have, as numbers and tuples of numbers.

    Args:
        losses: on the host.
        detail: likewise; without it the tuples by class are empty and the mean probabilities NaN.
        divisor: what the losses are still to be divided by.

    Returns:
        ``fg_share``, ``p_foreground`` and ``p_background`` are NaN where there is nothing to divide by. ``level_*``:
        finest level first; ``class_*``: by label.
    """
    num_foreground, num_background, num_ignored = losses.level_counts.tolist()
    by_class = ("class_loss_cls_fg", "class_loss_cls_bg", "class_num_foreground", "class_num_gt")
    numbers: dict[str, Any] = {
        "fg_share": _ratio(float(losses.loss_cls_fg), float(losses.loss_cls_fg) + float(losses.loss_cls_bg)),
        "level_loss_cls_fg": tuple((losses.level_loss_cls_fg / divisor).tolist()),
        "level_loss_cls_bg": tuple((losses.level_loss_cls_bg / divisor).tolist()),
        "level_num_foreground": tuple(num_foreground),
        "level_num_background": tuple(num_background),
        "level_num_ignored": tuple(num_ignored),
    }
    if detail is None:
        return numbers | dict.fromkeys(by_class, ()) | dict.fromkeys(("p_foreground", "p_background"), math.nan)
    return numbers | {
        "class_loss_cls_fg": tuple((detail.class_loss_cls_fg / divisor).tolist()),
        "class_loss_cls_bg": tuple((detail.class_loss_cls_bg / divisor).tolist()),
        "class_num_foreground": tuple(detail.class_num_foreground.tolist()),
        "class_num_gt": tuple(detail.class_num_gt.tolist()),
        "p_foreground": _ratio(float(detail.sum_p_foreground), sum(num_foreground)),
        "p_background": _ratio(float(detail.sum_p_background), sum(num_background)),
    }


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
