"""hotcoco against pycocotools: every number of both, on sets that are hard on ties, crowds, areas and limits."""

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.random import Generator

from detector.errors import UserError
from detector.evaluation import scorers
from detector.evaluation.ground_truth import to_coco
from detector.evaluation.results import CocoResults
from detector.evaluation.scorers import resolve_scorer, summarize

SIDES = (0, 12, 32, 40, 60, 96, 150)
"""Of boxes; the area ranges end at 32 and 96, and on an end an object belongs to both."""


def boxes_on_a_grid(generator: Generator, count: int) -> np.ndarray:
    """[count, 4] xywh in whole pixels: many equal boxes, equal overlaps and overlaps of exactly a threshold."""
    sides = generator.choice(SIDES, (count, 1)) * generator.choice([1.0, 0.75, 0.5], (count, 2))
    return np.concatenate((generator.integers(0, 200, (count, 2)), sides), axis=1)


def random_case(seed: int, *, id_offset: int = 0, num_detections: int | None = None) -> tuple[Any, CocoResults]:
    """Images without objects or detections, classes without objects, crowds, areas unlike the box's, equal scores."""
    generator = np.random.default_rng(seed)
    image_ids = generator.permutation(3 * (count := int(generator.integers(1, 10))))[:count] + id_offset
    category_ids = generator.permutation(9)[: generator.integers(1, 4)] + id_offset
    num_objects = int(generator.integers(0, 30))
    objects = {
        "image_id": generator.choice(image_ids, num_objects),
        "category_id": generator.choice(category_ids, num_objects),
        "bbox": boxes_on_a_grid(generator, num_objects),
        "iscrowd": (generator.random(num_objects) < 0.2).astype(int),
    }
    objects["area"] = objects["bbox"][:, 2:].prod(axis=1) * generator.choice([1, 0.6, 32 * 32 / 900], num_objects)
    columns = {key: values.tolist() for key, values in objects.items()}
    annotations = [
        {"id": 3 * row + 1} | {key: values[row] for key, values in columns.items()} for row in range(num_objects)
    ]
    ground_truth = to_coco(
        {
            "images": [{"id": int(value)} for value in image_ids],
            "categories": [{"id": int(value)} for value in category_ids],
            "annotations": annotations,
        }
    )

    count = int(generator.integers(0, 200)) if num_detections is None else num_detections
    boxes, images = boxes_on_a_grid(generator, count), generator.choice(image_ids, count)
    categories = generator.choice(category_ids, count)
    if num_objects:
        rows = generator.integers(0, num_objects, count)
        near = generator.random(count) < 0.6
        boxes[near] = objects["bbox"][rows][near] + generator.integers(-2, 3, (near.sum(), 4))
        images[near], categories[near] = objects["image_id"][rows][near], objects["category_id"][rows][near]
    scores = np.round(generator.random(count), int(generator.integers(0, 3)))
    return ground_truth, CocoResults(images.astype(np.int64), categories.astype(np.int64), boxes, scores)


def assert_same(ground_truth: Any, results: CocoResults) -> None:
    reference, other = (summarize(ground_truth, results, name) for name in ("pycocotools", "hotcoco"))
    np.testing.assert_array_equal(other.stats, reference.stats)
    np.testing.assert_array_equal(other.precision, reference.precision)


@pytest.mark.parametrize("block", range(8))
def test_hotcoco_gives_the_numbers_of_pycocotools_to_the_last_bit(block: int) -> None:
    for seed in range(25):
        assert_same(*random_case(100 * block + seed))


@pytest.mark.parametrize("seed", range(3))
def test_so_it_does_beyond_a_hundred_detections_of_an_image_and_class(seed: int) -> None:
    assert_same(*random_case(seed, num_detections=4000))


@pytest.mark.parametrize("id_offset", [-20, 2**53, 2**62])
def test_so_it_does_with_ids_that_it_cannot_take(id_offset: int) -> None:
    for seed in range(10):
        ground_truth, results = random_case(seed, id_offset=id_offset)
        assert_same(ground_truth, results)


def test_the_cases_are_not_trivial() -> None:
    stats = np.array([summarize(*random_case(seed), "hotcoco").stats for seed in range(40)])
    between = (stats > 0.01) & (stats < 0.99)
    assert (between.sum(axis=0) >= 5).all()


def test_an_annotation_with_id_0_is_left_to_pycocotools(monkeypatch: pytest.MonkeyPatch) -> None:
    ground_truth = to_coco(
        {
            "images": [{"id": 1}],
            "categories": [{"id": 1}],
            "annotations": [
                {"id": 0, "image_id": 1, "category_id": 1, "bbox": [1, 1, 20, 20], "area": 400, "iscrowd": 0}
            ],
        }
    )
    results = CocoResults.from_entries([{"image_id": 1, "category_id": 1, "bbox": [1, 1, 20, 20], "score": 1.0}])
    assert_same(ground_truth, results)
    monkeypatch.setattr(scorers, "_by_hotcoco", None)
    assert summarize(ground_truth, results, "hotcoco").stats[0] == 0


def test_auto_takes_hotcoco_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [resolve_scorer(name) for name in ("auto", "hotcoco", "pycocotools")] == [
        "hotcoco",
        "hotcoco",
        "pycocotools",
    ]
    old = SimpleNamespace(COCO=object)  # it takes no arrays
    for module in (None, old):
        monkeypatch.setitem(sys.modules, "hotcoco", module)
        assert resolve_scorer("auto") == resolve_scorer("pycocotools") == "pycocotools"
        with pytest.raises(UserError, match=r"eval\.scorer: hotcoco .* not installed, too old .*eval\.scorer=auto"):
            resolve_scorer("hotcoco")


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    assert_same(*random_case(0))
    assert capfd.readouterr() == ("", "")
