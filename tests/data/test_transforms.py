import pickle
import random
import subprocess
import sys
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from detector.data.transforms import Transforms, build_transforms
from detector.errors import UserError
from detector.structures import Sample

RANDOM_TRANSFORMS: list[dict[str, Any]] = [
    {"name": "HorizontalFlip", "p": 0.5},
    {"name": "Affine", "rotate": [-20, 20], "translate_percent": [-0.1, 0.1], "p": 0.8},
    {"name": "OneOf", "transforms": [{"name": "HueSaturationValue"}, {"name": "GaussNoise"}, {"name": "ISONoise"}]},
    {"name": "RandomOrder", "n": 2, "transforms": [{"name": "ColorJitter"}, {"name": "RandomFog"}, {"name": "CLAHE"}]},
    {"name": "GridDropout", "p": 0.3, "random_offset": True, "fill": "random"},
    {"name": "CoarseDropout", "fill": "random"},
    {"name": "ShotNoise", "p": 0.5},
    {"name": "PixelDropout", "p": 0.3},
    {"name": "Spatter", "p": 0.5},
    {"name": "GlassBlur", "p": 0.3},
]


def make_sample(num_boxes: int = 3, height: int = 60, width: int = 80) -> Sample:
    generator = np.random.default_rng(1)
    corners = generator.uniform(0, 30, (num_boxes, 2))
    return Sample(
        image=generator.integers(0, 256, (height, width, 3), dtype=np.uint8),
        boxes=np.concatenate([corners, corners + generator.uniform(5, 25, (num_boxes, 2))], axis=1).astype(np.float32),
        labels=np.arange(num_boxes, dtype=np.int64) + 2**33,
        ignore=np.arange(num_boxes) % 2 == 1,
        image_id=42,
        original_size=(height, width),
    )


def assert_same(actual: Sample, expected: Sample) -> None:
    for name in ("image", "boxes", "labels", "ignore"):
        np.testing.assert_array_equal(getattr(actual, name), getattr(expected, name), err_msg=name)
        assert getattr(actual, name).dtype == getattr(expected, name).dtype, name
    assert actual.image_id == expected.image_id
    assert actual.original_size == expected.original_size


def test_no_transforms_return_the_sample_itself() -> None:
    sample = make_sample()
    assert build_transforms(())(sample, (0, 0)) is sample


def test_boxes_labels_and_ignore_regions_follow_a_flip() -> None:
    sample = make_sample()
    flipped = build_transforms([{"name": "HorizontalFlip", "p": 1.0}])(sample, (0, 0))
    np.testing.assert_array_equal(flipped.image, sample.image[:, ::-1])
    expected = np.stack([80 - sample.boxes[:, 2], sample.boxes[:, 1], 80 - sample.boxes[:, 0], sample.boxes[:, 3]], 1)
    np.testing.assert_allclose(flipped.boxes, expected, atol=1e-4)  # albumentations computes in relative float32
    assert_same(replace(flipped, image=sample.image, boxes=sample.boxes), sample)
    assert flipped.image.flags.c_contiguous


def test_whole_pixel_boxes_cover_the_same_pixels_after_every_symmetry() -> None:
    sample = make_sample(0)
    sample.image[:] = 0
    sample.image[10:25, 30:70] = 255
    sample = replace(sample, boxes=np.float32([[30, 10, 70, 25]]), labels=np.int64([0]), ignore=np.array([False]))
    transforms = build_transforms([{"name": "D4", "p": 1}])
    seen = set()
    for position in range(60):
        moved = transforms(sample, (0, position))
        rows, columns = np.nonzero(moved.image[..., 0])
        covered = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(moved.boxes[0], covered, atol=1e-4)
        seen.add((moved.image.shape, *map(int, covered)))
    assert len(seen) == 8


def test_a_sample_depends_on_seed_and_position_and_nothing_else() -> None:
    sample = make_sample()
    first, second = build_transforms(RANDOM_TRANSFORMS), build_transforms(RANDOM_TRANSFORMS)
    expected = [first(sample, (5, position)) for position in range(12)]
    for position in reversed(range(12)):
        random.seed(position)
        np.random.seed(position)  # noqa: NPY002 -- the global state must have no influence
        assert_same(second(sample, (5, position)), expected[position])
    assert any(not np.array_equal(expected[0].image, other.image) for other in expected[1:])
    assert not np.array_equal(first(sample, (6, 0)).image, expected[0].image)


