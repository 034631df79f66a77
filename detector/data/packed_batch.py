"""A batch on its way from the process that made it to the one that trains."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from detector.data.buffers import BatchBuffers, find_buffers
from detector.data.collate import PaddedTargets, pad_targets
from detector.structures import Batch, Sample, Size


@dataclass(frozen=True, slots=True)
class InSlot:
    """Where pixels lie.

    Attributes:
        key: of the :class:`~detector.data.buffers.BatchBuffers`.
        slot: in them.
        shape: (N, H, W, 3).
    """

    key: int
    slot: int
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """What is sent: where the pixels lie, and the small rest by value, which costs less than sharing its memory.

    Attributes:
        images: place of the pixels, or [N, H, W, 3] uint8 where no slot was free.
        sizes: the (height, width) that each image fills.
        targets: ground truth.
        image_ids: ids of the images in the annotation file.
        original_sizes: stored size of each image.
    """

    images: InSlot | Tensor
    sizes: tuple[Size, ...]
    targets: PaddedTargets
    image_ids: tuple[int, ...]
    original_sizes: tuple[Size, ...]

    @classmethod
    def pack(
        cls, samples: Sequence[Sample], pixels: npt.NDArray[np.uint8], buffers: BatchBuffers, slot: int | None
    ) -> Self:
        """Pack resized samples.

        Args:
            samples: N samples; their images are in ``pixels`` already.
            pixels: [N, H, W, 3]; the beginning of ``slot`` where there is one.
            buffers: what ``slot`` belongs to.
            slot: None for pixels in memory of their own.
        """
        in_slot = None if slot is None else InSlot(buffers.key, slot, pixels.shape)
        return cls(
            images=in_slot or torch.from_numpy(pixels),
            sizes=tuple((sample.image.shape[0], sample.image.shape[1]) for sample in samples),
            targets=pad_targets(samples),
            image_ids=tuple(sample.image_id for sample in samples),
            original_sizes=tuple(sample.original_size for sample in samples),
        )

    def unpack(self) -> Batch:
        """Return the batch, with pixels where they lie; call it once, in the process that made the buffers."""
        images = self.images
        if isinstance(images, InSlot):
            flat = find_buffers(images.key).tensor(images.slot, int(np.prod(images.shape)))
            images = flat.view(images.shape)
        return Batch(
            images=images,
            sizes=torch.tensor(self.sizes, dtype=torch.int64),
            gt_boxes=torch.from_numpy(self.targets.boxes),
            gt_labels=torch.from_numpy(self.targets.labels),
            gt_mask=torch.from_numpy(self.targets.mask),
            gt_ignore=torch.from_numpy(self.targets.ignore),
            image_ids=self.image_ids,
            original_sizes=self.original_sizes,
        )
