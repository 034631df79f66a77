"""A clean set gives no findings, and every finding says where it is and what to do."""

from pathlib import Path

from detector.inspect.doctor import check_splits
from detector.inspect.doctor.finding import SEVERITIES
from tests.inspect.doctor.made_sets import CLEAN, SCALE, checked, document_of, make_split, read_split, write_set


def test_a_clean_set_gives_no_findings(tmp_path: Path) -> None:
    train = read_split(*write_set(tmp_path, document_of(CLEAN)))
    val = read_split(*write_set(tmp_path, document_of(CLEAN), "val"), "val", is_scored=True)
    assert check_splits([train, val], **SCALE) == ()


def test_errors_come_before_warnings_and_notes(tmp_path: Path) -> None:
    boxes = {"a.png": [("cat", 5, 6, 0, 20), ("dog", 10, 10, 20, 20)], "b.png": []}
    train = read_split(*write_set(tmp_path, document_of(boxes)))
    (tmp_path / "train/b.png").unlink()
    train = read_split(tmp_path / "train.json", tmp_path / "train")
    severities = [finding.severity for finding in check_splits([train], **SCALE)]
    assert severities == sorted(severities, key=SEVERITIES.index)
    assert set(severities) == set(SEVERITIES)


def test_mixed_up_boxes_hide_what_only_follows_from_them() -> None:
    corners = {f"{i}.png": [("cat", 30 + i % 3, 25, 70, 55), ("dog", 40, 30, 78, 58)] for i in range(6)}
    assert set(checked(make_split(corners))) == {"mixed-up-boxes"}
