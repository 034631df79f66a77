"""The checks of a diagnosis: each looks at the history of a run and returns one finding in words, or nothing."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from detector.telemetry.diagnosis_history import FIRST_ROWS, LATEST_ROWS, STUCK_FACTOR, History, RunFacts, is_apart

ROWS_IN_A_ROW: Final = 5
"""Length of a streak that is no accident of some batches."""

MIN_PATIENCE: Final = 100
"""Steps after the warm-up before which no run has to have learnt anything: a short try is left in peace."""

MAX_PATIENCE: Final = 1000
"""Steps after the warm-up by which a run of any length is expected to have begun to learn; a choice."""

PATIENCE_SHARE: Final = 1 / 20
"""Share of the run that is waited for in between."""

LOW_PATIENCE: Final = 3
"""Times the patience with scores that are low but right: cross-entropy lowers all scores first. (On the demo set they
recover within 100 steps after the warm-up without alpha, and with alpha 0.25 not within 330.)"""

USUAL_PRIOR: Final = 0.01
"""The paper's."""

NORMALIZER_SHARE: Final = 0.5
"""A normaliser above this share of all anchors counts anchors, not objects."""

FAR_FEWER: Final = 0.1
"""... if foreground anchors are below this share of it (on real data they are thousandths)."""

MIN_GT_FOR_MISSED: Final = 200
"""Objects seen before a share of missed ones is told: its standard error is then below 2 %."""

MISSED_SHARE: Final = 0.05
"""Share of objects without an anchor from which it is told; healthy sets stay below 1 % (128 images of COCO: 0.75 %)
with low-quality matches."""

MISSED_SHARE_WITHOUT: Final = 0.3
"""The same without low-quality matches, where small objects miss out (the same images: 15 % at 800 px)."""

MIN_ROWS_FOR_LEVEL: Final = 20
"""Rows before a level is called empty: a few batches may all show small objects."""

MIN_GT_FOR_LEVEL: Final = 500
"""Objects seen likewise: none of them on a level then means, at 95 % confidence, fewer than 0.6 % of all."""

MIN_GT_FOR_CLASS: Final = 20
"""Objects of a class seen before it is called unmatched: if half of them had an anchor, all 20 would miss once in a
million."""

FALLEN: Final = 0.95
"""Share of its start that the loss must have come below, where its noise from row to row is small."""

HEALTHY_SHARE: Final = 0.65
"""Share of its start that the loss comes to in the first hundreds of steps of a healthy run, or below."""

NOISE_FACTOR: Final = 3 * 1.25 * math.sqrt(1 / FIRST_ROWS + 1 / LATEST_ROWS)
"""Three standard errors of the two medians' ratio, per unit of the rows' relative noise (a median's is 1.25 times a
mean's): a healthy loss must not seem to stay by chance. Decides from a noise of 20 % on."""

LEARNT_P_FOREGROUND: Final = 0.2
"""Above this mean probability the network has learnt to see objects: where the loss stays the same then, the first rows
were late (a long ``log_every``), and this is a plateau."""

LEARNING_FACTOR: Final = 3.0
"""From this factor over its start on, and apart from the background, the foreground's probability shows that the
network learns, whatever its loss does: a loss with the IoU as its target rises while the boxes get better."""

EARLY_SHARE: Final = 0.1
"""The first rows count as the start of the run only if they begin within this share of it; after a resume without the
old rows they do not."""

RISEN: Final = 1.2
"""Above this many times its start the loss has risen, which has other causes than staying where it is."""

MAX_NAMED: Final = 5
"""Classes named in one line."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong, in words.

    Attributes:
        name: what it is; told once per run.
        text: one line with cause and remedy.
    """

    name: str
    text: str


