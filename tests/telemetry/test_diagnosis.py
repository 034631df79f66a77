"""The checks on rows: those of a recorded healthy run, those of a healthy run by formula, and each broken in one way.

``healthy_rows.jsonl`` holds the train rows of ``configs/retina_demo.yaml`` with ``schedule.max_steps=350`` and
``log_every=10``, rounded to four digits; that run reached AP .31. tests/engine/test_diagnosis.py provokes the findings
by real runs.
"""

import json
import math
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from detector.config import ClsLossConfig
from detector.config_io import load_config
from detector.telemetry import Diagnosis, Finding, TrainRow
from detector.telemetry.diagnosis import build_diagnosis
from detector.telemetry.diagnosis_checks import LATEST_ROWS, more_weight_for_objects, patience
from detector.telemetry.diagnosis_history import AnchorLevel, RunFacts
from tests.telemetry.sample_rows import OLD_TRAIN_NAMES

NAMES = {
    "normalizer",
    "background",
    "foreground_p",
    "low_scores",
    "level",
    "class",
    "unmatched_gt",
    "loss",
    "loss_spike",
}
"""All findings that rows can show."""

CLASSES = ("circle", "square", "triangle", "star", "ring", "cross")
LEVELS = tuple(
    AnchorLevel(name=f"P{idx + 3}", min_side=size, max_side=1.6 * size)
    for idx, size in enumerate((16, 32, 64, 128, 256))
)
FACTS = RunFacts(
    max_steps=350,
    warmup_steps=70,
    initial_p=0.01,
    prior=0.01,
    score_thresh=0.05,
    allow_low_quality_matches=True,
    cls_loss="sigmoid_focal",
    class_names=CLASSES,
    levels=LEVELS,
    image_side=224,
)


def healthy_rows(num_rows: int = 35) -> list[TrainRow]:
    """Return the recorded rows, and after the last of them plateaus that repeat the last ten."""
    lines = (Path(__file__).parent / "healthy_rows.jsonl").read_text().splitlines()
    rows = [TrainRow.from_json(json.loads(line)) for line in lines]
    while len(rows) < num_rows:
        rows.append(replace(rows[-10], step=rows[-1].step + 10))
    return rows[:num_rows]


def break_rows(rows: Iterable[TrainRow], **changes: Any) -> list[TrainRow]:
    return [replace(row, **changes) for row in rows]


def found(rows: Iterable[TrainRow], **facts: Any) -> list[Finding]:
    """Return all findings of a run with these rows."""
    diagnosis = Diagnosis(replace(FACTS, **facts))
    return [finding for row in rows for finding in diagnosis.observe(row)]


def steps_of(rows: Iterable[TrainRow], **facts: Any) -> dict[str, int]:
    """Return the step at which each finding was told; fails if one is told twice."""
    diagnosis, steps = Diagnosis(replace(FACTS, **facts)), {}
    for row in rows:
        for finding in diagnosis.observe(row):
            assert finding.name not in steps
            steps[finding.name] = row.step
    return steps


def stuck_rows(num_rows: int = 40) -> list[TrainRow]:
    """Rows of a run that learns nothing: losses and probabilities as the prior gives them, with the usual noise."""
    rng, rows = np.random.default_rng(0), healthy_rows(num_rows)
    noise = rng.normal(1, 0.05, (num_rows, 3))
    return [
        replace(row, loss=1.8 * a, fg_share=0.998, p_foreground=0.0101 * b, p_background=0.0115 * c)
        for row, (a, b, c) in zip(rows, noise, strict=True)
    ]


def learning_rows(seed: int, noise: float, num_rows: int = 120) -> list[TrainRow]:
    """Rows of a healthy run by formula: the loss falls by half, p rises to 0.16; both with multiplicative noise."""
    rng, rows = np.random.default_rng(seed), healthy_rows(num_rows)
    course = 1 - np.exp(-np.arange(num_rows) / 15)
    losses = 1.8 * (1 - 0.5 * course) * rng.lognormal(0, noise, num_rows)
    p_foreground = (0.01 + 0.15 * course) * rng.lognormal(0, noise, num_rows)  # below what "learnt" would be
    return [
        replace(row, loss=loss, p_foreground=p)
        for row, loss, p in zip(rows, losses.tolist(), p_foreground.tolist(), strict=True)
    ]


