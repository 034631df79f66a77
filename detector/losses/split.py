"""Sums of a class loss, split into foreground and background.

The split shows what a plain loss hides: background anchors are so many that their small losses can outweigh all
objects. Letters: N images, L pyramid levels, Rl anchors of one level, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from detector.structures import BACKGROUND


@dataclass(frozen=True, slots=True)
class FocalSums:
    """Sums of a class loss of every image and pyramid level, and how many anchors each is made of.

    Nothing is divided. Ignored anchors count in neither sum.

    Attributes:
        foreground: [N, L] differentiable, all K terms of the anchors that have an object.
        background: [N, L] differentiable, all terms of ``BACKGROUND`` anchors.
        num_foreground: [N, L] int64 anchors that have an object.
        num_background: [N, L] int64 ``BACKGROUND`` anchors.
        num_ignored: [N, L] int64 anchors that count nowhere.
    """

    foreground: Tensor
    background: Tensor
    num_foreground: Tensor
    num_background: Tensor
    num_ignored: Tensor


@dataclass(frozen=True, slots=True)
class ClassSums:
    """Sums of a class loss of every image by class, and of how sure the network is; without a graph.

    Nothing is divided. Ignored anchors count nowhere.

    Attributes:
        foreground: [N, K] float64, all terms of the anchors that have an object, by its class.
        background: [N, K] float64, terms of ``BACKGROUND`` anchors by the logit that they come from.
        num_foreground: [N, K] int64 anchors that have an object, by its class.
        p_foreground: [N] float64, the own class's probability over anchors that have an object.
        p_background: [N] float64, the highest probability over ``BACKGROUND`` anchors.
    """

    foreground: Tensor
    background: Tensor
    num_foreground: Tensor
    p_foreground: Tensor
    p_background: Tensor


def focal_sums(anchor_losses: Sequence[Tensor], target_labels: Sequence[Tensor]) -> FocalSums:
    """Return the sums of the anchors' losses per image and level.

    Args:
        anchor_losses: L >= 1 tensors [N, Rl], the loss of every anchor; what it is at ignored anchors does not matter.
        target_labels: L tensors [N, Rl] int64: a class (>= 0), ``BACKGROUND`` (-1) or ignored (any other negative).

    Returns:
        The sums; 0 where a level or an image has no such anchors. No gradient reaches the losses of ignored anchors.

    Raises:
        ValueError: if there are no levels, or losses and labels differ in number or shape.
    """
    loss_shapes, label_shapes = ([tuple(level.shape) for level in levels] for levels in (anchor_losses, target_labels))
    if not loss_shapes or loss_shapes != label_shapes or any(len(shape) != 2 for shape in loss_shapes):
        raise ValueError(
            f"anchor_losses and target_labels must be [N, Rl] at every level, got {loss_shapes} and {label_shapes}"
        )
    sums: list[tuple[Tensor, ...]] = []
    for anchor_loss, labels in zip(anchor_losses, target_labels, strict=True):
        foreground, background = labels >= 0, labels == BACKGROUND
        num_foreground, num_background = foreground.sum(dim=1), background.sum(dim=1)
        sums.append(
            (
                torch.where(foreground, anchor_loss, 0.0).sum(dim=1),
                torch.where(background, anchor_loss, 0.0).sum(dim=1),
                num_foreground,
                num_background,
                labels.shape[1] - num_foreground - num_background,
            )
        )
    # Transposed as a view: a sum over the levels then rounds as one over the stacked rows, which are [L, N], would.
    return FocalSums(*(torch.stack(levels).T for levels in zip(*sums, strict=True)))


def sum_split(anchor_loss: Tensor, target_labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the anchors' losses summed over the foreground and over the background.

    Args:
        anchor_loss: [...] loss of every anchor; what it is at ignored anchors does not matter.
        target_labels: [...] int64, as for :func:`focal_sums`.

    Returns:
        ``(foreground, background)``, two differentiable scalars, 0 where there are no such anchors.

    Raises:
        ValueError: if the shapes differ.
    """
    if anchor_loss.shape != target_labels.shape:
        raise ValueError(f"shapes differ: {tuple(anchor_loss.shape)} and {tuple(target_labels.shape)}")
    foreground = torch.where(target_labels >= 0, anchor_loss, 0.0).sum()
    background = torch.where(target_labels == BACKGROUND, anchor_loss, 0.0).sum()
    return foreground, background
