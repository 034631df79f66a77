"""Detections made one batch late are those made at once, and are made late."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from detector.anchors import AnchorGenerator
from detector.engine.late_detections import late_detections
from detector.postprocess import Postprocess
from detector.structures import Batch, HeadOutputs

SIZE = (64, 96)
GENERATOR = AnchorGenerator(sizes=(8, 16, 32, 64, 128), scales=(1.0,))


def make_batch(number: int, num_images: int) -> tuple[Batch, HeadOutputs, Tensor]:
    generator = torch.Generator().manual_seed(number)
    shapes = GENERATOR.feature_shapes(SIZE)
    counts = [height * width * GENERATOR.num_per_cell for height, width in shapes]
    outputs = HeadOutputs(
        tuple(torch.randn(num_images, count, 4, generator=generator) - 3 for count in counts),
        tuple(torch.randn(num_images, count, 4, generator=generator) * 0.3 for count in counts),
    )
    nothing = torch.zeros(num_images, 0)
    batch = Batch(
        images=torch.zeros(num_images, *SIZE, 3, dtype=torch.uint8),
        sizes=torch.tensor([SIZE] * num_images),
        gt_boxes=torch.zeros(num_images, 0, 4),
        gt_labels=nothing.long(),
        gt_mask=nothing.bool(),
        gt_ignore=nothing.bool(),
        image_ids=tuple(range(10 * number, 10 * number + num_images)),
        original_sizes=((128, 96),) * num_images,
    )
    return batch, outputs, GENERATOR(shapes)


@pytest.mark.parametrize("num_batches", [0, 1, 3])
def test_every_batch_comes_once_with_its_own_detections(num_batches: int) -> None:
    batches = [make_batch(number, num_images=2 + number % 2) for number in range(num_batches)]
    postprocess = Postprocess()
    found = list(late_detections(iter(batches), postprocess))
    assert [batch.image_ids for batch, _ in found] == [batch.image_ids for batch, _, _ in batches]
    for (batch, outputs, anchors), (_, late) in zip(batches, found, strict=True):
        at_once = postprocess(outputs, anchors, [SIZE] * len(late), batch.original_sizes)
        for actual, expected in zip(late, at_once, strict=True):
            assert len(expected.scores) > 20
            assert_close(actual.boxes, expected.boxes, rtol=0, atol=0)
            assert_close(actual.scores, expected.scores, rtol=0, atol=0)


def test_a_batch_is_looked_at_when_the_next_one_is_launched() -> None:
    events = []

    class Watched(Postprocess):
        def detect(self, *arguments):  # type: ignore[no-untyped-def]
            events.append("detect")
            return super().detect(*arguments)

    def launched() -> Iterator[tuple[Batch, HeadOutputs, Tensor]]:
        for number in range(3):
            events.append(f"launch {number}")
            yield make_batch(number, num_images=1)

    assert len(list(late_detections(launched(), Watched()))) == 3
    assert events == ["launch 0", "launch 1", "detect", "launch 2", "detect", "detect"]
