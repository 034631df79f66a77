"""The report as text, as JSON and as a page that needs nothing else and escapes what it shows."""

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from detector.inspect.doctor import Example, Finding, Split, check_splits
from detector.inspect.doctor.report_html import MAX_CLASSES, MAX_PICTURES, format_page
from detector.inspect.doctor.report_text import as_json, format_report, summarize
from tests.inspect.doctor.made_sets import (
    CLEAN,
    SCALE,
    document_of,
    make_split,
    read_split,
    with_content,
    write_set,
)

HOSTILE = "<script>alert('x')</script>&\"{{ 7 * 7 }}"
FINDING = Finding(
    "some-check", "warning", "train", "3 of 9 things", 3, "mend them", "seen twice", (Example("here"), Example("there"))
)


class Collector(HTMLParser):
    """Collects tags, sources and text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(*splits: Split, findings: tuple[Finding, ...] | None = None) -> str:
    return format_page(splits, check_splits(splits, **SCALE) if findings is None else findings, **SCALE)


def parsed(page: str) -> Collector:
    collector = Collector()
    collector.feed(page)
    return collector


def test_the_text_names_check_evidence_examples_and_remedy() -> None:
    text = format_report([make_split(CLEAN)], [FINDING])
    assert text == (
        "train  made.json (COCO): 3 images, 4 boxes, 2 classes\n\n"
        "warning: train: 3 of 9 things [some-check]\n"
        "    evidence: seen twice\n    here\n    there\n    and 1 more\n    remedy: mend them\n\n1 warning"
    )


def test_the_sum_counts_each_kind() -> None:
    kinds = [Finding("c", severity, "train", "t", 1) for severity in ("error", "warning", "warning", "note")]
    assert summarize(kinds) == "1 error, 2 warnings, 1 note"
    assert summarize([]) == "nothing found: the dataset is as it should be"


def test_the_json_holds_splits_and_findings() -> None:
    report = json.loads(json.dumps(as_json([make_split(CLEAN)], [FINDING])))
    assert report["splits"][0]["boxes_per_class"] == {"cat": 2, "dog": 2}
    assert report["findings"] == [
        {
            "check": "some-check",
            "severity": "warning",
            "where": "train",
            "count": 3,
            "text": "3 of 9 things",
            "evidence": "seen twice",
            "remedy": "mend them",
            "examples": ["here", "there"],
        }
    ]


@pytest.fixture
def flawed(tmp_path: Path) -> Split:
    boxes = {"a.png": [("cat", 5, 6, 0, 20), ("dog", 70, 10, 25, 30)], "b.png": [("cat", 10, 10, 20, 20)]}
    return read_split(*write_set(tmp_path, document_of(boxes, classes=("cat", "dog", "hen"))))


def test_the_page_needs_no_other_file(flawed: Split) -> None:
    page = page_of(flawed)
    found = parsed(page)
    assert len(found.links) == 3  # two pictures of examples and the figure
    assert all(re.match(r"data:image/(jpeg|png);base64,", link) for link in found.links)
    assert not re.search(r"https?:|//|@import|url\(", re.sub(r"base64,[A-Za-z0-9+/=]*", "", page))
    assert not {"script", "link", "iframe", "object"} & set(found.tags)
    assert "default-src 'none'" in page


def test_the_page_shows_findings_and_pictures_of_them(flawed: Split) -> None:
    page = page_of(flawed)
    text = parsed(page).text
    assert "annotations[0] (id 101, image id 1) of a.png: 'cat' at (5, 6), 0 x 20 px" in text
    assert "1 of 3 boxes that leave their image, by 15 px at most" in text
    assert "training drops them" in text
    encoded = re.findall(r"data:image/jpeg;base64,([^\"]*)", page)
    pictures = [cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR) for data in encoded]
    assert len(pictures) == 2
    assert all(picture.shape[0] <= 300 and picture.shape[1] <= 400 for picture in pictures)


def test_hostile_names_are_shown_and_not_run(tmp_path: Path) -> None:
    document = document_of({"a.png": [("cat", 5, 6, 0, 20), (HOSTILE, 40, 10, 25, 30)]}, classes=("cat", HOSTILE))
    split = read_split(*write_set(tmp_path, document))
    split = with_content(split, path=Path(HOSTILE))
    finding = Finding(HOSTILE, "error", HOSTILE, HOSTILE, 1, HOSTILE, HOSTILE, (Example(HOSTILE),))
    page = page_of(split, findings=(finding, *check_splits([split], **SCALE)))
    found = parsed(page)
    assert "script" not in found.tags
    assert "<script" not in page
    assert found.text.count(HOSTILE) > 5


def test_examples_without_a_picture_are_lines(flawed: Split) -> None:
    (flawed.content.images_dir / "a.png").write_bytes(b"")
    finding = Finding("c", "note", "train", "t", 9, examples=(Example("first", "train", 0), Example("second")))
    page = page_of(flawed, findings=(finding,))
    assert "<li>first</li><li>second</li>" in page
    assert "and 7 more" in page


def test_many_examples_give_a_limited_number_of_pictures(flawed: Split) -> None:
    examples = tuple(Example(f"number {i}", "train", 1) for i in range(MAX_PICTURES + 5))
    page = page_of(flawed, findings=(Finding("c", "note", "train", "t", len(examples), examples=examples),))
    assert page.count("data:image/jpeg") == MAX_PICTURES
    assert page.count("<li>number") == 5


def test_many_classes_unfold() -> None:
    names = tuple(f"class {i}" for i in range(MAX_CLASSES + 7))
    page = page_of(make_split({"a.png": [(names[5], 5, 6, 30, 20)]}, classes=names), findings=())
    assert "7 more classes" in page
    assert parsed(page).text.index("class 5") < parsed(page).text.index("class 0")
    assert "nothing found" in page


def test_a_class_that_one_split_lacks_has_a_dash_there() -> None:
    train = make_split({"a.png": [("cat", 5, 6, 30, 20)]}, classes=("cat",))
    val = make_split({"b.png": [("dog", 5, 6, 30, 20)]}, "val", classes=("dog",))
    rows = re.findall(
        r"<td class=\"name\">(.*?)</td>.*?number\">(.*?)</td><td class=\"number\">(.*?)</td>", page_of(train, val)
    )
    assert rows == [("cat", "1", "–"), ("dog", "–", "1")]


def test_sets_without_boxes_have_a_page_without_a_figure() -> None:
    page = page_of(make_split({"a.png": []}))
    assert "data:image/png" not in page
