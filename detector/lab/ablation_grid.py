"""The cells of the ablation: class losses that are compared, and what the paper reports for them.

Lin et al. 2017, Tables 1a (cross-entropy), 1b (focal loss) and 1d (online hard example mining).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, Literal, TypeAlias

from detector.errors import UserError

PaperAP: TypeAlias = float | Literal["diverges"] | None
"""AP in [0, 1]; None where the paper has no such cell."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One class loss of the grid.

    Attributes:
        name: name of its folder.
        kind: which loss.
        alpha: weight of the object terms; None = no weights.
        gamma: focusing exponent; 0 but for the focal loss.
        prior: score that every anchor starts with.
        negatives_per_positive: of hard example mining.
    """

    name: str
    kind: Literal["ce", "balanced_ce", "ohem", "focal"]
    alpha: float | None = None
    gamma: float = 0.0
    prior: float = 0.01
    negatives_per_positive: float = 3.0

    @property
    def label(self) -> str:
        """The loss in words, such as ``FL (γ 2, α .25)``."""
        match self.kind:
            case "ce":
                return f"CE, π {short(self.prior)}"
            case "balanced_ce":
                return f"balanced CE, α {short(self.alpha or 0)}"
            case "ohem":
                return f"OHEM 1:{short(self.negatives_per_positive)}"
            case "focal":
                return f"FL (γ {short(self.gamma)}, α {short(self.alpha or 0)})"

    def overrides(self) -> list[str]:
        """Return what this cell changes in a configuration, ``key=value`` each."""
        match self.kind:
            case "ce" | "balanced_ce":
                loss = ["name=sigmoid_ce", f"alpha={'null' if self.alpha is None else self.alpha}"]
            case "ohem":
                loss = ["name=ohem", f"negatives_per_positive={self.negatives_per_positive}"]
            case "focal":
                loss = ["name=sigmoid_focal", f"alpha={self.alpha}", f"gamma={self.gamma}"]
        return [*(f"loss.cls.{assignment}" for assignment in loss), f"model.head.prior={self.prior}"]


def short(value: float) -> str:
    """Write a number as the paper does: ``2``, ``.25``."""
    text = f"{value:g}"
    return text[1:] if text.startswith("0.") else text


def _ce(prior: float) -> Cell:
    return Cell(f"ce_pi{short(prior)}", "ce", prior=prior)


def _balanced_ce(alpha: float) -> Cell:
    return Cell(f"ce_a{short(alpha)}", "balanced_ce", alpha=alpha)


def _focal(gamma: float, alpha: float) -> Cell:
    return Cell(f"fl_g{short(gamma)}_a{short(alpha)}", "focal", alpha=alpha, gamma=gamma)


FULL_GRID: Final = (
    _ce(0.5),
    _ce(0.01),
    *(_balanced_ce(alpha) for alpha in (0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999)),
    Cell("ohem_1to3", "ohem"),
    *(_focal(*pair) for pair in ((0.1, 0.75), (0.2, 0.75), (0.5, 0.5), (1.0, 0.25), (2.0, 0.25), (5.0, 0.25))),
)
"""Tables 1a and 1b, and of 1d the mining at 1:3. The batch sizes and NMS thresholds of 1d have no counterpart: mining
here takes the hardest background anchors of an image without a non-maximum suppression."""

DEFAULT_GRID: Final = tuple(
    cell
    for cell in FULL_GRID
    if cell.name
    in {
        *("ce_pi.5", "ce_pi.01", "ce_a.25", "ce_a.75", "ohem_1to3"),
        *("fl_g.5_a.5", "fl_g1_a.25", "fl_g2_a.25", "fl_g5_a.25"),
    }
)
"""The cells that tell the paper's story in half the time."""

FOCAL: Final = "fl_g2_a.25"
"""The paper's choice, which the others are compared with."""

PAPER_TABLES: Final[tuple[tuple[str, tuple[tuple[str, PaperAP], ...]], ...]] = (
    (
        "1a",
        (
            ("ce_pi.5", "diverges"),  # Sec. 4.1
            ("ce_pi.01", 0.302),  # the paper's row α .50: equal weights
            ("ce_a.1", 0.0),
            ("ce_a.25", 0.108),
            ("ce_a.5", 0.302),
            ("ce_a.75", 0.311),
            ("ce_a.9", 0.308),
            ("ce_a.99", 0.287),
            ("ce_a.999", 0.251),
        ),
    ),
    (
        "1b",
        (
            ("ce_a.75", 0.311),  # the paper's row γ 0
            ("fl_g.1_a.75", 0.314),
            ("fl_g.2_a.75", 0.319),
            ("fl_g.5_a.5", 0.329),
            ("fl_g1_a.25", 0.337),
            ("fl_g2_a.25", 0.340),
            ("fl_g5_a.25", 0.322),
        ),
    ),
    # ResNet-101 at 600 px in the paper, ResNet-50 above. OHEM 1:3: its best, batch size 128 and NMS at .5.
    ("1d", (("ohem_1to3", 0.311), ("fl_g2_a.25", 0.360))),
)
"""The paper's tables: cells in its order, with its AP on COCO."""


def find_cells(names: Sequence[str] | None, *, full: bool) -> tuple[Cell, ...]:
    """Return the cells to train.

    Args:
        names: cells by name; None for the whole grid.
        full: the paper's grid in place of the default one, where no names are given.

    Raises:
        UserError: if there is no cell of a name; suggests the nearest and lists all.
    """
    if names is None:
        return FULL_GRID if full else DEFAULT_GRID
    known = {cell.name: cell for cell in FULL_GRID}
    for name in names:
        if name not in known:
            similar = [other for other in known if other.startswith(name)] or get_close_matches(name, known, n=2)
            question = f" Did you mean {' or '.join(repr(other) for other in similar)}?" if similar else ""
            raise UserError(f"--cells: there is no cell {name!r}.{question} The cells are {', '.join(known)}")
    return tuple(cell for cell in FULL_GRID if cell.name in names)
