"""Repeat-factor sampling: images of rare classes are dealt more often.

Letters: I images, K classes.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detector.config import DataConfig
from detector.data.annotations import AnnotationTable
from detector.data.order import group_images, images_per_epoch
from detector.structures import Categories

_NUM_NAMED = 5

Factors = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class RepeatFactors:
    """How often images are dealt.

    Attributes:
        of_image: [I] at least 1: how many times as often as an image of frequent classes.
        of_class: [K] at least 1; 1 for a class without images.
        num_images: [K] int64, images that contain the class.
        images_per_epoch: images that one epoch deals, repeated ones counted each time.
    """

    of_image: Factors
    of_class: Factors
    num_images: npt.NDArray[np.int64]
    images_per_epoch: int


def build_repeat_factors(data: DataConfig, table: AnnotationTable) -> RepeatFactors | None:
    """Return the repeat factors of the training images; None where ``data.repeat_thresh`` is off."""
    if data.repeat_thresh is None:
        return None
    image_index = np.repeat(np.arange(len(table)), table.box_offsets.diff().numpy())
    objects = ~table.ignore.numpy()
    of_image, of_class, num_images = compute_repeat_factors(
        image_index[objects], table.labels.numpy()[objects], (len(table), len(table.categories)), data.repeat_thresh
    )
    groups = group_images(table.sizes.numpy(), by_aspect=data.aspect_grouping)
    return RepeatFactors(of_image, of_class, num_images, images_per_epoch(groups, of_image))


def compute_repeat_factors(
    image_index: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], shape: tuple[int, int], thresh: float
) -> tuple[Factors, Factors, npt.NDArray[np.int64]]:
    """Compute how often images are to be repeated.

    Gupta, Dollar, Girshick 2019, "LVIS", Appendix B.2: with f(c) the fraction of the images that contain class c, the
    factor of a class is r(c) = max(1, sqrt(t / f(c))) and that of an image the largest among its classes. Ignore
    regions are not given here: they do not say that an image contains the class.

    Args:
        image_index: [B] row of each object's image.
        labels: [B] its class.
        shape: (I, K).
        thresh: t in (0, 1).

    Returns:
        Factors of images [I] (1 without objects) and of classes [K], and the images with each class [K].
    """
    num_images, num_classes = shape
    pairs = np.unique(image_index * num_classes + labels)
    rows, classes = np.divmod(pairs, num_classes)
    counts = np.bincount(classes, minlength=num_classes)
    of_class = np.ones(num_classes)
    seen = counts > 0
    of_class[seen] = np.maximum(1.0, np.sqrt(thresh / (counts[seen] / num_images)))
    of_image = np.ones(num_images)
    np.maximum.at(of_image, rows, of_class[classes])
    return of_image, of_class, counts


def describe_repeat_factors(repeats: RepeatFactors, categories: Categories) -> str:
    """Return a line for the start-up report."""
    repeated = [label for label in np.argsort(-repeats.of_class, kind="stable") if repeats.of_class[label] > 1]
    if not repeated:
        return "repeat factors: none, as no class is in less than data.repeat_thresh of the images"
    rarest = [
        f"{categories.names[label]} {repeats.of_class[label]:.3g} ({repeats.num_images[label]} images)"
        for label in repeated[:_NUM_NAMED]
    ]
    return (
        f"repeat factors: {len(repeated)} of {len(categories)} classes repeated up to "
        f"{repeats.of_class.max():.3g} times, {len(repeats.of_image):,} -> {repeats.images_per_epoch:,} images an "
        f"epoch; rarest: {', '.join(rarest)}"
    )