def patience(facts: RunFacts) -> int:
    """Return the steps after the warm-up that a run is given to begin to learn."""
    rest = facts.max_steps - facts.warmup_steps
    wanted = max(facts.warmup_steps, int(facts.max_steps * PATIENCE_SHARE))
    return min(MAX_PATIENCE, max(MIN_PATIENCE, min(wanted, rest // 2)))  # no later than half-way from the warm-up on


def more_weight_for_objects(facts: RunFacts) -> str:
    """Return which keys give the objects more weight with the chosen class loss."""
    match facts.cls_loss:
        case "sigmoid_ce":
            return "a higher loss.cls.alpha, or loss.cls.name=sigmoid_focal"
        case "softmax_ce":
            return "a higher loss.cls.alpha, or loss.cls.name=softmax_focal"
        case "quality_focal":
            return "a higher loss.cls.gamma"
        case "varifocal":
            return "a lower loss.cls.alpha, which weighs the background here, or a higher loss.cls.gamma"
        case "ohem":
            return "a lower loss.cls.negatives_per_positive"
        case _:
            return "a higher loss.cls.alpha or loss.cls.gamma"


def normalizer_counts_anchors(history: History) -> Finding | None:
    """Find losses that are divided by all anchors."""
    row = history.latest[-1]
    num_anchors = row.num_foreground + row.num_background + row.num_ignored
    if not row.normalizer > NORMALIZER_SHARE * num_anchors or row.num_foreground > FAR_FEWER * row.normalizer:
        return None
    return Finding(
        "normalizer",
        f"the losses are divided by {row.normalizer:.0f}, but only {row.num_foreground:.0f} of the step's "
        f"{num_anchors:.0f} anchors are foreground: a mean over all anchors leaves a loss and a gradient of almost 0. "
        "Divide by the foreground anchors, as loss.normalizer = batch, image and ema do",
    )


def background_drowns(history: History) -> Finding | None:
    """Find a class loss that is nearly all background's after the warm-up."""
    row, streak = history.latest[-1], history.drowned
    if not _is_long(history, streak.num_rows, row.step - streak.first_step):
        return None
    prior = f"; start with model.head.prior={USUAL_PRIOR}" if history.facts.prior > USUAL_PRIOR else ""
    return Finding(
        "background",
        f"background anchors hold {100 * (1 - row.fg_share):.1f} % of the class loss since step {streak.first_step}, "
        f"after the warm-up: the objects hardly count. Give them more weight: "
        f"{more_weight_for_objects(history.facts)}{prior}",
    )


def foreground_is_stuck(history: History) -> Finding | None:
    """Find a network that gives objects no more than the prior, and no more than background, after the warm-up."""
    row, streak = history.latest[-1], history.stuck
    if not _is_long(history, streak.num_rows, row.step - streak.first_step):
        return None
    return Finding(
        "foreground_p",
        f"the mean probability of the foreground is {row.p_foreground:.3g} at step {row.step}; the prior put it at "
        f"{history.facts.initial_p:.3g}, and background has {row.p_background:.3g}: the network does not tell objects "
        f"from background yet. Look whether the boxes lie on the objects (TensorBoard's pictures), and try another "
        f"optimizer.lr (now {row.lr:.2g})",
    )


def scores_are_low(history: History) -> Finding | None:
    """Find a network that tells objects from background, but with scores of which none reaches the threshold."""
    facts, row, streak = history.facts, history.latest[-1], history.low
    if streak.num_rows < ROWS_IN_A_ROW or row.step - streak.first_step < LOW_PATIENCE * patience(facts):
        return None
    return Finding(
        "low_scores",
        f"the mean probability of the foreground is {row.p_foreground:.3g} at step {row.step}; background has less, "
        f"{row.p_background:.3g}, but below eval.score_thresh = {facts.score_thresh:g} nothing is detected. Give the "
        f"objects more weight: {more_weight_for_objects(facts)}",
    )


def level_is_empty(history: History) -> Finding | None:
    """Find pyramid levels whose anchors no object has ever had.

    The coarsest level may be empty if its anchors are larger than the images: no object can have their size, and it
    costs nothing. Where no level has any, it is the objects that miss their anchors.
    """
    counts, levels = history.level_num_foreground, history.facts.levels
    too_early = history.num_rows < MIN_ROWS_FOR_LEVEL or history.num_gt < MIN_GT_FOR_LEVEL
    if too_early or not counts.any():
        return None
    empty = [level for level, count in zip(levels, counts, strict=True) if count == 0]
    if not empty or (empty == [levels[-1]] and levels[-1].min_side >= history.facts.image_side):
        return None
    return Finding(
        "level",
        f"no anchor of {_join(empty)} has had an object, in {history.num_gt} boxes so far: "
        f"{'these levels learn' if empty[1:] else 'this level learns'} background only. Fit model.anchors.sizes to the "
        "sizes of the objects in the resized images",
    )


def class_is_unmatched(history: History) -> Finding | None:
    """Find classes whose boxes never get an anchor, while others' do."""
    if not history.class_num_foreground.any():
        return None
    is_unmatched = (history.class_num_gt >= MIN_GT_FOR_CLASS) & (history.class_num_foreground == 0)
    labels = is_unmatched.nonzero()[0].tolist()
    if not labels:
        return None
    names = [f"{history.facts.class_names[label]!r} ({history.class_num_gt[label]} boxes seen)" for label in labels]
    return Finding(
        "class",
        f"no anchor has been assigned to {_join(names)}: {'these classes' if labels[1:] else 'the class'} cannot be "
        "learnt. Fit model.anchors.sizes and model.anchors.aspect_ratios to the boxes, enlarge the images, or set "
        "assign.allow_low_quality_matches=true",
    )


def anchors_miss_boxes(history: History) -> Finding | None:
    """Find objects that no anchor is assigned to."""
    limit = MISSED_SHARE if history.facts.allow_low_quality_matches else MISSED_SHARE_WITHOUT
    if history.num_gt < MIN_GT_FOR_MISSED or history.num_unmatched_gt < limit * history.num_gt:
        return None
    return Finding(
        "unmatched_gt",
        f"the anchors miss {100 * history.num_unmatched_gt / history.num_gt:.0f} % of the boxes "
        f"({history.num_unmatched_gt} of {history.num_gt} so far): these objects are learnt as background. Fit "
        "model.anchors.sizes and model.anchors.aspect_ratios to the boxes, enlarge the images, or set "
        "assign.allow_low_quality_matches=true",
    )


def loss_is_constant(history: History) -> Finding | None:
    """Find a loss that has not fallen since the first rows, while objects are not learnt either.

    It takes ``FIRST_ROWS`` and ``LATEST_ROWS`` rows: in runs with fewer the other checks have to do.
    """
    facts, step = history.facts, history.latest[-1].step
    if facts.is_initialised or history.first_step > max(1, EARLY_SHARE * facts.max_steps):
        return None
    has_rows = history.num_rows >= FIRST_ROWS + LATEST_ROWS and len(history.latest_losses) == LATEST_ROWS
    if not has_rows or step < facts.warmup_steps + patience(facts):
        return None
    first, latest = statistics.median(history.first_losses), statistics.median(history.latest_losses)
    p_foreground = _median(row.p_foreground for row in history.latest)
    limit = max(FALLEN, HEALTHY_SHARE + NOISE_FACTOR * _noise(history.latest_losses))
    # With a high prior a high probability is no merit.
    if latest <= limit * first or p_foreground >= max(LEARNT_P_FOREGROUND, STUCK_FACTOR * facts.initial_p):
        return None
    if is_apart(history.latest[-1]) and p_foreground >= LEARNING_FACTOR * facts.initial_p:
        return None
    lr = history.latest[-1].lr
    if latest > RISEN * first:
        cause = f"has risen since the first rows, from {first:.3g} to {latest:.3g}. Lower optimizer.lr (now {lr:.2g})"
    else:
        cause = (
            f"has not fallen since the first rows: {first:.3g} then, {latest:.3g} now. Look whether optimizer.lr (now "
            f"{lr:.2g}) is far too low or too high, and whether the weights are trained at all"
        )
    return Finding("loss", f"the loss {cause}")


CHECKS: Final[tuple[Callable[[History], Finding | None], ...]] = (
    normalizer_counts_anchors,
    background_drowns,
    foreground_is_stuck,
    scores_are_low,
    level_is_empty,
    class_is_unmatched,
    anchors_miss_boxes,
    loss_is_constant,
)
"""All checks, in the order in which their findings are told."""


def _is_long(history: History, num_rows: int, num_steps: int) -> bool:
    return num_rows >= ROWS_IN_A_ROW and num_steps >= patience(history.facts)


def _noise(losses: Iterable[float]) -> float:
    """Return the relative standard deviation of losses, from their quartiles: single odd batches do not count."""
    low, middle, high = statistics.quantiles(losses, n=4)
    return (high - low) / (1.35 * middle) if middle > 0 else 0.0


def _median(values: Iterable[float]) -> float:
    """Return the median of the finite values; NaN without any."""
    numbers = [value for value in values if math.isfinite(value)]
    return statistics.median(numbers) if numbers else math.nan


def _join(things: Sequence[object]) -> str:
    names = [str(thing) for thing in things]
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more
