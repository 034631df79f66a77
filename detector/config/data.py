"""Schema of ``data``: files, sizes, batches and augmentation."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from detector.config.base import Auto, NonEmptyStr, NonNegativeInt, OpenFraction, PositiveInt, Section

FormatName = Literal["auto", "coco", "voc", "yolo", "csv"]


class SplitConfig(Section):
    """One split of the dataset: a COCO file with its images, or the path of a dataset in any format."""

    annotations: NonEmptyStr | None = None
    """COCO JSON file; in place of `path`."""
    images: NonEmptyStr | None = None
    """Folder that the file names in the annotations are relative to. With `path` null = where the format has it."""
    path: NonEmptyStr | None = None
    """Folder or file of a dataset: Pascal VOC (Annotations, JPEGImages, ImageSets), YOLO (folder or data.yaml), COCO
    (folder or JSON) or CSV (path,x1,y1,x2,y2,class)."""
    format: FormatName = "auto"
    """How it is written; auto = found out by looking."""
    split: NonEmptyStr | None = None
    """Part of it: the name of a VOC image set, of a split of data.yaml, of a folder; null = all, or the only one."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.annotations is not None and self.path is not None:
            raise ValueError("exactly one of .annotations and .path is needed, both are set")
        if self.annotations is None and self.path is None:
            raise ValueError(
                "exactly one of .path and .annotations is needed, neither is set; .path names the folder or file of a "
                "dataset in any format"
            )
        if self.annotations is not None:
            if self.images is None:
                raise ValueError(".images: the folder of the images is needed beside .annotations")
            if self.format not in ("auto", "coco"):
                raise ValueError(f".format: {self.format} does not go with .annotations, a COCO file; use .path")
            if self.split is not None:
                raise ValueError(f".split: {self.split} does not go with .annotations, one whole file; use .path")
        return self


class HoldoutConfig(Section):
    """A part of the training images that is held out to be scored on, where there is no validation set."""

    fraction: OpenFraction = 0.2
    """Part of the images."""
    seed: NonNegativeInt = 0
    """Decides which; apart from the run's `seed`, so that runs with other seeds hold out the same images."""
    group: str | None = None
    """Regular expression on the file name: images with the same match (of its first group, if it has one) stay on one
    side, such as `^(patient[0-9]+)_`. Images without a match stand alone; null = every image stands alone."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.group is not None:
            try:
                re.compile(self.group)
            except re.error as error:
                raise ValueError(f".group: {self.group!r} is no regular expression: {error}") from error
        return self


class DataConfig(Section):
    """Files, sizes, batches and augmentation."""

    train: SplitConfig
    """Images to learn from."""
    val: SplitConfig | None = None
    """Images to be scored on; without it `holdout` is needed."""
    holdout: HoldoutConfig | None = None
    """Hold a part of `train` out to be scored on, in place of `val`."""
    classes: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Train and score only these classes, by name; boxes of others are left out. null = all."""
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Part of the training images to use, drawn by `seed`."""
    empty_images: Literal["keep", "drop"] | Annotated[float, Field(ge=0, lt=1)] = "keep"
    """Training images without boxes: keep all, drop all, or a number: keep so many, drawn by `seed`, that they are at
    most this part of the images."""
    repeat_thresh: OpenFraction | None = None
    """Repeat images of rare classes (repeat-factor sampling, LVIS): images with a class that only a part f of them
    contains, f below this, are dealt sqrt(repeat_thresh / f) times as often. An epoch is then longer: as many images as
    it deals, repeated ones counted each time. null = off."""
    short_side: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (800,)
    """Target length of the shorter image side in pixels; training draws one of them per image, evaluation uses the
    largest unless `eval.short_side` says otherwise."""
    max_side: PositiveInt = 1333
    """The longer side never exceeds this; the scale is reduced where it would."""
    batch_size: PositiveInt = 16
    """Images per optimiser step over all processes and micro-batches."""
    images_per_forward: Auto | PositiveInt = "auto"
    """Images that one process forwards at once; auto = batch_size / processes, on a GPU as many of them as fit into its
    memory, tried when a run begins. The gradients of batch_size / (processes * images_per_forward) forwards are added
    up, so the batch stays the same."""
    num_workers: NonNegativeInt = 4
    """Loader processes per training process; 0 loads in the training process. Changes no number."""
    pad_multiple: PositiveInt = 32
    """Batches are padded, bottom and right, to a multiple of this."""
    buckets: tuple[tuple[PositiveInt, PositiveInt], ...] | None = None
    """Padded shapes [[height, width], ...] to choose the smallest fitting one from, instead of `pad_multiple`; for
    compilation and CUDA graphs. Images larger than every bucket are an error."""
    aspect_grouping: bool = True
    """Batch landscape with landscape and portrait with portrait images: less padding."""
    augment: tuple[dict[str, Any], ...] = ({"name": "HorizontalFlip", "p": 0.5},)
    """albumentations transforms in order, each `{name: ..., argument: value}`, applied to the original image before
    the resize. Bounding boxes follow."""
    cache: Literal["none", "ram"] = "none"
    """ram: decode all images once, before training starts, and keep them in memory: height * width * 3 bytes each, once
    per training process. Changes no number."""
    on_unreadable: Literal["stop", "skip"] = "stop"
    """What to do in training when an image cannot be read: stop and name it, or name it and use the next image.
    Where the dataset does not give the size of an image (YOLO, CSV), it is read before training starts: a file whose
    size cannot be read stops the run in any case."""
    max_unreadable: NonNegativeInt = 100
    """Different images that a process may skip with `on_unreadable: skip` before it stops: more of them mean that the
    disk or the dataset is broken. Counted anew from every start of the run."""

    @model_validator(mode="after")
    def _check_splits(self) -> Self:
        if (self.val is None) == (self.holdout is None):
            found = "both are set" if self.val is not None else "neither is set"
            raise ValueError(
                f"data: exactly one of data.val and data.holdout is needed, {found}; without a validation set, "
                "data.holdout.fraction=0.2 holds a part of data.train out"
            )
        return self

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if max(self.short_side) > self.max_side:
            raise ValueError(
                f"data.short_side: {max(self.short_side)} is larger than data.max_side = {self.max_side}, "
                "so that size could never be reached"
            )
        if isinstance(self.images_per_forward, int) and self.batch_size % self.images_per_forward:
            raise ValueError(
                f"data.images_per_forward: {self.images_per_forward} does not divide data.batch_size = "
                f"{self.batch_size}"
            )
        return self
