import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torchvision.models.detection import RetinaNet as TorchvisionRetinaNet
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import nms

from detector.anchors import AnchorGenerator
from detector.config import EvalConfig
from detector.postprocess import Candidates, Postprocess, build_postprocess, nms_per_class, postprocess
from detector.structures import Activation, Detections, HeadOutputs
from tests.helpers import random_boxes

SIZE = (64, 96)
GENERATOR = AnchorGenerator(sizes=(8, 16, 32, 64, 128), scales=(1.0,))


def random_outputs(seed: int, *, num_images: int = 2, num_classes: int = 4) -> tuple[HeadOutputs, Tensor]:
    """Outputs for padded inputs of 64 x 96 pixels in which a few percent of the scores are above 0.05."""
    generator = torch.Generator().manual_seed(seed)
    shapes = GENERATOR.feature_shapes(SIZE)
    counts = [height * width * GENERATOR.num_per_cell for height, width in shapes]
    logits = tuple(torch.randn(num_images, n, num_classes, generator=generator) * 1.5 - 4 for n in counts)
    deltas = tuple(torch.randn(num_images, n, 4, generator=generator) * 0.3 for n in counts)
    return HeadOutputs(logits, deltas), GENERATOR(shapes)


def single_level(scores: Tensor, boxes: Tensor) -> tuple[HeadOutputs, Tensor]:
    """Outputs of one image whose anchors are already the boxes; scores are [R, K]."""
    return HeadOutputs((scores.logit()[None],), (torch.zeros(1, len(boxes), 4),)), boxes


def greedy_by_hand(boxes: Tensor, scores: Tensor, labels: Tensor, thresh: float) -> list[int]:
    """Rows that survive, best first: Python's floats, one class at a time."""
    rows, scores_list, labels_list = boxes.double().tolist(), scores.tolist(), labels.tolist()
    kept: list[int] = []
    for label in set(labels_list):
        members = [i for i in range(len(rows)) if labels_list[i] == label]
        survivors: list[int] = []
        for i in sorted(members, key=lambda i: -scores_list[i]):
            if all(iou_by_hand(rows[i], rows[j]) <= thresh for j in survivors):
                survivors.append(i)
        kept += survivors
    return sorted(kept, key=lambda i: -scores_list[i])


def iou_by_hand(a: list[float], b: list[float]) -> float:
    common = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


@pytest.mark.parametrize("topk", [1000, 20])
@pytest.mark.parametrize("seed", range(4))
def test_detections_equal_torchvision(seed: int, topk: int) -> None:
    outputs, anchors = random_outputs(seed)
    sizes = [(64, 90), (50, 96)]
    settings = {"score_thresh": 0.05, "nms_thresh": 0.4}
    ours = postprocess(outputs, anchors, sizes, sizes, topk_per_level=topk, max_detections=60, **settings)  # type: ignore[arg-type]
    theirs = TorchvisionRetinaNet.postprocess_detections(
        SimpleNamespace(box_coder=BoxCoder((1, 1, 1, 1)), topk_candidates=topk, detections_per_img=60, **settings),
        {"cls_logits": outputs.cls_logits, "bbox_regression": outputs.bbox_deltas},
        [list(anchors.split(outputs.anchors_per_level))] * 2,
        sizes,
    )
    for actual, expected in zip(ours, theirs, strict=True):
        assert len(expected["boxes"]) > 30
        assert_close(actual.labels, expected["labels"], atol=0, rtol=0)
        assert_close(actual.scores, expected["scores"], atol=1e-7, rtol=1e-6)
        assert_close(actual.boxes, expected["boxes"], atol=1e-4, rtol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_nms_equals_a_loop_over_the_classes_in_float64(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    boxes = random_boxes(300, generator, (60, 60))
    scores, labels = torch.rand(300, generator=generator), torch.randint(0, 3, (300,), generator=generator)
    kept = nms_per_class(boxes, scores, labels, 0.3)
    assert kept.tolist() == greedy_by_hand(boxes, scores, labels, 0.3)
    assert len(kept) < 200


def test_nms_keeps_a_box_whose_iou_is_exactly_the_threshold() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 5.0], [0.0, 0.0, 10.0, 6.0]])
    for label in (0, 79):  # also far from the origin
        kept = nms_per_class(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.full((3,), label), 0.5)
        assert kept.tolist() == [0, 1]