def test_transforms_of_one_pipeline_are_independent_of_each_other() -> None:
    sample = make_sample(0, height=2, width=2)
    sample.image[:] = np.arange(4).reshape(2, 2, 1)
    transforms = build_transforms([{"name": "HorizontalFlip", "p": 0.5}, {"name": "VerticalFlip", "p": 0.5}])
    corners = [int(transforms(sample, (0, position)).image[0, 0, 0]) for position in range(200)]
    # Seeding each transform alike would make both flip or neither.
    assert all(25 < corners.count(corner) < 75 for corner in range(4))


def test_a_pipeline_survives_pickling() -> None:
    sample = make_sample()
    transforms = build_transforms(RANDOM_TRANSFORMS)
    copy = pickle.loads(pickle.dumps(transforms))
    assert_same(copy(sample, (1, 2)), transforms(sample, (1, 2)))


def test_boxes_that_leave_the_image_vanish_with_their_labels() -> None:
    sample = make_sample(0)
    boxes = np.float32([[0, 0, 10, 10], [40, 30, 60, 50], [35, 5, 45, 10], [0, 0, 40.0005, 5]])
    sample = replace(sample, boxes=boxes, labels=np.array([7, 8, 9, 10]), ignore=np.array([False, False, True, False]))
    crop = {"name": "Crop", "x_min": 40, "y_min": 0, "x_max": 80, "y_max": 60}
    cropped = build_transforms([crop])(sample, (0, 0))
    assert cropped.image.shape == (60, 40, 3)
    np.testing.assert_allclose(cropped.boxes, [[0, 30, 20, 50], [0, 5, 5, 10]], atol=1e-4)
    assert cropped.labels.tolist() == [8, 9]
    assert cropped.ignore.tolist() == [False, True]
    assert cropped.original_size == (60, 80)


@pytest.mark.parametrize("num_boxes", [0, 1])
def test_no_box_left_gives_empty_arrays_of_the_right_types(num_boxes: int) -> None:
    crop = {"name": "Crop", "x_min": 70, "y_min": 55, "x_max": 80, "y_max": 60}
    cropped = build_transforms([crop])(make_sample(num_boxes), (0, 0))
    assert cropped.boxes.shape == (0, 4)
    assert (cropped.boxes.dtype, cropped.labels.dtype, cropped.ignore.dtype) == (np.float32, np.int64, np.bool_)
    assert cropped.labels.shape == cropped.ignore.shape == (0,)


@pytest.mark.parametrize("name", ["RandomBrightnessContrast", "OneOf"])
def test_colour_transforms_alone_leave_boxes_untouched(name: str) -> None:
    entry: dict[str, Any] = {"name": name, "p": 1}
    if name == "OneOf":
        entry["transforms"] = [{"name": "RandomBrightnessContrast", "p": 1}]
    sample = make_sample()
    changed = build_transforms([entry])(sample, (0, 0))
    assert not np.array_equal(changed.image, sample.image)
    assert_same(replace(changed, image=sample.image), sample)


def test_degenerate_boxes_are_dropped_instead_of_raising() -> None:
    sample = make_sample(0)
    boxes = np.float32([[-5, -5, 10, 10], [5, 5, 5, 9], [90, 90, 99, 99], [9, 9, 3, 3]])
    sample = replace(sample, boxes=boxes, labels=np.arange(4), ignore=np.zeros(4, dtype=np.bool_))
    moved = build_transforms([{"name": "VerticalFlip", "p": 1}])(sample, (0, 0))
    assert moved.labels.tolist() == [0]
    np.testing.assert_allclose(moved.boxes, [[0, 50, 10, 60]], atol=1e-4)


