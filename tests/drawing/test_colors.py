from itertools import pairwise

import cv2
import numpy as np

from detector.drawing.colors import class_color, relative_luminance, text_color

LABELS = range(400)


def lab(labels: range) -> np.ndarray:
    rgb = np.array([class_color(label) for label in labels], dtype=np.float32)[None] / 255
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab)[0]


def test_classes_of_a_small_dataset_are_told_apart() -> None:
    colors = lab(range(20))
    distances = np.linalg.norm(colors[:, None] - colors[None], axis=2) + 1000 * np.eye(20)
    assert distances.min() > 25  # a difference of 2.3 is just noticeable (CIE 1976)


def test_neighbouring_labels_never_look_alike() -> None:
    colors = lab(LABELS)
    assert min(np.linalg.norm(a - b) for a, b in pairwise(colors)) > 25


def test_the_text_on_every_colour_is_readable() -> None:
    for label in LABELS:
        low, high = sorted((relative_luminance(class_color(label)), relative_luminance(text_color(class_color(label)))))
        assert (high + 0.05) / (low + 0.05) >= 4.5


def test_any_integer_has_a_colour() -> None:
    for label in (-1, 0, 7, 10_000):
        assert all(0 <= value <= 255 for value in class_color(label))
