"""A split of a dataset as the dataset doctor looks at it.

Letters: I images, B boxes, K classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from detector.data.box_cleaning import CleanedBoxes, clean_content
from detector.data.formats.content import UNKNOWN_SIZE, DatasetContent
from detector.inspect.doctor.finding import Example
from detector.inspect.doctor.image_facts import ImageFacts

DEFAULT_EXAMPLES: Final = 5

Flags = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """One split with what is known of its image files.

    Attributes:
        name: such as ``train``.
        content: the annotations as they are written.
        is_scored: whether detections are scored on it, which has stricter rules than learning from it.
        facts: I facts of the image files; None where nobody looked.
        num_examples: how many examples a finding names.
        filled: rows of images whose size is not annotated and was taken from the file.
    """

    name: str
    content: DatasetContent
    is_scored: bool = False
    facts: Sequence[ImageFacts] | None = None
    num_examples: int = DEFAULT_EXAMPLES
    filled: tuple[int, ...] = ()

    def with_facts(self, facts: Sequence[ImageFacts]) -> "Split":
        """Return the split with the facts of its image files, whose sizes stand in for those that are not annotated."""
        unknown = np.flatnonzero((self.content.sizes == UNKNOWN_SIZE).any(axis=1)).tolist()
        found = {row: size for row in unknown if (size := facts[row].shown_size) is not None}
        sizes = np.array(list(found.values()), dtype=np.int64).reshape(-1, 2)
        content = self.content.with_measured_sizes(np.array(list(found), dtype=np.int64), sizes)
        return replace(self, content=content, facts=facts, filled=tuple(found))

    @cached_property
    def sizes(self) -> npt.NDArray[np.float64]:
        """[I, 2] (height, width) in pixels; infinite where they are not known."""
        return np.where(self.content.sizes == UNKNOWN_SIZE, np.inf, self.content.sizes)

    @cached_property
    def cleaned(self) -> CleanedBoxes:
        """What training makes of the boxes."""
        return clean_content(self.content)

    @cached_property
    def boxes_per_class(self) -> Rows:
        """[K] boxes of each class, ignore regions left out."""
        labels = self.content.labels[~self.content.is_ignored]
        return np.bincount(labels, minlength=len(self.content.categories))

    def box_examples(self, rows: Rows | Flags, detail: Callable[[int], str] | None = None) -> tuple[Example, ...]:
        """Name the first boxes of some.

        Args:
            rows: their numbers or flags.
            detail: returns what to say of a box behind its numbers.
        """
        first = np.arange(self.content.num_boxes)[rows][: self.num_examples].tolist()
        return tuple(self.box_example(row, detail(row) if detail else "") for row in first)

    def box_example(self, row: int, detail: str = "", others: tuple[int, ...] = ()) -> Example:
        """Name one box; ``others`` are boxes of the same image that belong to it."""
        text = self.describe_box(row) + (f"; {detail}" if detail else "")
        return Example(text, self.name, int(self.content.image_index[row]), (row, *others))

    def image_examples(self, rows: Rows | Flags, detail: Callable[[int], str] | None = None) -> tuple[Example, ...]:
        """Name the first images of some.

        Args:
            rows: their numbers or flags.
            detail: returns what to say of an image behind its name.
        """
        first = np.arange(self.content.num_images)[rows][: self.num_examples].tolist()
        texts = [self.content.describe_image(row) + (f": {detail(row)}" if detail else "") for row in first]
        return tuple(Example(text, self.name, row) for text, row in zip(texts, first, strict=True))

    def describe_image_of(self, row: int) -> str:
        """Return the size of the image of box ``row`` in words."""
        height, width = self.sizes[int(self.content.image_index[row])].tolist()
        return f"the image is {width:.0f} x {height:.0f}"

    def describe_box(self, row: int) -> str:
        """Return where box ``row`` stands, its class and its numbers."""
        content = self.content
        file_name = content.file_names[int(content.image_index[row])]
        of_image = f" of {file_name}" if content.format in ("coco", "csv") else ""
        name = content.categories.names[int(content.labels[row])]
        return f"{content.describe_box(row)}{of_image}: {name!r} {describe_numbers(content.boxes[row])}"


def describe_numbers(box: npt.NDArray[np.float64]) -> str:
    """Return a box (x, y, width, height) in words: its upper left corner, width x height."""
    x, y, width, height = (f"{value:.6g}" for value in box.tolist())
    return f"at ({x}, {y}), {width} x {height} px"