def test_small_boxes_of_many_classes_do_not_disturb_each_other() -> None:
    # 16 images x 80 classes of boxes of a few pixels at the far corner of an 800 x 1333 input: in float32 the classes'
    # offsets (up to 80 x 1333) would round their sides to 1/128 of a pixel.
    generator = torch.Generator().manual_seed(0)
    num_changed = 0
    for _ in range(16):
        corner = torch.rand(400, 2, generator=generator) * 8 + torch.tensor([1320.0, 790.0])
        boxes = torch.cat([corner, corner + 1 + torch.rand(400, 2, generator=generator) * 3], dim=1)
        scores, labels = torch.rand(400, generator=generator), torch.randint(0, 80, (400,), generator=generator)
        kept = nms_per_class(boxes, scores, labels, 0.5)
        assert kept.tolist() == greedy_by_hand(boxes, scores, labels, 0.5)
        num_changed += 400 - len(kept)
    assert num_changed > 100


def test_nms_handles_negative_coordinates_and_no_boxes() -> None:
    boxes = torch.tensor([[-50.0, -50.0, -40.0, -40.0], [-50.0, -50.0, -40.0, -41.0], [40.0, 40.0, 50.0, 50.0]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    assert nms_per_class(boxes, scores, torch.tensor([0, 0, 1]), 0.5).tolist() == [0, 2]
    assert nms_per_class(boxes, scores, torch.tensor([0, 1, 1]), 0.5).tolist() == [0, 1, 2]
    assert nms_per_class(boxes[:0], scores[:0], torch.zeros(0, dtype=torch.int64), 0.5).tolist() == []


def test_scores_must_be_above_the_threshold() -> None:
    boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0], [20.0, 0.0, 28.0, 8.0], [40.0, 0.0, 48.0, 8.0]])
    outputs, anchors = single_level(torch.tensor([[0.5], [0.25], [0.75]]), boxes)
    (detections,) = postprocess(outputs, anchors, [SIZE], [SIZE], score_thresh=0.5)  # logit 0 is a score of exactly 0.5
    assert_close(detections.scores, torch.tensor([0.75]))
    assert_close(detections.boxes, boxes[2:])


def test_an_anchor_may_be_detected_as_several_classes() -> None:
    outputs, anchors = single_level(torch.tensor([[0.9, 0.1, 0.6]]), torch.tensor([[0.0, 0.0, 8.0, 8.0]]))
    (detections,) = postprocess(outputs, anchors, [SIZE], [SIZE], score_thresh=0.2)
    assert detections.labels.tolist() == [0, 2]


def test_only_the_best_pairs_of_each_level_are_candidates() -> None:
    outputs, anchors = random_outputs(0, num_images=1)
    (detections,) = postprocess(outputs, anchors, [SIZE], [SIZE], topk_per_level=3, score_thresh=0.0, nms_thresh=1.0)
    expected = torch.cat([level.flatten().sigmoid().topk(3).values for level in outputs.cls_logits])
    assert_close(detections.scores, expected.sort(descending=True).values)


@pytest.mark.parametrize("max_detections", [1, 7, 10_000])
def test_the_best_max_detections_stay_and_scores_fall(max_detections: int) -> None:
    outputs, anchors = random_outputs(0)
    all_of_them = postprocess(outputs, anchors, [SIZE] * 2, [SIZE] * 2, max_detections=10_000)
    for some, every in zip(
        postprocess(outputs, anchors, [SIZE] * 2, [SIZE] * 2, max_detections=max_detections), all_of_them, strict=True
    ):
        assert len(some.scores) == min(max_detections, len(every.scores))
        assert_close(some.boxes, every.boxes[:max_detections], atol=0, rtol=0)
        assert (some.scores.diff() <= 0).all()
        assert (some.scores > 0.05).all()


def test_images_of_a_batch_are_independent() -> None:
    outputs, anchors = random_outputs(0, num_images=3)
    batch = postprocess(outputs, anchors, [SIZE] * 3, [SIZE] * 3)
    for i, expected in enumerate(batch):
        alone = HeadOutputs(
            tuple(level[i : i + 1] for level in outputs.cls_logits),
            tuple(level[i : i + 1] for level in outputs.bbox_deltas),
        )
        assert_detections_equal(postprocess(alone, anchors, [SIZE], [SIZE])[0], expected)


def test_a_network_that_gives_nan_detects_nothing() -> None:
    outputs, anchors = random_outputs(0)
    nan = HeadOutputs(
        *(tuple(torch.full_like(x, float("nan")) for x in xs) for xs in (outputs.cls_logits, outputs.bbox_deltas))
    )
    for spoilt in (
        nan,
        HeadOutputs(nan.cls_logits, outputs.bbox_deltas),
        HeadOutputs(outputs.cls_logits, nan.bbox_deltas),
    ):
        for detections in postprocess(spoilt, anchors, [SIZE] * 2, [SIZE] * 2):
            assert detections.boxes.shape == (0, 4)
            assert detections.scores.shape == detections.labels.shape == (0,)


