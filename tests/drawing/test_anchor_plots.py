"""The figure of anchors and boxes shows what it was given."""

import numpy as np

from detector.drawing.anchor_plots import MAX_POINTS, plot_anchor_fit
from detector.drawing.plots import render

BOX_SIDES = np.array([[10.0, 20.0], [300.0, 40.0], [55.0, 55.0], [8.0, 90.0]])
ANCHOR_SIDES = {"now": np.array([[32.0, 32.0]]), "suggested": np.array([[16.0, 32.0], [64.0, 8.0]])}


def test_both_sets_of_anchors_are_counted_and_drawn() -> None:
    best_iou = {"now": np.array([0.1, 0.5, 0.49, 0.9]), "suggested": np.array([0.5, 0.7, 0.6, 0.9])}
    left, right = plot_anchor_fit(best_iou, 0.5, BOX_SIDES, ANCHOR_SIDES).axes
    assert [text.get_text() for text in left.get_legend().get_texts()] == [
        "now: 50.0% reach 0.5",
        "suggested: 100.0% reach 0.5",
    ]
    boxes, now, suggested = (np.column_stack(line.get_data()) for line in right.lines)
    np.testing.assert_array_equal(boxes, BOX_SIDES)
    np.testing.assert_array_equal(now, ANCHOR_SIDES["now"])
    np.testing.assert_array_equal(suggested, ANCHOR_SIDES["suggested"])


def test_one_set_of_anchors_is_enough_and_many_boxes_are_thinned_out() -> None:
    sides = np.full((3 * MAX_POINTS, 2), 30.0)
    figure = plot_anchor_fit({"now": np.full(len(sides), 0.6)}, 0.5, sides, {"now": ANCHOR_SIDES["now"]})
    assert len(figure.axes[1].lines[0].get_xdata()) == MAX_POINTS
    picture = render(figure)
    assert picture.shape == (420, 1000, 3)
    assert picture.std() > 10
