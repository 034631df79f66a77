"""Schema of ``data``: files, sizes, batches and augmentation."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from detector.config.base import Auto, NonNegativeInt, PositiveInt, Section


class SplitConfig(Section):
    """One split of the dataset in COCO format."""

    annotations: str
    """COCO JSON file."""
    images: str
    """Folder that the file names in the annotations are relative to."""


class DataConfig(Section):
    """Files, sizes, batches and augmentation."""

    train: SplitConfig
    """Images to learn from."""
    val: SplitConfig
    """Images to be scored on."""
    short_side: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (800,)
    """Target length of the shorter image side in pixels; training draws one of them per image, evaluation uses the
    largest unless `eval.short_side` says otherwise."""
    max_side: PositiveInt = 1333
    """The longer side never exceeds this; the scale is reduced where it would."""
    batch_size: PositiveInt = 16
    """Images per optimiser step over all processes and micro-batches."""
    images_per_forward: Auto | PositiveInt = "auto"
    """Images that one process forwards at once; auto = batch_size / processes. Gradients of
    batch_size / (processes * images_per_forward) forwards are accumulated."""
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
    on_unreadable: Literal["stop", "skip"] = "stop"
    """What to do in training when an image cannot be read: stop and name it, or name it and use the next image."""

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
