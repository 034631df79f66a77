"""Augmentation: albumentations transforms named in the configuration, seeded per sample.

albumentations 2.0.8 keeps random state that repeats in every loader worker, and its ``set_random_seed`` hands the same
seed to every transform, so that two flips of one pipeline would always agree. Here one generator, seeded with
(seed, position), is shared by all transforms of a sample: nothing else decides what happens to it.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from detector.data.horizontal_flip import find_horizontal_flip, has_area
from detector.data.transform_building import Origins, build_pipeline
from detector.errors import UserError
from detector.structures import Sample

MIN_BOX_SIDE = 1e-3
"""Boxes with a side of at most this many pixels after the transforms are dropped: nothing of them is left to see."""


class Transforms:
    """A pipeline that augments one sample; without transforms it returns the sample as it is.

    Boxes, labels and ignore regions follow the image; boxes are clipped to it and vanish when they leave it.
    ``original_size`` is kept. Pickling stores the entries of the configuration, and a worker builds the pipeline anew.

    Args:
        augment: entries ``{"name": ..., argument: value, ...}``; ``OneOf``, ``SomeOf``, ``RandomOrder`` and
            ``Sequential`` take a list of such entries as ``transforms``.
        origins: where each entry was written, for error messages; keys like ``("data", "augment", 0, "p")``.

    Raises:
        UserError: a name or an argument is wrong; all wrong entries are listed, each with its origin.
    """

    def __init__(self, augment: Sequence[Mapping[str, Any]], origins: Origins | None = None) -> None:
        self._augment = tuple(dict(entry) for entry in augment)
        self._pipeline = build_pipeline(self._augment, origins or {}) if self._augment else None
        self._flip = find_horizontal_flip(self._pipeline)

    def __reduce__(self) -> tuple[type["Transforms"], tuple[tuple[dict[str, Any], ...]]]:
        return Transforms, (self._augment,)

    def __call__(self, sample: Sample, seed: tuple[int, int]) -> Sample:
        """Augment a sample.

        Args:
            sample: image and ground truth; M may be 0.
            seed: non-negative (seed, position); equal seeds give equal results on equal samples.

        Returns:
            The augmented sample, which may have another size and fewer boxes.

        Raises:
            UserError: a transform fails on this image, for example a crop that is larger than the image.
        """
        if self._pipeline is None:
            return sample
        if self._flip is not None and has_area(sample.boxes):
            flipped, numbers = self._flip(sample, _draws(np.random.default_rng(seed)))
            return _with_boxes(flipped, flipped.boxes, numbers)
        _seed_pipeline(self._pipeline, seed)
        # The boxes' numbers stand in for labels: label fields pass through float32, which garbles large integers.
        try:
            moved = self._pipeline(
                image=sample.image, bboxes=sample.boxes.astype(np.float64), numbers=np.arange(len(sample.boxes))
            )
        except Exception as error:  # what third-party transforms raise is not listed anywhere
            raise UserError(self._message(sample, f"failed: {error}")) from error
        image = np.ascontiguousarray(moved["image"])
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            found = f"gave a {image.dtype} image of shape {image.shape} instead of uint8 with 3 channels"
            raise UserError(self._message(sample, found))
        return _with_boxes(replace(sample, image=image), moved["bboxes"], moved["numbers"])

    def _message(self, sample: Sample, found: str) -> str:
        names = ", ".join(str(entry["name"]) for entry in self._augment)
        height, width = sample.image.shape[:2]
        return f"data.augment ({names}): image id {sample.image_id} of {height}x{width}: {found}"


def build_transforms(augment: Sequence[Mapping[str, Any]], origins: Origins | None = None) -> Transforms:
    """Build the pipeline of ``data.augment``, importing albumentations if there is a transform to build.

    Args:
        augment: entries ``{"name": ..., argument: value, ...}`` in order; empty = no augmentation.
        origins: where each entry was written, as in ``LoadedConfig.origins``.

    Returns:
        A callable ``(sample, (seed, position)) -> sample``.

    Raises:
        UserError: a name or an argument is wrong; all wrong entries are listed, each with its origin.
    """
    return Transforms(augment, origins)


def _seed_pipeline(pipeline: Any, seed: tuple[int, int]) -> None:
    generator = np.random.default_rng(seed)
    pipeline.set_random_state(generator, _draws(generator))
    cv2.setRNGSeed(int(generator.integers(2**31)))  # noise and clustering inside OpenCV


def _draws(generator: np.random.Generator) -> random.Random:
    """Return what albumentations' transforms decide by; the next draw of their other generator seeds it."""
    return random.Random(int(generator.integers(2**63)))


def _with_boxes(sample: Sample, boxes: Any, numbers: Any) -> Sample:
    """Set boxes that came back from albumentations, as arrays or empty lists, and what belongs to them."""
    boxes = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
    numbers = np.asarray(numbers, dtype=np.int64).reshape(-1)
    visible = (boxes[:, 2:] - boxes[:, :2] > MIN_BOX_SIDE).all(axis=1)
    kept = numbers[visible]
    return replace(sample, boxes=boxes[visible], labels=sample.labels[kept], ignore=sample.ignore[kept])
