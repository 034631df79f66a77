import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torchvision.models.detection.anchor_utils import AnchorGenerator as TorchvisionAnchors
from torchvision.models.detection.image_list import ImageList

from detector.anchors import AnchorGenerator, build_anchor_generator, make_cell_anchors
from detector.config import AnchorConfig

OCTAVES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))


def test_cell_anchors_have_the_sides_of_their_ratio() -> None:
    anchors = make_cell_anchors(32, scales=(1.0, 2.0), aspect_ratios=(0.25, 1.0, 4.0))
    expected = torch.tensor(
        [
            [-32.0, -8.0, 32.0, 8.0],  # ratio 1/4: 32 / sqrt(1/4) = 64 wide, 32 sqrt(1/4) = 16 high
            [-64.0, -16.0, 64.0, 16.0],  # the same, twice as large
            [-16.0, -16.0, 16.0, 16.0],
            [-32.0, -32.0, 32.0, 32.0],
            [-8.0, -32.0, 8.0, 32.0],  # ratio 4: higher than wide
            [-16.0, -64.0, 16.0, 64.0],
        ]
    )
    assert_close(anchors, expected, atol=0, rtol=0)


def test_area_does_not_depend_on_the_aspect_ratio() -> None:
    anchors = make_cell_anchors(32, OCTAVES, (0.5, 1.0, 2.0))
    sides = anchors[:, 2:] - anchors[:, :2]
    assert_close(sides.prod(dim=1), torch.tensor([(32 * scale) ** 2 for scale in OCTAVES] * 3))
    assert_close(sides[:, 1] / sides[:, 0], torch.tensor([0.5, 1.0, 2.0]).repeat_interleave(3))


def test_nothing_is_rounded() -> None:
    side = 32 * 2 ** (1 / 3)  # 40.317...: torchvision truncates to 40, and halves and rounds the corners
    corner = make_cell_anchors(32, OCTAVES, (1.0,))[1, 2]
    assert_close(corner.item(), side / 2, rtol=1e-6, atol=0)
    assert corner != round(side / 2)


def test_cell_anchors_are_torchvisions_before_rounding_and_in_the_same_order() -> None:
    ours = make_cell_anchors(64, OCTAVES, (0.5, 1.0, 2.0))
    theirs = TorchvisionAnchors().generate_anchors([64 * scale for scale in OCTAVES], [0.5, 1.0, 2.0])  # type: ignore[arg-type]
    assert_close(ours.round(), theirs, atol=0, rtol=0)


def test_grid_equals_literal_values() -> None:
    generator = AnchorGenerator(sizes=(8, 16), scales=(1.0,), aspect_ratios=(1.0,), strides=(4, 8))
    expected = torch.tensor(
        [
            [-4.0, -4.0, 4.0, 4.0],  # level 0: side 8 around (0, 0)
            [0.0, -4.0, 8.0, 4.0],  # one stride (4) to the right: x runs first
            [4.0, -4.0, 12.0, 4.0],
            [-4.0, 0.0, 4.0, 8.0],  # second row: one stride (4) down
            [0.0, 0.0, 8.0, 8.0],
            [4.0, 0.0, 12.0, 8.0],
            [-8.0, -8.0, 8.0, 8.0],  # level 1: side 16, stride 8
            [0.0, -8.0, 16.0, 8.0],
        ]
    )
    assert_close(generator([(2, 3), (1, 2)]), expected, atol=0, rtol=0)


def test_anchors_of_a_cell_are_neighbours_in_the_order() -> None:
    generator = AnchorGenerator()
    anchors = generator([(2, 2), (1, 1), (1, 1), (1, 1), (1, 1)])
    assert anchors.shape == ((4 + 4) * 9, 4)
    assert_close(anchors[9:18], generator.cell_anchors[0] + torch.tensor([8.0, 0.0, 8.0, 0.0]), atol=0, rtol=0)
    assert_close(anchors[36:45], generator.cell_anchors[1], atol=0, rtol=0)


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_offset_moves_the_centres_by_a_part_of_each_levels_stride(offset: float) -> None:
    shapes = [(3, 5), (2, 3), (1, 2), (1, 1), (1, 1)]
    moved = AnchorGenerator(offset=offset)(shapes) - AnchorGenerator()(shapes)
    for level, stride in zip(moved.split([h * w * 9 for h, w in shapes]), (8, 16, 32, 64, 128), strict=True):
        assert_close(level, torch.full_like(level, offset * stride), atol=1e-4, rtol=0)


