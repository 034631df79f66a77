"""Reading runs, and telling differences from chance."""

import math
from pathlib import Path

import pytest

from detector.lab.ablation_grid import find_cells
from detector.lab.ablation_plan import PlannedRun, plan_runs
from detector.lab.ablation_results import DIVERGED, compare, read_results, read_run
from tests.engine.tiny import make_dataset, write_config
from tests.lab.fake_runs import result, write_run


@pytest.fixture
def run(tmp_path: Path) -> PlannedRun:
    config = write_config(tmp_path, make_dataset(tmp_path / "data"))
    return plan_runs(str(config), [], find_cells(["fl_g2_a.25"], full=False), [0], tmp_path / "grid", 7)[0]


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        # Means .5 and .375; the larger range decides, whichever cell has it. All numbers are exact in binary.
        ((0.5, 0.5), (0.375, 0.375), "ahead"),
        ((0.375, 0.375), (0.5, 0.5), "behind"),
        ((0.4375, 0.5625), (0.375, 0.375), "tie"),  # range .125 = difference
        ((0.5, 0.5), (0.3125, 0.4375), "tie"),
        ((0.46875, 0.53125), (0.375, 0.375), "ahead"),  # range .0625 < difference
        ((0.5, 0.5), (0.25, 0.5), "tie"),
        ((0.5, 0.5), (0.5, 0.5), "tie"),
        # Three seeds: the range is the largest minus the smallest, not the last minus the first.
        ((0.375, 0.75, 0.375), (0.375, 0.375, 0.375), "tie"),
        ((0.5,), (0.375, 0.375), "one seed"),
        ((0.5, 0.5), (0.375,), "one seed"),
        ((0.5, 0.5), (), "missing"),
        ((0.5, 0.5), (None, 0.9), "ahead"),
        ((None, None), (0.0, 0.0), "behind"),
        ((None,), (None, 0.5), "both diverged"),
    ],
)
def test_a_difference_counts_only_if_it_is_larger_than_the_larger_range_of_the_seeds(
    first: tuple[float | None, ...], second: tuple[float | None, ...], verdict: str
) -> None:
    assert compare(result("fl_g2_a.25", *first), result("ce_a.75", *second)).verdict == verdict


def test_a_comparison_says_by_how_much() -> None:
    comparison = compare(result("fl_g2_a.25", 0.5, 0.75), result("ce_a.75", 0.25, 0.375))
    assert comparison.difference == 0.625 - 0.3125
    assert comparison.spread == 0.25
    assert math.isnan(compare(result("fl_g2_a.25", 0.5), result("ce_a.75", None)).difference)


def test_a_run_is_done_with_the_evaluation_of_its_last_step(run: PlannedRun) -> None:
    assert read_run(run) is None
    write_run(run.config, None)
    assert read_run(run) is None
    write_run(run.config, 0.5)
    found = read_run(run)
    assert found is not None
    assert not found.diverged
    assert found.metrics == {"AP": 0.5, "AP50": 0.7, "AP75": 0.4}
    assert found.training_seconds == 30 * 7  # rows at steps 1 and 7, 30 s a step
    metrics = run.folder / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('"kind": "eval", "step": 7', '"kind": "eval", "step": 6'))
    assert read_run(run) is None  # of a shorter run


def test_a_torn_last_line_is_no_row(run: PlannedRun) -> None:
    write_run(run.config, 0.5)
    metrics = run.folder / "metrics.jsonl"
    metrics.write_text(metrics.read_text()[:-5])
    assert read_run(run) is None


def test_a_run_that_diverged_is_done(run: PlannedRun) -> None:
    write_run(run.config, None)
    (run.folder / DIVERGED).write_text("training has diverged")
    cell = read_results([run])["fl_g2_a.25"]
    assert cell.num_diverged == 1
    assert cell.values("AP") == []
    assert math.isnan(cell.mean())
