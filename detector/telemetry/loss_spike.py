"""A loss that leaps: one row far above those before it, which a burst of bad steps begins with."""

import math
import statistics
from typing import Final

from detector.telemetry.diagnosis_checks import Finding
from detector.telemetry.diagnosis_history import History, loss_of_objects

MIN_ROWS: Final = 10
"""Rows before it that are needed to know the loss and its noise."""

MIN_FACTOR: Final = 3.0
"""A spike is at least this many times the median of the rows before it, however small their noise is: a batch of odd
images is no spike."""

MIN_DEVIATIONS: Final = 8.0
"""... and this many standard deviations of the logarithm above it: far more than normal noise ever shows, because the
deviation itself is known from some dozen rows only, and the losses of small batches have long tails."""

MIN_FOREGROUND_SHARE: Final = 0.5
"""Rows with a smaller share of the usual foreground anchors are left out: dividing by a few of them is noise."""

_MAD_TO_DEVIATION: Final = 1.4826
"""Of a normal distribution (Rousseeuw and Croux 1993)."""


def loss_leaps(history: History) -> Finding | None:
    """Find a row whose loss is far above those before it, by the median and the absolute deviations from it.

    Logarithms are compared, as the noise of a loss grows with the loss.
    """
    *before, row = history.latest
    losses = [loss for loss in map(loss_of_objects, before) if math.isfinite(loss) and loss > 0]
    loss = loss_of_objects(row)
    if len(losses) < MIN_ROWS or not math.isfinite(loss) or loss <= 0:
        return None
    usual_foreground = statistics.median(one.num_foreground for one in before if math.isfinite(one.num_foreground))
    if row.num_foreground < MIN_FOREGROUND_SHARE * usual_foreground:
        return None
    logarithms = [math.log(one) for one in losses]
    middle = statistics.median(logarithms)
    deviation = _MAD_TO_DEVIATION * statistics.median(abs(one - middle) for one in logarithms)
    if math.log(loss) - middle < max(math.log(MIN_FACTOR), MIN_DEVIATIONS * deviation):
        return None
    return Finding(
        "loss_spike",
        f"the loss leapt to {row.loss:.3g} at step {row.step}, {loss / math.exp(middle):.1f} times the median of the "
        f"{len(losses)} rows before it (gradient norm {row.grad_norm:.3g}). If it does not come back, "
        f"lower optimizer.lr (now {row.lr:.2g}), lengthen schedule.warmup_steps or set optimizer.clip_grad_norm",
    )