def test_one_nan_leaves_the_other_detections_alone() -> None:
    boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0], [20.0, 0.0, 28.0, 8.0], [20.0, 0.0, 28.0, 7.0]])
    outputs, anchors = single_level(torch.tensor([[0.9], [0.8], [0.7]]), boxes)
    outputs.bbox_deltas[0][0, 0, 2] = float("nan")
    (detections,) = postprocess(outputs, anchors, [SIZE], [SIZE])
    assert_close(detections.boxes, boxes[1:2])


def test_boxes_are_mapped_to_original_pixels_with_each_sides_own_ratio() -> None:
    boxes = torch.tensor([[10.0, 10.0, 30.0, 20.0], [-5.0, 40.0, 95.0, 80.0]])
    outputs, anchors = single_level(torch.tensor([[0.9], [0.8]]), boxes)
    # The image fills 50 x 90 of the input; stored it has 25 x 270: y halves, x triples.
    (detections,) = postprocess(outputs, anchors, [(50, 90)], [(25, 270)])
    assert_close(detections.boxes, torch.tensor([[30.0, 5.0, 90.0, 10.0], [0.0, 20.0, 270.0, 25.0]]))


@pytest.mark.parametrize(
    ("size", "original"), [((50, 90), (427, 641)), ((800, 1333), (333, 500)), ((33, 7), (4001, 997))]
)
def test_a_box_over_the_whole_image_stays_one_exactly(size: tuple[int, int], original: tuple[int, int]) -> None:
    outputs, anchors = single_level(torch.tensor([[0.9]]), torch.tensor([[-9.0, -9.0, 5000.0, 5000.0]]))
    (detections,) = postprocess(outputs, anchors, [size], [original])
    assert detections.boxes.tolist() == [[0.0, 0.0, original[1], original[0]]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_outputs_are_computed_in_float32(dtype: torch.dtype) -> None:
    outputs, anchors = random_outputs(0)
    half = HeadOutputs(*(tuple(x.to(dtype) for x in xs) for xs in (outputs.cls_logits, outputs.bbox_deltas)))
    whole = HeadOutputs(*(tuple(x.float() for x in xs) for xs in (half.cls_logits, half.bbox_deltas)))
    for actual, expected in zip(
        postprocess(half, anchors, [SIZE] * 2, [SIZE] * 2, topk_per_level=10_000),
        postprocess(whole, anchors, [SIZE] * 2, [SIZE] * 2, topk_per_level=10_000),
        strict=True,
    ):
        assert actual.boxes.dtype == actual.scores.dtype == torch.float32
        assert_detections_equal(actual, expected)


@pytest.mark.parametrize("seed", range(3))
def test_softmax_detects_with_the_probabilities_of_the_classes_beside_background(seed: int) -> None:
    outputs, anchors = random_outputs(seed, num_classes=5)
    outputs = HeadOutputs(tuple(logits + 4 for logits in outputs.cls_logits), outputs.bbox_deltas)
    probabilities = tuple(logits.double().softmax(dim=2)[..., :4] for logits in outputs.cls_logits)
    same_scores = HeadOutputs(tuple(p.logit() for p in probabilities), outputs.bbox_deltas)
    thresholds = {"score_thresh": 0.3, "topk_per_level": 60}
    found = postprocess(outputs, anchors, [SIZE] * 2, [SIZE] * 2, activation="softmax", **thresholds)  # type: ignore[arg-type]
    expected = postprocess(same_scores, anchors, [SIZE] * 2, [SIZE] * 2, **thresholds)  # type: ignore[arg-type]
    for actual, wanted in zip(found, expected, strict=True):
        assert len(actual.scores) > 20
        assert set(actual.labels.tolist()) == {0, 1, 2, 3}
        assert actual.scores.dtype == torch.float32
        assert_close(actual.labels, wanted.labels, atol=0, rtol=0)
        assert_close(actual.scores, wanted.scores.float())
        assert_close(actual.boxes, wanted.boxes)


def test_with_softmax_candidates_are_the_best_probabilities_not_the_best_logits() -> None:
    boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0], [20.0, 0.0, 28.0, 8.0]])
    logits = torch.tensor([[[5.0, 0.0, 6.0], [3.0, 0.0, 0.0]]])  # background last: the first anchor is rather that
    outputs = HeadOutputs((logits,), (torch.zeros(1, 2, 4),))
    (detections,) = postprocess(outputs, boxes, [SIZE], [SIZE], topk_per_level=1, activation="softmax")
    assert_close(detections.boxes, boxes[1:])
    assert detections.labels.tolist() == [0]
    assert_close(detections.scores, torch.tensor([math.exp(3) / (math.exp(3) + 2)]))


