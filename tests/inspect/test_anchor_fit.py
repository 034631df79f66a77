"""Fitted anchors: better where there is something to gain, the same on every run, and ready to paste."""

import math
from pathlib import Path

import numpy as np
import pytest

from detector.config_io import load_config
from detector.inspect.anchor_coverage import AnchorStudy
from detector.inspect.anchor_fit import MARGIN, fit_shapes, make_fit_target
from detector.inspect.anchor_report import format_more, format_suggestion
from detector.inspect.anchor_shapes import AnchorShapes, changed_lists, override_line, round_shapes, yaml_lines
from detector.inspect.anchor_suggestion import Suggestion, count_up, gains_of_more, make_suggestion
from tests.engine.tiny import make_dataset, write_config
from tests.inspect.anchor_cases import SQUARES, square, study_of


def random_study(sides: tuple[float, float], ratios: tuple[float, float], seed: int = 0) -> AnchorStudy:
    """A study of 200 boxes with sides and ratios between two numbers, log-uniform."""
    rng = np.random.default_rng(seed)
    side = np.exp(rng.uniform(*np.log(sides), 200))
    root = np.sqrt(np.exp(rng.uniform(*np.log(ratios), 200)))
    x, y = rng.uniform(150, 362, (2, 200))
    return study_of([square(*box) for box in zip(x, y, side / root, side * root, strict=True)])


def suggest(study: AnchorStudy, current: AnchorShapes = SQUARES) -> Suggestion:
    target = make_fit_target(study.training, study.grid(current), study.fg_iou_thresh)
    return make_suggestion(study, target, current, study.measure(current))


def test_the_score_is_the_capped_best_overlap_of_every_box_with_its_nearest_anchors() -> None:
    study = random_study((10, 200), (0.2, 5))
    target = make_fit_target(study.training, study.grid(SQUARES), 0.5)
    best = study.measure(SQUARES).matches.best_iou.astype(np.float64)
    # 200 boxes of one class: all are in the target, each with the same weight.
    assert target.score(SQUARES) == pytest.approx(np.minimum(best, 0.5 + MARGIN).mean(), abs=1e-6)


def test_boxes_of_rare_classes_weigh_more() -> None:
    study = study_of([square(128, 128, 64)] * 4, [0, 0, 0, 7])
    target = make_fit_target(study.training, study.grid(SQUARES), 0.5)
    assert target.weights.sum() == pytest.approx(1)
    assert target.weights.tolist() == pytest.approx([1 / 8 + 1 / 12] * 3 + [1 / 8 + 1 / 4])


def test_long_boxes_get_long_anchors_and_nearly_all_are_covered() -> None:
    suggestion = suggest(random_study((30, 60), (2.8, 3.2)))
    assert suggestion.before.reached < 0.7
    assert suggestion.after.reached > 0.97
    assert suggestion.is_worth_it
    assert 2.0 < suggestion.shapes.aspect_ratios[0] < 4.0
    assert suggestion.shapes.num_per_cell == 1


def test_anchors_that_fit_are_kept() -> None:
    study = random_study((14, 200), (0.8, 1.25))
    dense = AnchorShapes(SQUARES.sizes, (1.0, 1.26, 1.59), (0.5, 1.0, 2.0))
    suggestion = suggest(study, dense)
    assert suggestion.before.reached > 0.98
    assert not suggestion.is_worth_it
    text = format_suggestion(suggestion, dense, ["thing"])
    assert text.startswith("your anchors fit; keep them. Fitted ones cover ")
    assert "model.anchors" not in text


def test_what_does_not_matter_stays_as_it_is() -> None:
    study = random_study((20, 40), (0.9, 1.1))
    target = make_fit_target(study.training, study.grid(SQUARES), 0.5)
    fitted = fit_shapes(target, SQUARES)
    np.testing.assert_allclose(fitted.sizes[3:], SQUARES.sizes[3:])  # no box comes near the two coarsest levels


