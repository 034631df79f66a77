import numpy as np
import pytest

from detector.data.transforms import Transforms
from detector.structures import Sample


def random_sample(generator: np.random.Generator, boxes: np.ndarray | None = None) -> Sample:
    """A sample with boxes inside, across and outside of the image, and with some that are hardly there."""
    height, width = generator.integers(5, 90, 2)
    if boxes is None:
        m = int(generator.integers(0, 7))
        corners = generator.uniform(-20, 90, (m, 2))
        sides = generator.choice([1e-5, 2e-4, 1e-3, 0.02, 1, 30, 200], (m, 2)) * generator.uniform(0.5, 2, (m, 2))
        boxes = np.concatenate([corners, corners + sides], axis=1)
        boxes[::3] = np.clip(boxes[::3], 0, [width, height, width, height])
        boxes = boxes.astype(np.float32)
        boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)]
    m = len(boxes)
    return Sample(
        image=generator.integers(0, 256, (height, width, 3), dtype=np.uint8),
        boxes=boxes.astype(np.float32),
        labels=generator.integers(0, 9, m),
        ignore=generator.random(m) < 0.3,
        image_id=7,
        original_size=(int(height), int(width)),
    )


def by_albumentations(p: float) -> Transforms:
    """The same pipeline without the short way."""
    transforms = Transforms(({"name": "HorizontalFlip", "p": p},))
    assert transforms._flip is not None
    transforms._flip = None
    return transforms


@pytest.mark.parametrize("p", [0, 0.5, 1])
def test_a_flip_is_that_of_albumentations_to_the_last_bit(p: float) -> None:
    generator = np.random.default_rng(3)
    short, reference = Transforms(({"name": "HorizontalFlip", "p": p},)), by_albumentations(p)
    num_flipped = num_dropped = 0
    for position in range(150):
        sample = random_sample(generator)
        actual, expected = short(sample, (5, position)), reference(sample, (5, position))
        for name in ("image", "boxes", "labels", "ignore"):
            assert getattr(actual, name).dtype == getattr(expected, name).dtype
            np.testing.assert_array_equal(getattr(actual, name), getattr(expected, name), err_msg=f"{position} {name}")
        num_flipped += not np.array_equal(actual.image, sample.image)
        num_dropped += len(sample.boxes) - len(actual.boxes)
    assert num_dropped > 40
    assert {0: num_flipped == 0, 0.5: 50 < num_flipped < 100, 1: num_flipped > 140}[p]


def test_the_sample_that_is_flipped_stays_as_it_is() -> None:
    sample = random_sample(np.random.default_rng(0))
    image, boxes = sample.image.copy(), sample.boxes.copy()
    Transforms(({"name": "HorizontalFlip", "p": 1},))(sample, (0, 0))
    np.testing.assert_array_equal(sample.image, image)
    np.testing.assert_array_equal(sample.boxes, boxes)


def test_boxes_without_area_go_the_way_of_albumentations() -> None:
    boxes = np.array([[3, 3, 1, 1], [0, 0, 4, 4], [2, 1, 2, 5]])
    sample = random_sample(np.random.default_rng(1), boxes)
    actual = Transforms(({"name": "HorizontalFlip", "p": 1},))(sample, (0, 0))
    np.testing.assert_array_equal(actual.boxes, by_albumentations(1)(sample, (0, 0)).boxes)


@pytest.mark.parametrize(
    "augment",
    [
        (),
        ({"name": "VerticalFlip"},),
        ({"name": "HorizontalFlip"}, {"name": "HorizontalFlip"}),
        ({"name": "Sequential", "transforms": [{"name": "HorizontalFlip"}]},),
        ({"name": "HueSaturationValue"},),
    ],
)
def test_all_other_pipelines_are_left_to_albumentations(augment: tuple[dict[str, object], ...]) -> None:
    assert Transforms(augment)._flip is None