def test_a_healthy_run_is_left_in_peace() -> None:
    assert found(healthy_rows()) == []


def test_its_plateau_is_left_in_peace_too() -> None:
    assert found(healthy_rows(400), max_steps=4000) == []


def test_a_healthy_run_of_the_shipped_recipe_is_left_in_peace() -> None:
    config = load_config(Path("configs/retina_demo.yaml"))
    diagnosis = build_diagnosis(config, CLASSES, max_steps=700, warmup_steps=70, is_initialised=False)
    assert [finding for row in healthy_rows(70) for finding in diagnosis.observe(row)] == []


@pytest.mark.parametrize("noise", [0.05, 0.15, 0.3])
def test_noise_does_not_look_like_a_loss_that_stays(noise: float) -> None:
    assert [seed for seed in range(20) if found(learning_rows(seed, noise))] == []


@pytest.mark.parametrize("name", ["loss", "fg_share", "p_foreground", "p_background", "normalizer", "num_gt"])
def test_numbers_that_are_not_finite_show_nothing(name: str) -> None:
    assert found(break_rows(healthy_rows(), **{name: math.nan})) == []


def test_rows_without_any_object_show_nothing() -> None:
    empty = {
        "num_foreground": 0, "num_gt": 0, "num_unmatched_gt": 0, "normalizer": 1.0, "fg_share": 0.0, "loss": 300.0,
        "p_foreground": math.nan, "level_num_foreground": (0,) * 5, "class_num_foreground": (0,) * 6,
        "class_num_gt": (0,) * 6,
    }  # fmt: skip
    assert found(break_rows(healthy_rows(), **empty)) == []


@pytest.mark.parametrize("num_empty", [1, 3])
def test_batches_without_objects_in_between_change_nothing(num_empty: int) -> None:
    rows = [row for row in stuck_rows() for _ in range(num_empty + 1)]
    empty = {"num_foreground": 0, "fg_share": 0.0, "p_foreground": math.nan, "loss": 300.0}
    rows = [row if idx % (num_empty + 1) == 0 else replace(row, **empty) for idx, row in enumerate(rows)]
    assert "foreground_p" in steps_of(rows)


def test_losses_divided_by_all_anchors_are_named_at_the_first_row() -> None:
    rows = [replace(row, normalizer=row.num_foreground + row.num_background) for row in healthy_rows()]
    assert steps_of(rows) == {"normalizer": 10}
    (finding,) = found(rows)
    row = rows[0]
    assert f"divided by {row.normalizer:.0f}, but only {row.num_foreground:.0f} of the step's" in finding.text
    assert "loss.normalizer" in finding.text


def test_a_normaliser_far_above_the_foreground_but_below_the_anchors_is_none() -> None:
    # `ema` starts at 50 an image.
    assert found([replace(row, normalizer=400.0, num_foreground=30) for row in healthy_rows(5)]) == []


def test_anchors_that_nearly_all_have_an_object_may_be_the_normaliser() -> None:
    crowded = {"num_foreground": 60, "num_background": 30, "num_ignored": 10, "normalizer": 60.0}
    assert found(break_rows(healthy_rows(5), **crowded)) == []


def test_a_drowned_foreground_is_named_after_the_warm_up_and_some_patience() -> None:
    rows = break_rows(healthy_rows(), fg_share=0.004, p_foreground=0.02, p_background=0.001)
    assert steps_of(rows) == {"background": 80 + patience(FACTS)}
    (finding,) = found(rows)
    assert finding.text.startswith("background anchors hold 99.6 % of the class loss since step 80, after the warm-up")
    assert "loss.cls.gamma" in finding.text
    (finding,) = found(rows, cls_loss="sigmoid_ce")
    assert "loss.cls.name=sigmoid_focal" in finding.text