def test_the_search_gives_the_same_every_time_and_keeps_order() -> None:
    study = random_study((8, 300), (0.2, 5))
    target = make_fit_target(study.training, study.grid(SQUARES), 0.5)
    start = AnchorShapes(SQUARES.sizes, (1.0, 1.5), (0.5, 2.0))
    fitted = fit_shapes(target, start)
    assert fitted == fit_shapes(target, start)
    assert target.score(fitted) > target.score(start)
    assert fitted.scales[0] == 1
    for values in (fitted.sizes, fitted.scales, fitted.aspect_ratios):
        assert list(values) == sorted(values)


def test_anchors_in_order_are_the_same_anchors() -> None:
    shapes = AnchorShapes((16, 32, 64, 128, 256), (1.0, 0.5, 2.0), (2.0, 0.5))
    ordered = shapes.in_order()
    assert ordered == AnchorShapes((8, 16, 32, 64, 128), (1.0, 2.0, 4.0), (0.5, 2.0))
    np.testing.assert_allclose(np.sort(ordered.sides(), axis=0), np.sort(shapes.sides(), axis=0))


def test_one_more_ratio_helps_where_there_are_two_kinds_of_boxes() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.uniform(100, 400, (2, 200))
    boxes = [square(x[i], y[i], *((24, 96) if i % 2 else (96, 24))) for i in range(200)]
    study = study_of(boxes)
    target = make_fit_target(study.training, study.grid(SQUARES), 0.5)
    gains = gains_of_more(study, target, SQUARES)
    assert gains["aspect ratio"][0] == gains["scale"][0] == 2
    assert gains["aspect ratio"][1] > 0.9 > gains["scale"][1]
    text = format_more(gains, reached=0.5)
    assert text.startswith("more anchors would cover more boxes: with one more aspect ratio (2 anchors a cell) ")
    assert format_more(gains, reached=1.0) == ""


def test_only_what_changes_is_set_and_both_forms_load(tmp_path: Path) -> None:
    recipe = write_config(tmp_path, make_dataset(tmp_path / "data"))
    current = AnchorShapes((16, 32, 64, 128, 256), (1.0, 2 ** (1 / 3), 2 ** (2 / 3)), (0.5, 1.0, 2.0))
    shapes = AnchorShapes((9.4, 21, 64, 128, 256), (1.0, 1.26, 1.59), (0.33, 1.0, 3.1))
    changes = changed_lists(current, shapes)
    assert list(changes) == ["sizes", "aspect_ratios"]
    line = override_line(changes)
    assert line == "'model.anchors.sizes=[9.4,21,64,128,256]' 'model.anchors.aspect_ratios=[0.33,1,3.1]'"
    anchors = load_config(recipe, line.replace("'", "").split()).model.anchors
    assert (anchors.sizes, anchors.aspect_ratios) == (shapes.sizes, shapes.aspect_ratios)
    text = recipe.read_text().replace("  anchors: {sizes: [16, 32, 64, 128, 256]}\n", "")
    lines = yaml_lines(changes).splitlines()
    assert lines[0] == "model:"
    recipe.write_text(text.replace("model:\n", yaml_lines(changes) + "\n"))
    assert load_config(recipe).model.anchors == anchors


def test_rounding_moves_no_side_by_more_than_a_twentieth() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = [
            tuple(float(v) for v in np.sort(np.exp(rng.uniform(math.log(low), math.log(high), n))))
            for low, high, n in ((4, 900, 5), (1, 3, 3), (0.1, 9, 3))
        ]
        shapes = AnchorShapes(values[0], values[1], values[2])
        np.testing.assert_allclose(round_shapes(shapes).sides(), shapes.sides(), rtol=0.05)


def test_a_suggestion_must_not_trade_one_count_for_the_other() -> None:
    study = random_study((30, 60), (2.8, 3.2))
    coverage = study.measure(SQUARES)
    numbers = count_up(coverage)

    def worth(reached: float, class_mean: float) -> bool:
        after = type(numbers)(reached, class_mean, 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        before = type(numbers)(0.8, 0.8, 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        return Suggestion(SQUARES, coverage, before, after).is_worth_it

    assert worth(0.81, 0.8)
    assert worth(0.8, 0.81)
    assert not worth(0.809, 0.809)
    assert not worth(0.9, 0.79)
    assert not worth(0.79, 0.9)
