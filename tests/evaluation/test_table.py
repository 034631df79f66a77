"""The table that people read."""

from detector.evaluation.coco import METRICS, ClassScore, CocoScores
from detector.evaluation.table import format_scores


def scores(*rows: ClassScore, notes: tuple[str, ...] = ()) -> CocoScores:
    values = [0.5, 0.75, -1.0, 0.0, 1.0, 0.12345, *[0.25] * 6]
    return CocoScores(dict(zip(METRICS, values, strict=True)), rows, notes)


def test_every_number_stands_under_its_name() -> None:
    lines = format_scores(scores()).splitlines()
    assert dict(zip(lines[0].split(), lines[1].split(), strict=True)) == {
        "AP": "0.5000",
        "AP50": "0.7500",
        "AP75": "-1",
        "APs": "0.0000",
        "APm": "1.0000",
        "APl": "0.1235",
    }
    assert lines[2].split() == list(METRICS[6:])
    assert len(lines[0]) == len(lines[1])


def test_classes_are_all_listed_in_order_and_aligned() -> None:
    rows = [ClassScore(i, f"class {i}" * (i % 3 + 1), i / 100, 0.5, 1000 * i) for i in range(100)]
    text = format_scores(scores(*rows))
    table = text.splitlines()[5:106]
    assert [line.split()[-1] for line in table] == ["objects", *(str(1000 * i) for i in range(100))]
    assert len({len(line) for line in table}) == 1


def test_wide_and_unprintable_names_keep_the_table_in_shape() -> None:
    rows = [ClassScore(1, "猫", 0.1, 0.2, 3), ClassScore(2, "a\nb\x1b", 0.1, 0.2, 3)]
    lines = format_scores(scores(*rows)).splitlines()
    assert lines[6].startswith("猫" + " " * 4)
    assert lines[7].startswith("a?b?  ")
    assert len(lines) == 10


def test_notes_close_the_table() -> None:
    assert format_scores(scores(notes=("mind this",))).splitlines()[-1] == "note: mind this"
