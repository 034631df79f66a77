"""The cells and their configurations."""

from pathlib import Path

import pytest

from detector.config_io import flatten_config, load_config
from detector.errors import UserError
from detector.lab.ablation_grid import DEFAULT_GRID, FULL_GRID, PAPER_TABLES, find_cells
from detector.lab.ablation_plan import PlannedRun, check_same_config, plan_runs
from tests.lab.fake_runs import write_run

LOSS = ("loss.cls.", "model.head.prior")


def plan(folder: Path, *overrides: str, steps: int | None = 400) -> dict[str, PlannedRun]:
    runs = plan_runs("retina_demo", overrides, FULL_GRID, [3], folder, steps)
    return {run.cell.name: run for run in runs}


def test_the_default_grid_is_nine_cells_of_the_papers() -> None:
    assert [cell.label for cell in DEFAULT_GRID] == [
        *("CE, π .5", "CE, π .01", "balanced CE, α .25", "balanced CE, α .75", "OHEM 1:3"),
        *("FL (γ .5, α .5)", "FL (γ 1, α .25)", "FL (γ 2, α .25)", "FL (γ 5, α .25)"),
    ]
    names = [cell.name for cell in FULL_GRID]
    assert len(set(names)) == len(names) == 16
    assert {name for _, rows in PAPER_TABLES for name, _ in rows} == set(names)


def test_the_papers_numbers_are_its_tables_1a_and_1b() -> None:
    tables = {table: [ap for _, ap in rows] for table, rows in PAPER_TABLES}
    assert tables["1a"] == ["diverges", 0.302, 0.0, 0.108, 0.302, 0.311, 0.308, 0.287, 0.251]
    assert tables["1b"] == [0.311, 0.314, 0.319, 0.329, 0.337, 0.340, 0.322]


def test_runs_differ_in_their_loss_and_prior_alone(tmp_path: Path) -> None:
    runs = plan(tmp_path, "data.batch_size=4")
    plain = flatten_config(load_config("retina_demo", ["data.batch_size=4"]))
    for run in runs.values():
        values = flatten_config(run.config)
        changed = {key for key in values if values[key] != plain[key] and not key.startswith(LOSS)}
        assert changed == {
            "output_dir",
            "seed",
            "schedule.max_steps",
            "eval.every",
            "checkpoint.every",
            "checkpoint.keep",
        }
        assert run.config.output_dir == str(tmp_path / "runs" / run.cell.name / "seed-3")
        assert (run.config.seed, run.config.schedule.max_steps, run.config.eval.every) == (3, 400, 400)
        assert run.config.schedule.warmup_steps == 70  # the recipe's own


@pytest.mark.parametrize(
    ("cell", "name", "alpha", "gamma", "prior"),
    [
        ("ce_pi.5", "sigmoid_ce", None, None, 0.5),
        ("ce_pi.01", "sigmoid_ce", None, None, 0.01),
        ("ce_a.75", "sigmoid_ce", 0.75, None, 0.01),
        ("fl_g.5_a.5", "sigmoid_focal", 0.5, 0.5, 0.01),
        ("fl_g2_a.25", "sigmoid_focal", 0.25, 2.0, 0.01),
    ],
)
def test_a_cell_has_the_loss_of_its_name(
    tmp_path: Path, cell: str, name: str, alpha: float | None, gamma: float | None, prior: float
) -> None:
    config = plan(tmp_path)[cell].config
    assert (config.loss.cls.name, config.loss.cls.alpha, config.model.head.prior) == (name, alpha, prior)
    assert gamma is None or config.loss.cls.gamma == gamma
    ohem = plan(tmp_path)["ohem_1to3"].config.loss.cls
    assert (ohem.name, ohem.negatives_per_positive) == ("ohem", 3)


def test_all_cells_have_their_first_seed_before_any_has_its_second(tmp_path: Path) -> None:
    runs = plan_runs("retina_demo", [], find_cells(["fl_g2_a.25", "ce_pi.5"], full=False), [5, 1], tmp_path, None)
    assert [run.name for run in runs] == [
        *("ce_pi.5, seed 5", "fl_g2_a.25, seed 5"),
        *("ce_pi.5, seed 1", "fl_g2_a.25, seed 1"),
    ]
    assert {run.config.schedule.max_steps for run in runs} == {700}  # without --steps the recipe's own


def test_a_recipe_in_epochs_is_evaluated_at_its_end_alone(tmp_path: Path) -> None:
    config = plan(tmp_path, "schedule.epochs=2", steps=None)["fl_g2_a.25"].config
    assert (config.schedule.epochs, config.schedule.max_steps) == (2, None)
    assert isinstance(config.eval.every, int)
    assert config.eval.every > 10**6
    with_steps = plan(tmp_path, steps=10)["fl_g2_a.25"].config
    assert with_steps.schedule.max_steps == 10


def test_an_unknown_cell_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"there is no cell 'fl_g2'\. Did you mean 'fl_g2_a\.25'\? The cells are ce_pi"):
        find_cells(["ce_pi.5", "fl_g2"], full=False)
    with pytest.raises(UserError, match=r"no cell 'ohem1to3'\. Did you mean 'ohem_1to3'\?"):
        find_cells(["ohem1to3"], full=False)


@pytest.mark.parametrize("override", ["loss.cls.gamma=1", "loss.cls={gamma: 1}", "model.head.prior=.1", "seed=4"])
def test_what_the_grid_sets_itself_is_no_override(tmp_path: Path, override: str) -> None:
    with pytest.raises(UserError, match=r"the grid sets this key itself.*--cells"):
        plan(tmp_path, override)


def test_the_length_is_given_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"schedule\.max_steps=5: the length is given by --steps 400 already"):
        plan(tmp_path, "schedule.max_steps=5")
    assert plan(tmp_path, "schedule.max_steps=5", steps=None)["ce_pi.5"].config.schedule.max_steps == 5


def test_a_seed_twice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--seeds: 0 1 0: a seed is given twice"):
        plan_runs("retina_demo", [], DEFAULT_GRID, [0, 1, 0], tmp_path, 4)


def test_a_run_made_with_other_values_is_an_error_that_names_them(tmp_path: Path) -> None:
    run = plan(tmp_path, "precision=fp32")["ce_pi.5"]
    check_same_config(run, run.config)
    write_run(run.config, 0.5)
    check_same_config(run, run.config)
    same = plan(tmp_path, "precision=fp32", "data.num_workers=3", "log_every=7", "eval.num_pictures=0")["ce_pi.5"]
    check_same_config(same, same.config)
    other = plan(tmp_path, "precision=fp32", "optimizer.lr=0.5", "eval.nms_thresh=0.4", steps=300)["ce_pi.5"]
    with pytest.raises(UserError) as error:
        check_same_config(other, other.config)
    assert f"{other.folder}: this run of the grid was begun with another configuration" in str(error.value)
    for change in ("optimizer.lr 0.001, now 0.5", "eval.nms_thresh 0.5, now 0.4", "schedule.max_steps 400, now 300"):
        assert change in str(error.value)