def test_grid_equals_torchvisions_for_the_same_cell_anchors() -> None:
    ours = AnchorGenerator()
    theirs = TorchvisionAnchors(sizes=((1, 2, 3),) * 5, aspect_ratios=((0.5, 1.0, 2.0),) * 5)  # type: ignore[arg-type]
    theirs.cell_anchors = list(ours.cell_anchors)
    image = torch.zeros(1, 3, 256, 384)  # multiples of 128: torchvision's strides are image size // feature size
    shapes = ours.feature_shapes((256, 384))
    (expected,) = theirs(ImageList(image, [(256, 384)]), [torch.zeros(1, 1, *shape) for shape in shapes])
    assert_close(ours(shapes), expected, atol=0, rtol=0)


@pytest.mark.parametrize(
    ("image_size", "expected"),
    [
        ((128, 256), ((16, 32), (8, 16), (4, 8), (2, 4), (1, 2))),
        ((129, 1), ((17, 1), (9, 1), (5, 1), (3, 1), (2, 1))),
        ((800, 1344), ((100, 168), (50, 84), (25, 42), (13, 21), (7, 11))),
    ],
)
def test_feature_shapes_round_up(image_size: tuple[int, int], expected: tuple[tuple[int, int], ...]) -> None:
    assert AnchorGenerator().feature_shapes(image_size) == expected


def test_a_coco_sized_input_has_the_known_number_of_anchors() -> None:
    generator = AnchorGenerator()
    assert len(generator(generator.feature_shapes((800, 1344)))) == 201_600


def test_equal_shapes_give_the_same_tensor_object() -> None:
    generator = AnchorGenerator()
    shapes = generator.feature_shapes((64, 64))
    anchors = generator(shapes)
    assert generator(list(shapes)) is anchors
    assert generator(shapes, torch.device("cpu")) is anchors
    assert generator(shapes, "meta").device.type == "meta"
    assert generator(shapes) is anchors


def test_the_cache_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detector.anchors._MAX_CACHED", 2)
    generator = AnchorGenerator()
    shapes = [generator.feature_shapes((64, 64 * i)) for i in (1, 2, 3)]
    first, second, _ = (generator(s) for s in shapes)
    assert generator(shapes[1]) is second
    assert generator(shapes[0]) is not first
    assert_close(generator(shapes[0]), first, atol=0, rtol=0)


def test_anchors_made_during_evaluation_serve_training() -> None:
    generator = AnchorGenerator()
    shapes = generator.feature_shapes((64, 64))
    with torch.inference_mode():
        generator(shapes)
    deltas = torch.zeros(len(generator(shapes)), 4, requires_grad=True)
    (deltas * generator(shapes)).sum().backward()  # saves the anchors for the gradient
    assert deltas.grad is not None


def test_a_configuration_reaches_the_generator() -> None:
    config = AnchorConfig(sizes=(16, 32, 64, 128, 256), scales=(1.0,), aspect_ratios=(1.0, 3.0), offset=0.25)
    generator = build_anchor_generator(config)
    assert generator.num_per_cell == config.num_per_cell == 2
    wide = 16 / math.sqrt(3)
    expected: Tensor = torch.tensor([[-8.0, -8.0, 8.0, 8.0], [-wide / 2, -wide * 1.5, wide / 2, wide * 1.5]]) + 0.25 * 8
    assert_close(generator([(1, 1)] * 5)[:2], expected)


def test_sizes_and_strides_must_pair_up() -> None:
    with pytest.raises(ValueError, match="one size per level is needed: 2 sizes for 5 strides"):
        AnchorGenerator(sizes=(32, 64))


def test_a_missing_level_is_refused() -> None:
    with pytest.raises(ValueError, match="one shape per level is needed: 4 shapes for 5 levels"):
        AnchorGenerator()([(1, 1)] * 4)
