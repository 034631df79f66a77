"""What a diagnosis remembers of a run: sums over its train rows, the first and the latest of them, and streaks.

Letters: L levels, K classes.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from detector.telemetry.rows import TrainRow

FIRST_ROWS: Final = 10
"""Rows whose loss is the start that later ones are compared with: one odd batch does not move their median."""

LATEST_ROWS: Final = 20
"""Rows of the present. More than at the start, because the loss is lower and the relative noise larger there."""

DROWNED_FG_SHARE: Final = 0.01
"""Share of the foreground in the class loss below which the background drowns it: CE without prior starts with
thousandths. On the demo set it has left them after some dozen steps, and no loss comes near again."""

SURE_P_FOREGROUND: Final = 0.5
"""From this mean probability on, a small share of the foreground is the reward of having learnt it, no harm."""

STUCK_FACTOR: Final = 1.5
"""Up to this factor over its start the foreground's probability has not moved: random weights spread it by a few per
cent."""

APART_FACTOR: Final = 2.0
"""From this factor over the background's probability on, the network tells objects from background."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorLevel:
    """The anchors of a pyramid level.

    Attributes:
        name: such as P3.
        min_side: square root of the smallest anchor's area, in pixels of the network's input.
        max_side: of the largest one's.
    """

    name: str
    min_side: float
    max_side: float

    def __str__(self) -> str:
        return f"{self.name} (anchors of {self.min_side:.0f} to {self.max_side:.0f} px)"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What a diagnosis has to know of a run beside its rows.

    Attributes:
        max_steps: optimiser steps of the whole run.
        warmup_steps: steps over which the learning rate rises.
        initial_p: probability of every class that the prior gives before the first step.
        cls_loss: ``loss.cls.name``.
        prior: score of objects of any class that the network starts with.
        score_thresh: detections below it are dropped.
        allow_low_quality_matches: whether objects keep their best anchor, whatever its IoU.
        class_names: by label.
        levels: finest first.
        image_side: shorter side of the images in pixels, the largest that occurs.
        is_initialised: whether the weights come from another run, so that much is learnt before the first step.
    """

    max_steps: int
    warmup_steps: int
    initial_p: float
    cls_loss: str
    prior: float
    score_thresh: float
    allow_low_quality_matches: bool
    class_names: tuple[str, ...]
    levels: tuple[AnchorLevel, ...]
    image_side: float
    is_initialised: bool = False


@dataclass(slots=True)
class Streak:
    """Rows in a row of which something holds; rows that cannot tell are left out.

    Attributes:
        num_rows: length.
        first_step: step of the first of them.
    """

    num_rows: int = 0
    first_step: int = 0

    def update(self, step: int, holds: bool | None) -> None:
        """Take in a row; None = it cannot tell."""
        if holds is None:
            return
        if holds and self.num_rows == 0:
            self.first_step = step
        self.num_rows = self.num_rows + 1 if holds else 0


@dataclass(slots=True)
class History:
    """What the checks look at. All counts are over the rows seen, not over the steps between them.

    Attributes:
        facts: of the run.
        latest: the newest rows.
        num_rows: rows seen.
        first_step: step of the first one.
        first_losses: of the first ``FIRST_ROWS`` rows that have one, as :func:`loss_of_objects` gives it.
        latest_losses: of the newest rows, likewise.
        drowned: streak of rows after the warm-up in which background holds nearly all of the class loss.
        stuck: streak of rows after the warm-up in which the foreground's probability is still that of the prior, and
            that of the background no less.
        low: streak of rows after the warm-up in which the background's is less, but the foreground's still that of the
            prior and below the score threshold.
        num_gt: objects.
        num_unmatched_gt: objects without an anchor.
        level_num_foreground: [L] foreground anchors.
        class_num_foreground: [K] foreground anchors.
        class_num_gt: [K] objects.
    """

    facts: RunFacts
    latest: deque[TrainRow] = field(default_factory=lambda: deque(maxlen=LATEST_ROWS))
    num_rows: int = 0
    first_step: int = 0
    first_losses: list[float] = field(default_factory=list)
    latest_losses: deque[float] = field(default_factory=lambda: deque(maxlen=LATEST_ROWS))
    drowned: Streak = field(default_factory=Streak)
    stuck: Streak = field(default_factory=Streak)
    low: Streak = field(default_factory=Streak)
    num_gt: int = 0
    num_unmatched_gt: int = 0
    level_num_foreground: npt.NDArray[np.int64] = field(init=False)
    class_num_foreground: npt.NDArray[np.int64] = field(init=False)
    class_num_gt: npt.NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.level_num_foreground = np.zeros(len(self.facts.levels), dtype=np.int64)
        self.class_num_foreground = np.zeros(len(self.facts.class_names), dtype=np.int64)
        self.class_num_gt = np.zeros(len(self.facts.class_names), dtype=np.int64)

    def add(self, row: TrainRow) -> None:
        """Take in a row."""
        if self.num_rows == 0:
            self.first_step = row.step
        self.num_rows += 1
        self.latest.append(row)
        loss = loss_of_objects(row)
        if math.isfinite(loss):
            self.latest_losses.append(loss)
            if len(self.first_losses) < FIRST_ROWS:
                self.first_losses.append(loss)
        if row.step > self.facts.warmup_steps:
            self.drowned.update(row.step, _is_drowned(row))
            at_prior, apart = _is_at_prior(row, self.facts), is_apart(row)
            self.stuck.update(row.step, None if at_prior is None else at_prior and not apart)
            is_low = row.p_foreground < self.facts.score_thresh
            self.low.update(row.step, None if at_prior is None else at_prior and apart and is_low)
        if math.isfinite(row.num_gt):
            self.num_gt += int(row.num_gt)
            self.num_unmatched_gt += int(row.num_unmatched_gt)
        _add(self.level_num_foreground, row.level_num_foreground)
        _add(self.class_num_foreground, row.class_num_foreground)
        _add(self.class_num_gt, row.class_num_gt)


def loss_of_objects(row: TrainRow) -> float:
    """Return the loss as if it had been divided by the step's foreground anchors; NaN without any.

    So that what a running normaliser does in its first steps is not taken for learning, or for its opposite.
    """
    if not row.num_foreground > 0:
        return math.nan
    normalizer = row.normalizer if math.isfinite(row.normalizer) else row.num_foreground
    return row.loss * normalizer / row.num_foreground


def _is_drowned(row: TrainRow) -> bool | None:
    if not row.num_foreground > 0 or not math.isfinite(row.fg_share):
        return None
    return row.fg_share < DROWNED_FG_SHARE and not row.p_foreground >= SURE_P_FOREGROUND


def is_apart(row: TrainRow) -> bool:
    """Return whether foreground is told from background, wherever both lie."""
    return row.p_foreground >= APART_FACTOR * row.p_background


def _is_at_prior(row: TrainRow, facts: RunFacts) -> bool | None:
    if not math.isfinite(row.p_foreground) or not math.isfinite(row.p_background):
        return None
    return row.p_foreground <= STUCK_FACTOR * facts.initial_p


def _add(totals: npt.NDArray[np.int64], counts: Sequence[float]) -> None:
    if len(counts) == len(totals):  # rows of an older version have none
        totals += np.asarray(counts, dtype=np.int64)
