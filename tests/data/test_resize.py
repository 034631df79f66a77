from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.data.resize import resize_sample, resized_size
from detector.structures import Sample, Size

sides = st.integers(1, 5000)


def sample_of(size: Size, boxes: list[list[float]]) -> Sample:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    return Sample(
        image=image,
        boxes=np.asarray(boxes, dtype=np.float32).reshape(-1, 4),
        labels=np.zeros(len(boxes), dtype=np.int64),
        ignore=np.zeros(len(boxes), dtype=np.bool_),
        image_id=7,
        original_size=size,
    )


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (800, 1067)),  # 640 * 800 / 480 = 1066.67
        ((640, 480), (1067, 800)),
        ((500, 1000), (667, 1333)),  # the long side decides: 500 * 1.333 = 666.5, half is rounded up
        ((800, 800), (800, 800)),
        ((1, 5000), (1, 1333)),  # 0.27 px would be none at all
    ],
)
def test_resized_size_of_known_sizes(size: Size, expected: Size) -> None:
    assert resized_size(size, 800, 1333) == expected


@given(sides, sides, st.integers(1, 1000), st.integers(0, 1000))
def test_resized_size_reaches_one_limit_and_exceeds_none(h: int, w: int, short_side: int, more: int) -> None:
    max_side = short_side + more
    new = resized_size((h, w), short_side, max_side)
    assert min(new) >= 1
    assert min(new) <= short_side
    assert max(new) <= max_side
    assert min(new) == short_side or max(new) == max_side
    scale = min(short_side / min(h, w), max_side / max(h, w))
    # The float formula may fall on the other side of an exact half; elsewhere the two agree.
    for side, new_side in zip((h, w), new, strict=True):
        assert new_side in {max(1, floor(side * scale + 0.5 + error)) for error in (-1e-9, 1e-9)}


def test_boxes_scale_by_the_exact_ratio_of_each_axis() -> None:
    sample = sample_of((30, 40), [[0, 0, 40, 30], [10, 6, 20, 15]])
    resized = resize_sample(sample, (61, 80))
    assert resized.image.shape == (61, 80, 3)
    assert resized.boxes.dtype == np.float32
    expected = np.float32([[0, 0, 80, 61], [20, 6 * 61 / 30, 40, 30.5]])
    np.testing.assert_array_equal(resized.boxes, expected)
    assert resized.original_size == (30, 40)
    assert resized.image_id == 7


def test_shrinking_by_a_whole_factor_averages_blocks() -> None:
    sample = sample_of((40, 60), [])
    resized = resize_sample(sample, (10, 15))
    means = sample.image.reshape(10, 4, 15, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(resized.image, means, atol=0.51)
    assert resized.boxes.shape == (0, 4)


def test_growing_interpolates_between_neighbours() -> None:
    sample = sample_of((1, 2), [])
    sample.image[0, 0], sample.image[0, 1] = 0, 200
    np.testing.assert_array_equal(resize_sample(sample, (2, 4)).image[0, :, 0], [0, 50, 150, 200])


def test_a_sample_of_the_right_size_is_returned_as_it_is() -> None:
    sample = sample_of((8, 9), [[1, 2, 3, 4]])
    assert resize_sample(sample, (8, 9)) is sample
