"""The class loss by class, and how sure the network is of objects and of background.

Letters: N images, Rl anchors of a level, K classes, C logits per anchor, M ground truths of an image.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from detector.criterion.class_loss import ClassLoss
from detector.criterion.result import ClassDetail
from detector.losses.split import ClassSums
from detector.structures import BACKGROUND, AnchorTargets, HeadOutputs


def class_detail(
    class_loss: ClassLoss,
    outputs: HeadOutputs,
    targets: AnchorTargets,
    quality: Sequence[Tensor] | None,
    normalizer: Tensor | float,
    gt_labels: Tensor,
    gt_mask: Tensor,
    *,
    num_classes: int,
) -> ClassDetail:
    """Return the class loss of a batch by class; see :meth:`detector.criterion.Criterion.detail`."""
    labels = targets.target_labels.split(outputs.anchors_per_level, dim=1)
    sums = None if class_loss.by_class is None else class_loss.by_class(outputs.cls_logits, labels)
    if sums is None:
        sums = sums_by_class(class_loss, outputs.cls_logits, labels, quality, num_classes=num_classes)
    divisor = normalizer.reshape(-1, 1) if isinstance(normalizer, Tensor) else normalizer  # [N, 1] or [1, 1]
    classes = torch.arange(num_classes, device=gt_labels.device)
    is_object = (gt_labels.unsqueeze(-1) == classes) & gt_mask.unsqueeze(-1)  # [N, M, K]
    return ClassDetail(
        (sums.foreground / divisor).sum(dim=0),
        (sums.background / divisor).sum(dim=0),
        sums.num_foreground.sum(dim=0),
        is_object.sum(dim=(0, 1)),
        sums.p_foreground.sum(),
        sums.p_background.sum(),
        targets.num_unmatched_gt.sum(),
    )


def sums_by_class(
    class_loss: ClassLoss,
    cls_logits: Sequence[Tensor],
    target_labels: Sequence[Tensor],
    quality: Sequence[Tensor] | None,
    *,
    num_classes: int,
) -> ClassSums:
    """Return the sums of any class loss by class, from its functions of one level.

    One level of one image at a time, so that what it needs in between is a few times [Rl, K] numbers, whatever the
    batch. Nothing is added up by index (whose order is open on a GPU): repeated runs give the same bits.

    Args:
        class_loss: the class loss.
        cls_logits: per level [N, Rl, C].
        target_labels: per level [N, Rl].
        quality: per level [N, Rl]; None where the loss does not use it.
        num_classes: K.
    """
    classes = torch.arange(num_classes, device=cls_logits[0].device)
    image_sums = []
    for image_idx in range(len(cls_logits[0])):
        image = slice(image_idx, image_idx + 1)
        logits, labels = ([level[image] for level in levels] for levels in (cls_logits, target_labels))
        image_quality = None if quality is None else [level[image] for level in quality]
        losses = class_loss.anchor_losses(logits, labels, image_quality)
        level_sums = [
            _sums(class_loss, x[0], level_labels[0], loss[0], classes)
            for x, level_labels, loss in zip(logits, labels, losses, strict=True)
        ]
        image_sums.append([torch.stack(parts).sum(dim=0) for parts in zip(*level_sums, strict=True)])
    return ClassSums(*(torch.stack(parts) for parts in zip(*image_sums, strict=True)))


def _sums(
    class_loss: ClassLoss, cls_logits: Tensor, target_labels: Tensor, anchor_loss: Tensor, classes: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the sums over one level of one image.

    Args:
        class_loss: the class loss.
        cls_logits: [Rl, C].
        target_labels: [Rl].
        anchor_loss: [Rl], 0 where an anchor was not selected.
        classes: [K] int64, 0 ... K-1.

    Returns:
        Class loss of foreground by class and of background by logit, number of foreground anchors by class, each [K];
        the target class's probability over foreground and the highest one over background anchors, each 0-dim.
    """
    # A background anchor whose loss is 0, for which the hardest ones are kept without it, adds nothing.
    background = (target_labels == BACKGROUND) & (anchor_loss != 0)
    terms = torch.where(background.unsqueeze(-1), class_loss.background_terms(cls_logits), 0.0)  # [Rl, K]
    is_own = target_labels.unsqueeze(-1) == classes  # [Rl, K], nowhere true for anchors without object
    own_loss = torch.where(is_own, anchor_loss.unsqueeze(-1), 0.0)
    probabilities = class_loss.probabilities(cls_logits)
    highest = torch.where(target_labels == BACKGROUND, probabilities.amax(dim=-1), 0.0)
    return (
        own_loss.sum(dim=0, dtype=torch.float64),
        terms.sum(dim=0, dtype=torch.float64),
        is_own.sum(dim=0),
        torch.where(is_own, probabilities, 0.0).sum(dtype=torch.float64),
        highest.sum(dtype=torch.float64),
    )
