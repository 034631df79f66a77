"""What the criterion returns: the losses with their split by pyramid level, and on demand the split by class.

Both are additive over the micro-batches of a step and over processes. Letters: L levels, K classes.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

_NUM_SCALARS = 5
"""Fields of :class:`Losses` that are one number."""

_NUM_PER_LEVEL = 5
"""Numbers of each pyramid level: two losses and three counts."""


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

    @classmethod
    def from_stack(cls, stacked: Tensor, num_classes: int) -> "ClassDetail":
        """Return the detail that :meth:`stack` made one tensor of."""
        loss_fg, loss_bg, num_foreground, num_gt, rest = stacked.split([*[num_classes] * 4, 3])
        p_foreground, p_background, num_unmatched_gt = rest.unbind()
        return cls(
            loss_fg, loss_bg, num_foreground.long(), num_gt.long(), p_foreground, p_background, num_unmatched_gt.long()
        )
