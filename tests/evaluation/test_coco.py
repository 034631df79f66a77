"""The scores against pycocotools itself, run here by the book."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.random import Generator
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detector.errors import UserError
from detector.evaluation.coco import METRICS, CocoScores, score
from detector.evaluation.ground_truth import load_ground_truth
from detector.evaluation.results import CocoResults, to_coco_results
from detector.evaluation.scorers import ResolvedScorer
from detector.structures import Categories, Detections

CATEGORY_IDS = (0, 3, 7, 90)  # 0 and gaps; 90 has no objects
NUM_IMAGES = 10


def random_box(generator: Generator) -> list[float]:
    x, y = generator.uniform(0, 200, 2)
    side = generator.choice([0, 12, 40, 60, 150])
    return [float(v) for v in (x, y, *(side * generator.uniform(0.8, 1.2, 2)))]


def random_dataset(generator: Generator) -> dict[str, Any]:
    """Crowds, boxes without area, areas unlike the box's, images without objects, a class without objects."""
    annotations: list[dict[str, Any]] = []
    for image_id in range(1, NUM_IMAGES):  # the last image has none
        for _ in range(generator.integers(0, 6)):
            box = random_box(generator)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": int(generator.choice(CATEGORY_IDS[:3])),
                    "bbox": box,
                    "area": box[2] * box[3] * float(generator.choice([1, 0.6])),
                    "iscrowd": int(generator.random() < 0.2),
                }
            )
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 400, "height": 400} for i in range(1, NUM_IMAGES + 1)],
        "annotations": annotations,
        "categories": [{"id": i, "name": f"class {i}"} for i in CATEGORY_IDS],
    }


def random_results(generator: Generator, dataset: dict[str, Any], num_random: int = 60) -> list[dict[str, Any]]:
    """Boxes near objects, duplicates and clutter, many with equal scores, in random order."""
    results = []
    for annotation in dataset["annotations"]:
        for _ in range(generator.integers(0, 3)):
            box = [float(v) for v in np.asarray(annotation["bbox"]) + generator.normal(0, 3, 4) * [1, 1, 0.5, 0.5]]
            category_id = annotation["category_id"] if generator.random() < 0.8 else CATEGORY_IDS[0]
            results.append({"image_id": annotation["image_id"], "category_id": category_id, "bbox": box})
    for _ in range(num_random):
        image_id, category_id = int(generator.integers(1, NUM_IMAGES + 1)), int(generator.choice(CATEGORY_IDS))
        results.append({"image_id": image_id, "category_id": category_id, "bbox": random_box(generator)})
    order = generator.permutation(len(results))
    return [results[i] | {"score": round(float(generator.random()), 1)} for i in order]


