import numpy as np
import pytest

from detector.data.batch_pixels import BatchPixels
from detector.data.collate import collate
from detector.data.padding import Padding
from detector.data.resize import resize_into, resize_sample
from detector.errors import UserError
from detector.structures import Sample, Size


def sample_of(size: Size, seed: int = 0) -> Sample:
    generator = np.random.default_rng(seed)
    return Sample(
        image=generator.integers(1, 256, (*size, 3), dtype=np.uint8),
        boxes=np.array([[1, 2, 5, 6]], dtype=np.float32),
        labels=np.zeros(1, np.int64),
        ignore=np.zeros(1, np.bool_),
        image_id=1,
        original_size=size,
    )


def used_memory(num_bytes: int) -> np.ndarray:
    return USED[:num_bytes]


USED = np.full(200_000, 99, dtype=np.uint8)
"""As a batch before left it."""


@pytest.mark.parametrize("target", [(20, 31), (57, 90), (40, 60), (40, 17)])
def test_resizing_into_memory_is_resizing(target: Size) -> None:
    sample = sample_of((40, 60))
    block = np.full((2, 64, 96, 3), 99, dtype=np.uint8)
    resized = resize_into(sample, block[1, : target[0], : target[1]])
    expected = resize_sample(sample, target)
    np.testing.assert_array_equal(block[1, : target[0], : target[1]], expected.image)
    np.testing.assert_array_equal(resized.boxes, expected.boxes)
    assert (block[0] == 99).all()
    assert (block[1, target[0] :] == 99).all()
    assert (block[1, :, target[1] :] == 99).all()


@pytest.mark.parametrize("sizes", [[(30, 60), (64, 20)], [(64, 96), (64, 96)], [(20, 97), (64, 20)], [(3, 3), (65, 3)]])
def test_a_batch_is_that_of_collate_whatever_was_in_its_memory(sizes: list[Size]) -> None:
    samples = [sample_of((40, 50), seed) for seed in range(2)]
    pixels = BatchPixels(used_memory, 2, (64, 96))
    for sample, size in zip(samples, sizes, strict=True):
        pixels.add(sample, size)
    padding = Padding(32)
    resized = [resize_sample(sample, size) for sample, size in zip(samples, sizes, strict=True)]
    expected = collate(resized, padding.padded([(64, 96), *sizes])).images
    np.testing.assert_array_equal(pixels.finish(padding), expected.numpy())
    USED[:] = 99


def test_a_grown_batch_must_fit_a_bucket() -> None:
    pixels = BatchPixels(used_memory, 1, (32, 64))
    pixels.add(sample_of((40, 50)), (40, 50))
    with pytest.raises(UserError, match=r"data\.buckets: .* fits in none of the buckets 32x64"):
        pixels.finish(Padding(1, ((32, 64),)))
