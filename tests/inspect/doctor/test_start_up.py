"""The quick form at the start of a run reads no image and says little."""

from pathlib import Path

import pytest

from detector.inspect.doctor import Finding, format_start_up, image_reading, start_up_findings
from tests.inspect.doctor.made_sets import CLEAN, SCALE, make_content


def test_a_clean_set_says_nothing() -> None:
    train, val = make_content(CLEAN), make_content({f"val-{name}": boxes for name, boxes in CLEAN.items()})
    assert format_start_up(start_up_findings(train, val, **SCALE)) == []


def test_findings_are_one_line_each_with_an_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_reading, "read_image_facts", lambda path: pytest.fail(f"read {path}"))
    train = make_content({**CLEAN, "d.png": [("cat", 5, 6, 0, 20)]})
    findings = start_up_findings(train, make_content({"val.png": CLEAN["a.png"]}), **SCALE)
    assert [finding.check for finding in findings] == ["degenerate-boxes"]
    assert format_start_up(findings) == [
        "train: 1 of 5 boxes without area; training drops them, such as annotations[4] (id 105, image id 4) of d.png: "
        "'cat' at (5, 6), 0 x 20 px",
        "`detector check-dataset` with the same arguments shows all of them",
    ]


def test_notes_are_left_out_and_many_findings_counted() -> None:
    def finding(severity: str) -> Finding:
        return Finding("c", severity, "train", "t", 1)  # type: ignore[arg-type]

    assert format_start_up([finding("note")] * 9) == []
    lines = format_start_up([finding("error")] * 8 + [finding("note")])
    assert len(lines) == 7
    assert lines[5] == "and 3 more findings"


def test_val_is_what_is_scored() -> None:
    content = make_content({"a.png": [*CLEAN["a.png"], ("cat", float("nan"), 6, 9, 9)]})
    severities = {
        finding.where: finding.severity
        for finding in start_up_findings(content, content, **SCALE)
        if finding.check == "non-finite-boxes"
    }
    assert severities == {"train": "warning", "val": "error"}


def test_no_folder_is_needed() -> None:
    assert not Path("made").exists()
