"""Rows to record: every number of a row is different, so that none can be taken for another."""

from typing import Any

from detector.telemetry import EvalRow, TrainRow

OLD_TRAIN_NAMES = (
    "kind", "step", "epoch", "loss", "loss_cls", "loss_box", "loss_cls_fg", "loss_cls_bg", "fg_share", "num_foreground",
    "num_background", "num_ignored", "lr", "grad_norm", "data_seconds", "step_seconds", "images_per_second",
)  # fmt: skip
SPLIT_NUMBERS = ("p_foreground", "p_background", "num_gt", "num_unmatched_gt")
LEVEL_NAMES = (
    "level_loss_cls_fg", "level_loss_cls_bg", "level_num_foreground", "level_num_background", "level_num_ignored"
)  # fmt: skip
CLASS_NAMES = ("class_loss_cls_fg", "class_loss_cls_bg", "class_num_foreground", "class_num_gt")
SPLIT_NAMES = (*LEVEL_NAMES, *CLASS_NAMES)
TRAIN_NAMES = (*OLD_TRAIN_NAMES, *SPLIT_NUMBERS, "normalizer", *SPLIT_NAMES)
COCO_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
OLD_EVAL_NAMES = ("kind", "step", *COCO_NAMES, "loss", "loss_cls", "loss_cls_fg", "loss_cls_bg", "loss_box")
EVAL_NAMES = (*OLD_EVAL_NAMES, "fg_share", *SPLIT_NUMBERS, *SPLIT_NAMES)


def split_values() -> dict[str, Any]:
    """Return levels (5) and classes (2) of a row."""
    lengths = dict.fromkeys(LEVEL_NAMES, 5) | dict.fromkeys(CLASS_NAMES, 2)
    values: dict[str, Any] = {}
    for i, (name, length) in enumerate(lengths.items()):
        values[name] = tuple(100.0 * i + j + (0 if "num_" in name else 1 / 3) for j in range(length))
    return values


def train_row(step: int, **changes: Any) -> TrainRow:
    numbers = {name: (i + 1 / 3) * step for i, name in enumerate(OLD_TRAIN_NAMES[2:])}
    counts = {"num_foreground": 312.0, "num_background": 91234.0, "num_ignored": 40.0 + step}
    more = {"p_foreground": 0.31, "p_background": 0.02, "num_gt": 61, "num_unmatched_gt": 1, "normalizer": 311.5}
    return TrainRow(step=step, **(numbers | counts | more | split_values() | changes))


def eval_row(step: int, **changes: Any) -> EvalRow:
    metrics = {name: i / 13 for i, name in enumerate(COCO_NAMES)} | {"APl": -1.0}
    losses = {"loss": 1.5, "loss_cls": 1.0, "loss_cls_fg": 0.75, "loss_cls_bg": 0.25, "loss_box": 0.5}
    more = {"fg_share": 0.75, "p_foreground": 0.4, "p_background": 0.03, "num_gt": 17, "num_unmatched_gt": 2}
    return EvalRow(step=step, metrics=metrics, **(losses | more | split_values() | changes))
