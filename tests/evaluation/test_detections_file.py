"""COCO results files: what is written is read back, and what is wrong is named."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from pycocotools.coco import COCO

from detector.errors import UserError
from detector.evaluation.detections_file import read_detections, write_detections
from detector.evaluation.ground_truth import load_ground_truth
from detector.evaluation.json_files import check_writable, write_atomically
from detector.evaluation.results import CocoResults

GOOD = {"image_id": 5, "category_id": 0, "bbox": [1.5, 2, 3, 4], "score": 0.25}


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    path = tmp_path / "val.json"
    path.write_text(json.dumps({"images": [{"id": 5}], "annotations": [], "categories": [{"id": 0}]}))
    return path


@pytest.fixture
def ground_truth(annotations: Path) -> COCO:
    return load_ground_truth(annotations)


def read(text: str, ground_truth: COCO, annotations: Path) -> list[dict[str, Any]]:
    path = annotations.with_name("detections.json")
    path.write_text(text)
    return list(read_detections(path, ground_truth, annotations).entries())


def test_what_is_written_is_read_back_exactly(ground_truth: COCO, annotations: Path) -> None:
    results = [GOOD | {"bbox": [0.1, 1 / 3, 2e-7, 1e9], "score": value} for value in (0.1 + 0.2, 0.0, 1.0)]
    path = annotations.with_name("out.json")
    for expected in (results, []):
        write_detections(path, CocoResults.from_entries(expected))
        assert list(read_detections(path, ground_truth, annotations).entries()) == expected
        assert json.loads(path.read_text()) == expected
    assert sorted(file.name for file in path.parent.iterdir()) == ["out.json", "val.json"]


def test_other_keys_are_dropped_and_whole_floats_are_ids(ground_truth: COCO, annotations: Path) -> None:
    entry = GOOD | {"image_id": 5.0, "segmentation": {"counts": "x"}}
    assert read(json.dumps([entry]), ground_truth, annotations) == [GOOD]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (3, "entry 1: expected an object with the keys image_id, category_id, bbox, score, found a number"),
        ({}, "entry 1: lacks image_id, category_id, bbox, score; its keys are none"),
        ({"image_id": 5, "category_id": 0, "bbox": [1, 2, 3, 4]}, "entry 1: lacks score; its keys are image_id"),
        (GOOD | {"bbox": [1, 2, 3]}, r"entry 1: bbox: expected \[x, y, width, height\].*, found \[1, 2, 3\]"),
        (GOOD | {"bbox": [1, 2, 3, "4"]}, "entry 1: bbox: .*'4'"),
        (GOOD | {"bbox": [1, 2, 3, None]}, "entry 1: bbox: .*None"),
        (GOOD | {"score": "0.5"}, "entry 1: score: expected a finite number, found '0.5'"),
        (GOOD | {"score": True}, "entry 1: score: expected a finite number, found True"),
        (GOOD | {"image_id": "5"}, "entry 1: image_id: expected an integer, found '5'"),
        (GOOD | {"category_id": 0.5}, "entry 1: category_id: expected an integer, found 0.5"),
        (GOOD | {"image_id": 2**63}, "entry 1: image_id: expected an integer, found 9223372036854775808"),
        (GOOD | {"image_id": 6}, r"entry 1: image_id 6 is not among the images of .*val\.json"),
        (GOOD | {"category_id": 1}, r"entry 1: category_id 1 is not among the categories of .*val\.json"),
    ],
)
def test_a_wrong_entry_is_named_by_its_index(
    ground_truth: COCO, annotations: Path, entry: object, message: str
) -> None:
    with pytest.raises(UserError, match=rf"detections\.json: {message}"):
        read(json.dumps([GOOD, entry]), ground_truth, annotations)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("[{]", "not a JSON file"),
        ('{"annotations": []}', "expected a list of detections, found an object"),
        (json.dumps([GOOD | {"score": float("nan")}]), "holds NaN, which is not a JSON number"),
        (json.dumps([GOOD | {"bbox": [0, 0, 1, float("-inf")]}]), "holds -Infinity"),
        (json.dumps([GOOD]).replace("0.25", "1e999"), "entry 0: score: expected a finite number, found inf"),
    ],
)
def test_a_file_that_is_no_results_file_is_refused(
    ground_truth: COCO, annotations: Path, text: str, message: str
) -> None:
    with pytest.raises(UserError, match=rf"detections\.json: {message}"):
        read(text, ground_truth, annotations)


def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    write_detections(path, CocoResults.from_entries([GOOD]))
    before = path.read_text()
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_detections(path, CocoResults.from_entries([GOOD, GOOD | {"score": float("nan")}]))
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


def test_outputs_that_cannot_be_written_are_refused_beforehand(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder"):
        check_writable(tmp_path)
    with pytest.raises(UserError, match=r"the folder .*missing does not exist"):
        check_writable(tmp_path / "missing" / "out.json")
    check_writable(tmp_path / "out.json")
    assert not list(tmp_path.iterdir())


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    check_writable(pipe)
    write_atomically(pipe, ["a", "b"])
    assert os.read(reader, 10) == b"ab"
    os.close(reader)
    assert pipe.is_fifo()


def test_text_with_names_that_are_no_utf8_is_written_with_escapes(tmp_path: Path) -> None:
    write_atomically(tmp_path / "log.txt", ["caf\udce9.png\n"])
    assert (tmp_path / "log.txt").read_text(encoding="utf-8") == "caf\\udce9.png\n"
