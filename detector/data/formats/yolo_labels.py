"""Label files of YOLO: one line an object, ``class x_center y_center width height`` in parts of the image's sides."""

from pathlib import Path
from typing import Final, NamedTuple

from detector.data.formats.text_files import quote, read_lines, read_number
from detector.errors import UserError

MAX_COORDINATE: Final = 16.0
"""Coordinates are parts of the image, so about 0 to 1; what is beyond this in size must be something else, such as
pixels. The room in between is for boxes that leave their image, which others report."""

_MIN_POLYGON = 6  # numbers: three corners


class YoloObject(NamedTuple):
    """A line: class from 0 on, (x, y, width, height) of the upper left corner in parts of the image, line number."""

    label: int
    box: tuple[float, float, float, float]
    line: int


def read_labels(path: Path, num_classes: int, num_keypoint_values: int = 0) -> list[YoloObject]:
    """Read a label file; polygons, ``class x1 y1 x2 y2 x3 y3 ...``, become the boxes around them.

    A line of six values (a box with a confidence, as predictions have) is an error. Ultralytics, whose format this
    is, leaves out the whole image then, and reads boxes in a file with polygons as polygons of two corners; here each
    line counts for itself.

    Args:
        path: the file, which may be empty.
        num_classes: K; classes are 0 ... K-1.
        num_keypoint_values: numbers behind each box that are keypoints, which are left out; there are no polygons then.

    Raises:
        UserError: the file cannot be read, or a line is something else; names file and line.
    """
    return [
        _read_object(tokens, num_classes, num_keypoint_values, path, number)
        for number, line in enumerate(read_lines(path), start=1)
        if (tokens := line.split())
    ]


def _read_object(tokens: list[str], num_classes: int, num_keypoint_values: int, path: Path, line: int) -> YoloObject:
    values = [value for token in tokens if (value := read_number(token)) is not None]
    if len(values) < len(tokens):
        wrong = next(token for token in tokens if read_number(token) is None)
        raise UserError(f"{path}:{line}: {quote(wrong)} is no finite number, expected class x y width height")
    label, *coordinates = values
    if num_keypoint_values:
        coordinates = _drop_keypoints(coordinates, num_keypoint_values, path, line)
    _check_count(len(coordinates), path, line)
    if not (label.is_integer() and 0 <= label < num_classes):
        raise UserError(
            f"{path}:{line}: class {quote(tokens[0])}, expected 0 ... {num_classes - 1}: the dataset has {num_classes} "
            "classes"
        )
    if max(map(abs, coordinates)) > MAX_COORDINATE:
        raise UserError(
            f"{path}:{line}: {quote(' '.join(tokens))}: the coordinates must be parts of the image's width and height, "
            "from 0 to 1; are these pixels?"
        )
    if len(coordinates) == 4:
        x, y, width, height = coordinates
        return YoloObject(int(label), (x - width / 2, y - height / 2, width, height), line)
    left, top = min(coordinates[::2]), min(coordinates[1::2])
    box = (left, top, max(coordinates[::2]) - left, max(coordinates[1::2]) - top)
    return YoloObject(int(label), box, line)


def _drop_keypoints(values: list[float], num_keypoint_values: int, path: Path, line: int) -> list[float]:
    """Return the four numbers of the box."""
    if len(values) != 4 + num_keypoint_values:
        raise UserError(
            f"{path}:{line}: {len(values) + 1} values; expected {5 + num_keypoint_values} (class x y width height and "
            f"{num_keypoint_values} of keypoints, as kpt_shape of the YAML file says)"
        )
    return values[:4]


def _check_count(count: int, path: Path, line: int) -> None:
    if count != 4 and (count < _MIN_POLYGON or count % 2):
        advice = ": a box with a confidence, as in predictions?" if count == 5 else ""
        raise UserError(
            f"{path}:{line}: {count + 1} values{advice}; expected 5 (class x y width height), or a class and the "
            "corners of a polygon, two numbers each"
        )