def by_the_book(path: Path, results: list[dict[str, Any]]) -> COCOeval:
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO(str(path))
        evaluator = COCOeval(ground_truth, ground_truth.loadRes([dict(result) for result in results]), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def scores_of(path: Path, results: list[dict[str, Any]]) -> CocoScores:
    return score_entries(load_ground_truth(path), results)


def score_entries(ground_truth: COCO, results: list[dict[str, Any]], **arguments: Any) -> CocoScores:
    """Score with both libraries, which must agree on every number of every class."""
    scorers: tuple[ResolvedScorer, ...] = ("pycocotools", "hotcoco")
    columns = CocoResults.from_entries(results)
    scores, others = (score(ground_truth, columns, scorer=scorer, **arguments) for scorer in scorers)
    assert scores == others
    return scores


def perfect_results(dataset: dict[str, Any]) -> list[dict[str, Any]]:
    objects = (entry for entry in dataset["annotations"] if not entry.get("iscrowd"))
    return [{key: entry[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.5} for entry in objects]


@pytest.mark.parametrize("seed", range(12))
def test_the_twelve_numbers_are_those_of_pycocotools_to_the_last_bit(tmp_path: Path, seed: int) -> None:
    generator = np.random.default_rng(seed)
    dataset = random_dataset(generator)
    path = write(tmp_path / "val.json", dataset)
    results = random_results(generator, dataset)
    assert list(scores_of(path, results).metrics.values()) == by_the_book(path, results).stats.tolist()


def test_only_the_first_hundred_detections_of_an_image_and_class_count(tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    dataset = random_dataset(generator)
    path = write(tmp_path / "val.json", dataset)
    results = random_results(generator, dataset, num_random=6000)
    per_image_and_class = {(r["image_id"], r["category_id"]) for r in results}
    assert len(results) > 100 * len(per_image_and_class)
    assert list(scores_of(path, results).metrics.values()) == by_the_book(path, results).stats.tolist()


def test_scoring_twice_gives_the_same_numbers(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    dataset = random_dataset(generator)
    ground_truth = load_ground_truth(write(tmp_path / "val.json", dataset))
    results = random_results(generator, dataset)
    first = score_entries(ground_truth, results)
    assert score_entries(ground_truth, []) != first
    assert score_entries(ground_truth, results) == first


def test_class_rows_average_to_the_total_and_count_objects_without_crowds(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    dataset = random_dataset(generator)
    path = write(tmp_path / "val.json", dataset)
    results = random_results(generator, dataset)
    scores = scores_of(path, results)
    evaluator = by_the_book(path, results)
    assert [row.category_id for row in scores.per_class] == list(CATEGORY_IDS)
    assert [row.name for row in scores.per_class] == [f"class {i}" for i in CATEGORY_IDS]
    for row in scores.per_class:
        objects = [a for a in dataset["annotations"] if a["category_id"] == row.category_id and not a["iscrowd"]]
        assert row.num_gt == len(objects)
    # A class alone is the dataset restricted to it.
    for index, row in enumerate(scores.per_class[:3]):
        evaluator.params.catIds = [CATEGORY_IDS[index]]
        with contextlib.redirect_stdout(io.StringIO()):
            evaluator.evaluate()
            evaluator.accumulate()
            evaluator.summarize()
        np.testing.assert_allclose([row.AP, row.AP50], evaluator.stats[:2], atol=1e-12)
    assert (scores.per_class[3].AP, scores.per_class[3].AP50, scores.per_class[3].num_gt) == (-1, -1, 0)
    assert np.mean([row.AP for row in scores.per_class[:3]]) == pytest.approx(scores.metrics["AP"], abs=1e-12)


def test_perfect_detections_score_one_where_there_are_objects(tmp_path: Path) -> None:
    boxes = [[10.0, 10.0, 20.0, 20.0], [50.0, 50.0, 60.0, 60.0], [100.0, 100.0, 200.0, 200.0]]
    images = [{"id": 1}, {"id": 2}]
    annotations = [{"id": i + 1, "image_id": 1, "category_id": 5, "bbox": box} for i, box in enumerate(boxes)]
    annotations.append({"id": 9, "image_id": 2, "category_id": 5, "bbox": [0, 0, 90.5, 90.5], "iscrowd": 1})
    dataset = {"images": images, "annotations": annotations, "categories": [{"id": 5, "name": "thing"}]}
    scores = scores_of(write(tmp_path / "val.json", dataset), perfect_results(dataset))
    expected = dict.fromkeys(METRICS, 1.0) | {"AR1": 1 / 3}
    assert scores.metrics == pytest.approx(expected, abs=1e-12)
    assert scores.notes == ()


def test_no_detections_score_zero_where_there_are_objects_and_minus_one_elsewhere(tmp_path: Path) -> None:
    annotation = {"id": 1, "image_id": 1, "category_id": 5, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0}
    dataset = {"images": [{"id": 1}], "annotations": [annotation], "categories": [{"id": 5}, {"id": 6}]}
    path = write(tmp_path / "val.json", dataset)
    scores = scores_of(path, [])
    only_small = dict.fromkeys(METRICS, 0.0) | {"APm": -1, "APl": -1, "ARm": -1, "ARl": -1}
    assert scores.metrics == only_small
    assert [row.AP for row in scores.per_class] == [0, -1]
    # pycocotools raises on an empty list; a detection that matches nothing must give the same.
    miss = {"image_id": 1, "category_id": 5, "bbox": [500.0, 500.0, 10.0, 10.0], "score": 0.9}
    assert list(scores.metrics.values()) == by_the_book(path, [miss]).stats.tolist()


def test_without_any_object_every_number_is_minus_one(tmp_path: Path) -> None:
    dataset = {"images": [{"id": 1}], "annotations": [], "categories": [{"id": 5}]}
    path = write(tmp_path / "val.json", dataset)
    result = {"image_id": 1, "category_id": 5, "bbox": [0.0, 0.0, 10.0, 10.0], "score": 0.9}
    for results in ([], [result]):
        assert scores_of(path, results).metrics == dict.fromkeys(METRICS, -1.0)


def test_images_without_detections_count(tmp_path: Path) -> None:
    annotations = [{"image_id": i, "category_id": 1, "bbox": [10, 10, 20, 20]} for i in (1, 2, 3, 4)]
    dataset = {"images": [{"id": i} for i in (1, 2, 3, 4)], "annotations": annotations, "categories": [{"id": 1}]}
    scores = scores_of(write(tmp_path / "val.json", dataset), perfect_results(dataset)[:2])
    assert scores.metrics["AR100"] == 0.5
    assert scores.metrics["AP"] == pytest.approx(51 / 101)  # precision 1 up to recall .5, then 0: 51 of 101 recalls


def test_detections_inside_a_crowd_are_neither_right_nor_wrong(tmp_path: Path) -> None:
    crowd = {"id": 2, "image_id": 1, "category_id": 1, "bbox": [100, 100, 100, 100], "iscrowd": 1, "area": 10000}
    thing = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "iscrowd": 0, "area": 400}
    dataset = {"images": [{"id": 1}], "annotations": [thing, crowd], "categories": [{"id": 1}]}
    path = write(tmp_path / "val.json", dataset)
    in_crowd = [
        {"image_id": 1, "category_id": 1, "bbox": [100.0 + 10 * i, 100.0, 10.0, 10.0], "score": 0.9} for i in range(5)
    ]
    results = [*in_crowd, *perfect_results(dataset)]
    assert scores_of(path, results).metrics["AP"] == pytest.approx(1.0)
    assert list(scores_of(path, results).metrics.values()) == by_the_book(path, results).stats.tolist()


def test_missing_area_iscrowd_and_id_are_filled_in_and_nothing_else_changes(tmp_path: Path) -> None:
    dataset = random_dataset(np.random.default_rng(3))
    dataset["annotations"][2]["bbox"] = [5.0, 5.0, 0.0, -3.0]  # degenerate, but not for the scorer to remove
    full = json.loads(json.dumps(dataset))
    for entry in full["annotations"]:
        entry |= {"area": entry["bbox"][2] * entry["bbox"][3], "iscrowd": 0}
    for entry in dataset["annotations"]:
        del entry["area"], entry["iscrowd"], entry["id"]
    ground_truth = load_ground_truth(write(tmp_path / "bare.json", dataset))
    assert ground_truth.dataset == full
    results = random_results(np.random.default_rng(3), full)
    expected = by_the_book(write(tmp_path / "full.json", full), results)
    assert list(score_entries(ground_truth, results).metrics.values()) == expected.stats.tolist()


def test_new_annotation_ids_avoid_those_that_are_there(tmp_path: Path) -> None:
    entry = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2]}
    annotations = [entry, entry | {"id": 41}, entry]
    dataset = {"images": [{"id": 1}], "annotations": annotations, "categories": [{"id": 1}]}
    assert list(load_ground_truth(write(tmp_path / "val.json", dataset)).anns) == [42, 41, 43]


def test_ids_written_as_floats_are_integers_and_names_are_no_ids(tmp_path: Path) -> None:
    thing = {"image_id": 2.0, "category_id": 1, "bbox": [1, 1, 20, 20], "segmentation": [[1, 1, 21, 1, 21, 21]]}
    annotations = [thing | {"id": "a-b"}, thing | {"id": 5.0, "category_id": 1.0}]
    dataset = {"images": [{"id": 2.0}], "annotations": annotations, "categories": [{"id": 1.0}]}
    ground_truth = load_ground_truth(write(tmp_path / "val.json", dataset))
    assert list(ground_truth.anns) == [6, 5]
    assert "segmentation" not in ground_truth.anns[5]
    result = {"image_id": 2, "category_id": 1, "bbox": [1.0, 1.0, 20.0, 20.0], "score": 0.5}
    assert score_entries(ground_truth, [result, result]).metrics["AP"] == pytest.approx(1.0)


def test_the_first_detection_takes_its_object_from_a_second_one(tmp_path: Path) -> None:
    # pycocotools notes which detection took an object by its id, and 0 would stand for none.
    annotations = [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 20, 20]} for i in (1, 2)]
    dataset = {"images": [{"id": 1}, {"id": 2}], "annotations": annotations, "categories": [{"id": 1}]}
    first, second = perfect_results(dataset)
    results = [first | {"score": 0.9}, first | {"score": 0.8}, second]
    scores = scores_of(write(tmp_path / "val.json", dataset), results)
    assert scores.metrics["AP"] == pytest.approx((51 + 50 * 2 / 3) / 101)  # precision 1 up to recall .5, then 2/3