def test_one_row_with_a_louder_foreground_ends_the_streak() -> None:
    rows = break_rows(healthy_rows(), fg_share=0.004, p_foreground=0.02, p_background=0.001)
    for idx in range(0, 35, 5):
        rows[idx] = replace(rows[idx], fg_share=0.02)
    assert found(rows) == []


def test_a_foreground_that_is_learnt_may_have_a_small_share() -> None:
    assert found(break_rows(healthy_rows(), fg_share=0.004, p_foreground=0.9)) == []


def test_a_drowned_foreground_during_the_warm_up_is_no_finding() -> None:
    rows = healthy_rows()
    rows[:7] = break_rows(rows[:7], fg_share=0.004, p_foreground=0.011, p_background=0.011)
    assert found(rows) == []


@pytest.mark.parametrize("p_foreground", [0.0101, 0.004])
def test_a_foreground_that_stays_at_the_prior_is_named(p_foreground: float) -> None:
    rows = break_rows(healthy_rows(), p_foreground=p_foreground, p_background=0.011)
    assert steps_of(rows) == {"foreground_p": 80 + patience(FACTS)}
    (finding,) = found(rows)
    assert f"probability of the foreground is {p_foreground:.3g} at step 180; the prior put it at 0.01" in finding.text
    assert "boxes lie on the objects" in finding.text


def test_a_foreground_apart_from_the_background_is_named_where_nothing_is_detected() -> None:
    rows = break_rows(healthy_rows(40), p_foreground=0.008, p_background=0.0002)
    assert steps_of(rows) == {"low_scores": 80 + 3 * patience(FACTS)}
    assert found(rows)[0].text == (
        "the mean probability of the foreground is 0.008 at step 380; background has less, 0.0002, but below "
        "eval.score_thresh = 0.05 nothing is detected. Give the objects more weight: a higher loss.cls.alpha or "
        "loss.cls.gamma"
    )
    assert found(rows, score_thresh=0.005) == []
    # With a high prior a foreground below it may be useful.
    assert found(break_rows(healthy_rows(), p_foreground=0.13, p_background=0.001), initial_p=0.5) == []


@pytest.mark.parametrize("warmup_steps", [50, 70])
@pytest.mark.parametrize(
    ("p_foreground", "is_low"),
    [
        # Means every 20 steps of runs with cross-entropy on the demo set: without alpha (AP .157) and with .25 (AP 0).
        ([0.005, 0.006, 0.006, 0.006, 0.007, 0.010, 0.012, 0.014, 0.047, 0.083, *[0.12] * 10], False),
        ([0.005, 0.005, 0.006, 0.006, 0.006, 0.006, 0.006, 0.006, 0.006, 0.008, *[0.008] * 10], True),
    ],
)
def test_scores_that_recover_from_the_start_of_cross_entropy_are_left_in_peace(
    p_foreground: list[float], is_low: bool, warmup_steps: int
) -> None:
    rows = [
        replace(row, p_foreground=p, p_background=0.0004)
        for row, p in zip(healthy_rows(40)[1::2], p_foreground, strict=True)
    ]
    findings = steps_of(rows, max_steps=400, warmup_steps=warmup_steps, cls_loss="sigmoid_ce")
    assert ("low_scores" in findings) == is_low


@pytest.mark.parametrize("cls_loss", get_args(ClsLossConfig.model_fields["name"].annotation))
def test_remedies_name_only_what_the_loss_reads(cls_loss: str) -> None:
    facts = replace(FACTS, cls_loss=cls_loss)
    text = more_weight_for_objects(facts)
    keys = re.findall(r"loss\.cls\.(\w+)(?!\w*=)", text)
    assert {*keys} - {"name"} <= {*ClsLossConfig(name=cls_loss).acting_keys}
    if match := re.search(r"loss\.cls\.name=(\w+)", text):
        assert match[1].startswith("softmax") == cls_loss.startswith("softmax")


