"""One console line for a row; every figure is that of ``metrics.jsonl``, rounded."""

import math

from detector.telemetry.rows import EvalRow, TrainRow


def format_train_line(row: TrainRow, *, max_steps: int, eta_seconds: float) -> str:
    """Return one aligned line for a train row.

    Args:
        row: the numbers; what is not finite is shown as ``nan`` or ``inf``.
        max_steps: steps of the whole run.
        eta_seconds: expected time to the last step; NaN where unknown.
    """
    data_share = row.data_seconds / row.step_seconds if row.step_seconds > 0 else math.nan
    return " | ".join(
        (
            f"{_step_of(row.step, max_steps)} epoch {row.epoch:5.2f}",
            f"loss {row.loss:.4f} cls {row.loss_cls:.4f} box {row.loss_box:.4f}",
            f"fg {100 * row.fg_share:4.1f}% pos {row.num_foreground:5.0f} p {row.p_foreground:5.3f}",
            f"lr {row.lr:.2e} grad {row.grad_norm:5.2f}",
            f"data {100 * data_share:2.0f}% {1000 * row.data_seconds:3.0f} ms",
            f"{row.images_per_second:6.1f} img/s eta {format_duration(eta_seconds)}",
        )
    )


def format_eval_line(row: EvalRow, *, max_steps: int) -> str:
    """Return one line for an evaluation: its AP numbers and losses."""
    precisions = " ".join(f"{name} {value:.4f}" for name, value in row.metrics.items() if name.startswith("AP"))
    losses = f"val loss {row.loss:.4f} cls {row.loss_cls:.4f} (fg {row.loss_cls_fg:.4f} bg {row.loss_cls_bg:.4f})"
    return f"{_step_of(row.step, max_steps)} eval | {precisions} | {losses} box {row.loss_box:.4f}"


def format_duration(seconds: float) -> str:
    """Return ``h:mm:ss``, with days in front from 24 hours on; ``--:--:--`` where ``seconds`` is not finite."""
    if not math.isfinite(seconds):
        return "--:--:--"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    clock = f"{hour}:{minute:02d}:{second:02d}"
    return f"{days}d {clock}" if days else clock


def _step_of(step: int, max_steps: int) -> str:
    return f"step {step:{len(str(max_steps))}d}/{max_steps}"