def test_an_anchor_that_is_background_for_sure_detects_nothing_with_softmax() -> None:
    outputs = HeadOutputs((torch.tensor([[[1.0, 2.0, 30.0]]]),), (torch.zeros(1, 1, 4),))
    (detections,) = postprocess(
        outputs, torch.tensor([[0.0, 0.0, 8.0, 8.0]]), [SIZE], [SIZE], score_thresh=1e-6, activation="softmax"
    )
    assert len(detections.scores) == 0


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_a_configuration_reaches_the_postprocess(activation: Any) -> None:
    outputs, anchors = random_outputs(0)
    config = EvalConfig(score_thresh=0.3, topk_per_level=50, nms_thresh=0.4, max_detections=7)
    built = build_postprocess(config, activation=activation)
    expected = postprocess(
        outputs,
        anchors,
        [SIZE] * 2,
        [SIZE] * 2,
        score_thresh=0.3,
        topk_per_level=50,
        nms_thresh=0.4,
        max_detections=7,
        activation=activation,
    )
    for actual, wanted in zip(built(outputs, anchors, [SIZE] * 2, [SIZE] * 2), expected, strict=True):
        assert_detections_equal(actual, wanted)


def test_no_graph_is_kept() -> None:
    outputs, anchors = random_outputs(0)
    outputs.cls_logits[0].requires_grad_()
    outputs.bbox_deltas[0].requires_grad_()
    assert not any(
        d.boxes.requires_grad or d.scores.requires_grad for d in postprocess(outputs, anchors, [SIZE] * 2, [SIZE] * 2)
    )


def assert_detections_equal(actual: Detections, expected: Detections) -> None:
    assert_close(actual.boxes, expected.boxes, atol=0, rtol=0)
    assert_close(actual.scores, expected.scores, atol=0, rtol=0)
    assert_close(actual.labels, expected.labels, atol=0, rtol=0)


def test_keeps_are_those_of_a_loop_over_images_and_classes() -> None:
    # 16 images x 80 classes of boxes of a few pixels, close together, against torchvision's NMS on each class alone.
    generator = torch.Generator().manual_seed(1)
    num_images, num_classes, count = 16, 80, 2000
    corner = torch.rand(num_images, count, 2, generator=generator) * torch.tensor([16.0, 10.0])
    boxes = torch.cat((corner, corner + 2 + 6 * torch.rand(num_images, count, 2, generator=generator)), dim=2)
    ranks = torch.stack([torch.randperm(count, generator=generator) for _ in range(num_images)])
    candidates = Candidates(
        scores=(ranks + 1) / count,  # no two are equal
        labels=torch.randint(0, num_classes, (num_images, count), generator=generator),
        boxes=boxes,
    )
    sizes = [SIZE] * num_images
    found = Postprocess(score_thresh=0.05, nms_thresh=0.5, max_detections=count).detect(candidates, sizes, sizes)
    for image_idx, detections in enumerate(found):
        scores, labels = candidates.scores[image_idx], candidates.labels[image_idx]
        kept = []
        for label in range(num_classes):
            rows = ((labels == label) & (scores > 0.05)).nonzero().flatten()
            kept += rows[nms(boxes[image_idx, rows].double(), scores[rows].double(), 0.5)].tolist()
        expected = sorted(kept, key=lambda row: -scores[row])
        assert 0.5 * count < len(expected) < 0.9 * count
        assert_close(detections.boxes, boxes[image_idx, expected], rtol=1e-6, atol=0)
        assert_close(detections.scores, scores[expected], rtol=0, atol=0)
        assert detections.labels.tolist() == labels[expected].tolist()


@pytest.mark.parametrize("topk", [1, 7, 50, 10_000])
def test_the_candidates_are_the_best_pairs_of_all(topk: int) -> None:
    outputs, anchors = random_outputs(3)
    candidates = Postprocess(topk_per_level=topk).select(outputs, anchors)
    best = [level.flatten(1).sigmoid() for level in outputs.cls_logits]
    expected = torch.cat([scores.topk(min(topk, scores.shape[1])).values for scores in best], dim=1)
    assert_close(candidates.scores, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_to_select_candidates_nothing_is_read_from_the_device(activation: Activation) -> None:
    # A meta tensor has no values: an item, a nonzero or an index by a mask would raise.
    outputs, anchors = random_outputs(0)
    meta = HeadOutputs(*(tuple(x.to("meta") for x in xs) for xs in (outputs.cls_logits, outputs.bbox_deltas)))
    candidates = Postprocess(activation=activation).select(meta, anchors.to("meta"))
    num_pairs = sum(min(1000, level.shape[1] * (4 - (activation == "softmax"))) for level in outputs.cls_logits)
    assert candidates.boxes.shape == (2, num_pairs, 4)
    with pytest.raises(NotImplementedError, match="meta"):  # the rest does read, which shows that this test can fail
        Postprocess(activation=activation).detect(candidates, [SIZE] * 2, [SIZE] * 2)