ORIGINS: Mapping[tuple[str | int, ...], str] = {
    ("data", "augment", 0, "name"): "configs/x.yaml:31",
    ("data", "augment", 0, "p"): "configs/x.yaml:32",
    ("data", "augment", 0, "prob"): "configs/x.yaml:33",
}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"name": "HorizontalFlp"},
            r"^configs/x\.yaml:31: data\.augment\[0\] HorizontalFlp: .*did you mean HorizontalFl",
        ),
        ({"name": "horizontalflip"}, r"did you mean HorizontalFlip"),
        ({"name": "Zzz"}, r"albumentations 2\.0\.8 has no such transform of images$"),
        ({"name": "BboxParams"}, r"has no such transform of images"),
        ({"name": "CenterCrop3D"}, r"has no such transform of images"),
        ({"name": "DualTransform"}, r"has no such transform of images"),
        (
            {"name": "HorizontalFlip", "prob": 0.5},
            r"^configs/x\.yaml:33: data\.augment\[0\] HorizontalFlip: unknown argument prob \(it takes p\)",
        ),
        (
            {"name": "HorizontalFlip", "p": 2},
            r"^configs/x\.yaml:32: data\.augment\[0\] HorizontalFlip: p: Input should be less than .* found 2$",
        ),
        (
            {"name": "Affine", "rotation": 5},
            r"Affine: unknown argument rotation; did you mean rotate\? \(it takes scale, ",
        ),
        ({"name": "RandomCrop"}, r"RandomCrop: height: Field required; width: Field required$"),
        ({"name": "RandomBrightnessContrast", "brightness_limit": "a"}, r"brightness_limit.* found 'a'"),
        ({"name": "Blur", "blur_limit": [4, 6]}, r"Blur: .*odd"),
        ({"p": 0.5}, r"data\.augment\[0\]: expected \{name: TRANSFORM, .*found \{'p': 0\.5\}"),
        ({"name": "Normalize"}, r"Normalize: cannot be used here: images must stay uint8"),
        ({"name": "Mosaic"}, r"Mosaic: it needs mosaic_metadata, which a detection dataset does not have"),
        ({"name": "MaskDropout"}, r"MaskDropout: it needs mask, which"),
        ({"name": "OneOf"}, r"OneOf: expected a list of transforms, found None"),
        ({"name": "OneOf", "transforms": [{"name": "Zzz"}]}, r"data\.augment\[0\]\.transforms\[0\] Zzz: "),
    ],
)
def test_wrong_entries_are_errors_that_name_line_and_transform(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_transforms([entry], ORIGINS)


def test_all_wrong_entries_are_listed_together() -> None:
    with pytest.raises(UserError) as error:
        build_transforms([{"name": "Foo"}, {"name": "HorizontalFlip"}, {"name": "VerticalFlip", "q": 1}])
    lines = str(error.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["data.augment[0] Foo", "data.augment[2] VerticalFlip"]


def test_an_overridden_list_is_named_by_the_origin_of_the_list() -> None:
    with pytest.raises(UserError, match=r"^the command line: data\.augment\[0\] Foo: "):
        build_transforms([{"name": "Foo"}], {("data", "augment"): "the command line"})


def test_a_transform_that_fails_on_an_image_names_the_image() -> None:
    transforms = build_transforms([{"name": "RandomCrop", "height": 100, "width": 10}])
    with pytest.raises(UserError, match=r"data\.augment \(RandomCrop\): image id 42 of 60x80: failed: .*\(100, 10\)"):
        transforms(make_sample(), (0, 0))


def test_a_transform_that_changes_the_kind_of_image_is_refused() -> None:
    transforms = build_transforms([{"name": "ToGray", "num_output_channels": 1, "p": 1}])
    with pytest.raises(
        UserError, match=r"ToGray.* image id 42 .*gave a uint8 image of shape .* instead of uint8 with 3"
    ):
        transforms(make_sample(), (0, 0))


def test_a_deprecated_transform_still_works() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(build_transforms([{"name": "ShiftScaleRotate"}]), Transforms)


def test_albumentations_is_imported_only_when_there_is_a_transform_to_build() -> None:
    code = (
        "import os, sys; os.environ.pop('NO_ALBUMENTATIONS_UPDATE', None)\n"
        "from detector.data.transforms import build_transforms\n"
        "build_transforms(()); assert 'albumentations' not in sys.modules\n"
        "build_transforms(({'name': 'HorizontalFlip'},))\n"
        "assert os.environ['NO_ALBUMENTATIONS_UPDATE'] == '1' and 'albumentations' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