def test_an_annotation_with_id_0_is_scored_as_pycocotools_does_and_noted(tmp_path: Path) -> None:
    annotations = [
        {"id": i, "image_id": 1, "category_id": 1, "bbox": [50 * i, 1, 20, 20], "area": 400, "iscrowd": 0}
        for i in range(3)
    ]
    dataset = {"images": [{"id": 1}], "annotations": annotations, "categories": [{"id": 1}]}
    path = write(tmp_path / "val.json", dataset)
    results = perfect_results(dataset)
    scores = scores_of(path, results)
    assert list(scores.metrics.values()) == by_the_book(path, results).stats.tolist()
    assert scores.metrics["AP"] < 1
    assert "id 0" in scores.notes[0]


def test_reading_and_scoring_print_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    dataset = random_dataset(np.random.default_rng(0))
    scores_of(write(tmp_path / "val.json", dataset), perfect_results(dataset))
    assert capfd.readouterr() == ("", "")


def test_results_have_original_ids_and_the_exact_float32_numbers() -> None:
    boxes = torch.tensor([[0.1, 0.2, 10.3, 20.7], [5.0, 5.0, 6.0, 8.0]])
    detections = [
        Detections(boxes=boxes, scores=torch.tensor([0.9, 0.3]), labels=torch.tensor([2, 0])),
        Detections(boxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0, dtype=torch.int64)),
    ]
    results = to_coco_results([42, 43], detections, Categories((0, 3, 90), ("a", "b", "c")))
    x1, y1, x2, y2 = (float(value) for value in np.float32([0.1, 0.2, 10.3, 20.7]))
    assert list(results.entries()) == [
        {"image_id": 42, "category_id": 90, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": float(np.float32(0.9))},
        {"image_id": 42, "category_id": 0, "bbox": [5.0, 5.0, 1.0, 3.0], "score": float(np.float32(0.3))},
    ]
    assert {type(value) for result in results.entries() for value in (*result["bbox"], result["score"])} == {float}
    torch.testing.assert_close(boxes[0], torch.tensor([0.1, 0.2, 10.3, 20.7]), rtol=0, atol=0)  # not written into


def test_detections_at_objects_with_any_class_and_score_equal_pycocotools(tmp_path: Path) -> None:
    generator = np.random.default_rng(9)
    dataset = random_dataset(generator)
    path = write(tmp_path / "val.json", dataset)
    torch_generator = torch.Generator().manual_seed(9)
    image_ids, detections = list(range(1, NUM_IMAGES + 1)), []
    for image_id in image_ids:
        corners = [entry["bbox"] for entry in dataset["annotations"] if entry["image_id"] == image_id] or [[0, 0, 9, 9]]
        boxes = torch.tensor(corners, dtype=torch.float32)
        boxes = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1)
        labels = torch.randint(0, 3, (len(boxes),), generator=torch_generator)
        detections.append(Detections(boxes, torch.rand(len(boxes), generator=torch_generator), labels))
    categories = Categories.from_coco(dataset["categories"])
    results = to_coco_results(image_ids, detections, categories)
    entries = list(results.entries())
    scores = scores_of(path, entries)
    assert scores.metrics["AP"] > 0
    assert list(scores.metrics.values()) == by_the_book(path, entries).stats.tolist()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("image_id", 99, r"image id 99 has detections, but .*val\.json has no such image"),
        ("category_id", 4, r"category id 4 .*not among the categories of .*val\.json: 0, 3, 7, 90$"),
    ],
)
def test_detections_of_unknown_images_and_classes_are_refused(
    tmp_path: Path, key: str, value: int, message: str
) -> None:
    dataset = random_dataset(np.random.default_rng(0))
    path = write(tmp_path / "val.json", dataset)
    results = perfect_results(dataset)
    results[3][key] = value
    with pytest.raises(UserError, match=message):
        score_entries(load_ground_truth(path), results, annotations=path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("key", ["bbox", "score"])
def test_detections_that_are_not_finite_are_refused(tmp_path: Path, key: str, value: float) -> None:
    dataset = random_dataset(np.random.default_rng(0))
    results = perfect_results(dataset)
    results[1][key] = value if key == "score" else [0.0, value, 1.0, 1.0]
    with pytest.raises(ValueError, match=rf"image {results[1]['image_id']}: .*not finite"):
        scores_of(write(tmp_path / "val.json", dataset), results)


THING = {"id": 7, "image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotations": None}, "no list of annotations"),
        ({"images": [1]}, "no list of images"),
        ({"images": []}, "the list of images is empty"),
        ({"categories": [], "annotations": []}, "the list of categories is empty"),
        ({"images": [{"id": 1}, {"id": 1}]}, "images: the id 1 occurs twice"),
        ({"images": [{"id": "1"}]}, r"images\[0\]: id: expected an integer, found '1'"),
        ({"images": [{"id": True}]}, r"images\[0\]: id: expected an integer, found True"),
        ({"annotations": [THING, THING]}, "annotations: the id 7 occurs twice"),
        ({"annotations": [THING | {"image_id": 2}]}, r"\(id 7, image 2\): image_id: 2 is not among the file's images"),
        ({"annotations": [THING | {"category_id": 2}]}, "category_id: 2 is not among the file's categories"),
        ({"annotations": [THING | {"category_id": [1]}]}, r"category_id: \[1\] is not among"),
        ({"annotations": [THING | {"bbox": [1, 2, 3]}]}, r"\(id 7, image 1\): bbox: .* found \[1, 2, 3\]"),
        ({"annotations": [THING | {"bbox": [1, 2, 3, float("nan")]}]}, "bbox: .*finite numbers, found"),
        ({"annotations": [THING | {"bbox": [1, 2, 3, 10**400]}]}, "bbox: .*finite numbers, found"),
        ({"annotations": [THING | {"area": "9"}]}, "area: expected a finite number, found '9'"),
        ({"annotations": [THING | {"iscrowd": "no"}]}, "iscrowd: expected 0 or 1, found 'no'"),
    ],
)
def test_an_annotation_file_that_contradicts_itself_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    dataset = {"images": [{"id": 1}], "annotations": [THING], "categories": [{"id": 1}]} | change
    path = write(tmp_path / "val.json", dataset)
    with pytest.raises(UserError, match=message) as caught:
        load_ground_truth(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "the file is empty"),
        (b"{", "not a JSON file: .*line 1"),
        (b"\xff\xd8\xff", r"not a JSON file \(byte 0"),
        (b"[" * 100_000, "not a JSON file"),
        (b"[]", "expected a COCO annotation file"),
    ],
)
def test_a_file_that_is_no_annotation_file_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "val.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load_ground_truth(path)
    assert str(path) in str(caught.value)


def test_a_folder_in_place_of_the_annotation_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        load_ground_truth(tmp_path)