def test_the_prior_is_named_only_where_it_is_high() -> None:
    rows = break_rows(healthy_rows(), fg_share=0.004, p_foreground=0.02, p_background=0.001)
    assert "model.head.prior" not in found(rows)[0].text
    assert found(rows, prior=0.5)[0].text.endswith("; start with model.head.prior=0.01")


@pytest.mark.parametrize("max_steps", [1300, 1500, 1900])
def test_a_short_run_with_a_long_warm_up_is_judged_too(max_steps: int) -> None:
    rows = stuck_rows(max_steps // 10)
    assert "foreground_p" in steps_of(rows, max_steps=max_steps, warmup_steps=1000)


def test_a_loss_that_rises_with_the_quality_of_the_boxes_is_no_finding() -> None:
    rows = [replace(row, p_foreground=0.06, p_background=0.004) for row in stuck_rows()]
    assert found(rows) == []


def test_without_low_quality_matches_more_boxes_may_be_missed() -> None:
    rows = [replace(row, num_unmatched_gt=0.2 * row.num_gt) for row in healthy_rows()]
    assert {*steps_of(rows)} == {"unmatched_gt"}
    assert found(rows, allow_low_quality_matches=False) == []


def test_a_high_prior_is_no_sign_of_learning_nor_of_being_stuck() -> None:
    assert found(break_rows(healthy_rows(), p_foreground=0.6, p_background=0.03), initial_p=0.5) == []
    rows = break_rows(healthy_rows(), p_foreground=0.51, p_background=0.52)
    assert "foreground_p" in steps_of(rows, initial_p=0.5)


def test_a_level_between_others_without_objects_is_named() -> None:
    rows = [replace(row, level_num_foreground=(row.num_foreground - 9, 0, 9, 0, 0)) for row in healthy_rows()]
    assert steps_of(rows) == {"level": 200}
    (finding,) = found(rows)
    assert finding.text.startswith("no anchor of P4 (anchors of 32 to 51 px), P6 (anchors of 128 to 205 px), P7 ")
    assert f"in {sum(int(row.num_gt) for row in rows[:20])} boxes so far" in finding.text
    assert "model.anchors.sizes" in finding.text


def test_the_coarsest_level_may_be_empty_if_its_anchors_are_larger_than_the_images() -> None:
    assert all(row.level_num_foreground[4] == 0 for row in healthy_rows())
    (finding,) = found(healthy_rows(), image_side=600)
    assert finding.text.startswith("no anchor of P7 (anchors of 256 to 410 px) has had an object")
    rows = [replace(row, level_num_foreground=(row.num_foreground, 0, 0, 0, 0)) for row in healthy_rows()]
    assert steps_of(rows, image_side=30) == {"level": 200}  # the others may not, whatever the images


@pytest.mark.parametrize("seen", [{"num_gt": 2, "num_unmatched_gt": 0}, {"level_num_foreground": (0,) * 5}])
def test_few_boxes_or_no_match_at_all_say_nothing_of_levels(seen: dict[str, Any]) -> None:
    rows = [replace(row, level_num_foreground=(row.num_foreground, 0, 0, 0, 0)) for row in healthy_rows()]
    assert found(break_rows(rows, **seen)) == []


def test_a_class_whose_boxes_get_no_anchor_is_named() -> None:
    rows = [
        replace(row, class_num_foreground=(0, 0, *row.class_num_foreground[2:]), class_num_gt=(5, 0, 9, 9, 9, 9))
        for row in healthy_rows()
    ]
    assert steps_of(rows) == {"class": 40}
    (finding,) = found(rows)
    assert "no anchor has been assigned to 'circle' (20 boxes seen): the class cannot be learnt" in finding.text
    assert "assign.allow_low_quality_matches=true" in finding.text


def test_many_unmatched_classes_are_named_in_part() -> None:
    names = tuple(f"class {label}" for label in range(9))
    matched = {"class_num_foreground": (*(0,) * 8, 50), "class_num_gt": (20,) * 9}
    (finding,) = found(break_rows(healthy_rows(1), **matched), class_names=names)
    assert "'class 4' (20 boxes seen) and 3 more: these classes cannot be learnt" in finding.text


def test_boxes_that_the_anchors_miss_are_counted() -> None:
    rows = break_rows(healthy_rows(), num_gt=50, num_unmatched_gt=10)
    assert steps_of(rows) == {"unmatched_gt": 40}
    (finding,) = found(rows)
    assert "the anchors miss 20 % of the boxes (40 of 200 so far)" in finding.text
    assert "model.anchors.aspect_ratios" in finding.text


def test_a_few_missed_boxes_are_the_rule() -> None:
    assert found(break_rows(healthy_rows(), num_gt=50, num_unmatched_gt=2)) == []


def test_a_loss_that_stays_is_named() -> None:
    steps = steps_of(stuck_rows())
    assert steps == {"foreground_p": 180, "loss": 300}
    (finding,) = [finding for finding in found(stuck_rows()) if finding.name == "loss"]
    assert "the loss has not fallen since the first rows: 1.8" in finding.text
    assert "optimizer.lr" in finding.text


def test_a_loss_has_time_to_fall_until_after_the_warm_up() -> None:
    rows = [replace(row, step=idx) for idx, row in enumerate(stuck_rows(200), start=1)]
    assert steps_of(rows)["loss"] == FACTS.warmup_steps + patience(FACTS)


def test_a_loss_that_rises_is_named_otherwise() -> None:
    rows = stuck_rows()
    rows[20:] = break_rows(rows[20:], loss=40.0)
    (finding,) = [finding for finding in found(rows) if finding.name == "loss"]
    assert "the loss has risen since the first rows, from 1.8" in finding.text
    assert "Lower optimizer.lr" in finding.text


@pytest.mark.parametrize("seed", range(5))
def test_a_loss_that_stays_is_found_through_its_noise(seed: int) -> None:
    noise = np.random.default_rng(seed).lognormal(0, 0.15, 120).tolist()
    rows = [replace(row, loss=1.8 * factor) for row, factor in zip(stuck_rows(120), noise, strict=True)]
    assert "loss" in steps_of(rows)


def test_a_run_from_other_weights_may_keep_its_loss() -> None:
    assert "loss" not in steps_of(stuck_rows(), is_initialised=True)


def test_a_plateau_whose_fall_nobody_saw_is_none() -> None:
    rows = break_rows(healthy_rows(60), loss=0.5)  # fallen before the first row, as with a long log_every
    assert found(rows) == []
    late = [replace(row, step=row.step + 1000) for row in stuck_rows()]  # resumed without the old rows
    assert "loss" not in steps_of(late, max_steps=2000)


def test_a_running_normaliser_that_finds_its_level_is_no_rising_loss() -> None:
    rows = []
    for idx, row in enumerate(healthy_rows(60)):
        normalizer = row.num_foreground * (1 + 9 * 0.9**idx)  # ten times too high at first
        p_foreground = min(row.p_foreground, 0.15)
        rows.append(replace(row, normalizer=normalizer, loss=row.loss * row.num_foreground / normalizer))
        rows[-1] = replace(rows[-1], p_foreground=p_foreground)
    assert rows[0].loss < 0.5 * rows[-1].loss
    assert found(rows) == []


def all_broken(num_rows: int = 70) -> list[TrainRow]:
    """Rows that show every finding at some time."""
    rows = break_rows(stuck_rows(num_rows), fg_share=0.001, num_gt=50, num_unmatched_gt=10)
    rows = break_rows(rows, level_num_foreground=(300, 0, 0, 0, 0), class_num_foreground=(0, 50, 50, 50, 50, 50))
    rows[30:] = break_rows(rows[30:], normalizer=1e9)
    rows[35:] = break_rows(rows[35:], p_background=0.001)
    rows[28] = replace(rows[28], loss=100 * rows[28].loss)
    return rows


def test_every_finding_is_told_once() -> None:
    assert {*steps_of(all_broken())} == NAMES


def test_every_finding_is_one_line_with_a_remedy() -> None:
    for finding in found(all_broken()):
        assert "\n" not in finding.text
        assert "." in finding.text
        assert 60 < len(finding.text) < 400, finding.text


@pytest.mark.parametrize("num_before", [1, 9, 17, 25, 59])
def test_a_resumed_run_tells_the_rest_at_the_steps_of_the_uninterrupted_one(num_before: int) -> None:
    rows, expected = all_broken(), steps_of(all_broken())
    first = Diagnosis(FACTS)
    file = []
    for row in rows[:num_before]:
        file.append(row.to_json())
        file += [
            {"kind": "warning", "step": row.step, "name": finding.name, "text": finding.text}
            for finding in first.observe(row)
        ]
    file.append({"kind": "eval", "step": rows[num_before - 1].step, "AP": 0.1, "loss": None})
    second = Diagnosis(FACTS)
    second.replay(json.loads(json.dumps(row)) for row in file)
    steps = {finding.name: row.step for row in rows[num_before:] for finding in second.observe(row)}
    told = {str(row["name"]) for row in file if row["kind"] == "warning"}
    assert steps == {name: step for name, step in expected.items() if name not in told}
    assert all(second.has_told(name) for name in NAMES)


def test_rows_of_an_older_version_can_be_continued() -> None:
    rows = healthy_rows(60)
    old = [{name: row.to_json()[name] for name in OLD_TRAIN_NAMES} for row in rows[:30]]
    diagnosis = Diagnosis(FACTS)
    diagnosis.replay(old)
    assert [finding for row in rows[30:] for finding in diagnosis.observe(row)] == []


def test_a_finding_from_elsewhere_is_told_once_too() -> None:
    diagnosis = Diagnosis(FACTS)
    finding = Finding("prior", "the prior is not on the class head")
    assert not diagnosis.has_told("prior")
    assert diagnosis.only_new([finding]) == [finding]
    assert diagnosis.only_new([finding]) == []
    assert diagnosis.has_told("prior")


@pytest.mark.parametrize(
    ("activation", "loss", "p"), [("sigmoid", "sigmoid_ce", 0.02), ("softmax", "softmax_ce", 0.01)]
)
def test_the_facts_are_those_of_the_configuration(activation: str, loss: str, p: float) -> None:
    overrides = [
        f"model.head.activation={activation}", f"loss.cls.name={loss}", "model.head.prior=0.02",
        "model.anchors.scales=[0.5, 2]", "data.short_side=[96, 128]", "data.max_side=300",
    ]  # fmt: skip
    config = load_config(Path("configs/retina_demo.yaml"), overrides)
    diagnosis = build_diagnosis(config, ("a", "b"), max_steps=70, warmup_steps=7, is_initialised=True)
    facts = diagnosis._history.facts
    assert (facts.max_steps, facts.warmup_steps, facts.is_initialised) == (70, 7, True)
    assert (facts.initial_p, facts.cls_loss, facts.image_side) == (pytest.approx(p), loss, 128)
    assert str(facts.levels[0]) == "P3 (anchors of 8 to 32 px)"
    assert len(facts.levels) == 5


@pytest.mark.parametrize(
    ("max_steps", "warmup_steps", "steps"),
    [(90_000, 1000, 1000), (90_000, 5000, 1000), (10_000, 100, 500), (700, 70, 100), (60, 1, 100)],
)
def test_patience_is_a_share_of_the_run_with_a_limit(max_steps: int, warmup_steps: int, steps: int) -> None:
    assert patience(replace(FACTS, max_steps=max_steps, warmup_steps=warmup_steps)) == steps


def test_what_is_remembered_does_not_grow_with_the_run() -> None:
    diagnosis = Diagnosis(FACTS)
    for row in healthy_rows(500):
        diagnosis.observe(row)
    history = diagnosis._history
    assert (len(history.latest), len(history.latest_losses), len(history.first_losses)) == (
        LATEST_ROWS,
        LATEST_ROWS,
        10,
    )
