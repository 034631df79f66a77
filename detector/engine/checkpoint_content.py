"""What a checkpoint must hold, looked at before anything is taken from it: the file may be anyone's."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from detector.engine.checkpoint import load_checkpoint
from detector.errors import UserError

NETWORK: Final = ("step", "config", "categories", "model", "ema")
"""Parts that a network is taken from; a run that continues needs all."""


def load_trained(path: Path) -> dict[str, Any]:
    """Read a checkpoint whose network is to be used; see :func:`detector.engine.checkpoint.load_checkpoint`.

    Raises:
        UserError: also if a part that this needs is missing or is something else.
    """
    content = load_checkpoint(path)
    check_content(content, str(path), NETWORK)
    return content


def check_content(content: Mapping[str, Any], source: str, parts: Sequence[str] | None = None) -> None:
    """See that the parts of a checkpoint are there, and are what they are called.

    Args:
        content: what was read.
        source: the file's name, for messages.
        parts: those that are needed; None = all, but for those that older checkpoints lack.

    Raises:
        UserError: a part is missing or is something else; names it, what was found and what was expected.
    """
    for key in _PARTS if parts is None else parts:
        expected, fits = _PARTS[key]
        if key not in content:
            if key in _LATER:
                continue
            raise UserError(f"{source}: the checkpoint has no {key!r}, expected {expected}")
        if not fits(content[key]):
            raise UserError(f"{source}: the checkpoint's {key!r} is {_describe(content[key])}, expected {expected}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are_classes(value: object) -> bool:
    if (
        not isinstance(value, dict)
        or not isinstance(value.get("ids"), list)
        or not isinstance(value.get("names"), list)
    ):
        return False
    ids, names = value["ids"], value["names"]
    is_fine = all(map(_is_count, ids)) and all(isinstance(name, str) for name in names)
    return is_fine and 0 < len(ids) == len(names)


def _are_weights(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(n, str) and isinstance(v, Tensor) for n, v in value.items())


def _is_average(value: object) -> bool:
    if value is None:
        return True
    return isinstance(value, dict) and _are_weights(value.get("model")) and _is_count(value.get("num_updates"))


def _is_optimizer(value: object) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("state"), dict):
        return False
    groups = value.get("param_groups")
    return isinstance(groups, list) and len(groups) > 0 and all(isinstance(g, dict) and "params" in g for g in groups)


def _is_normalizer(value: object) -> bool:
    mean = value.get("mean_foreground") if isinstance(value, dict) else None
    return isinstance(mean, Tensor) and mean.ndim == 0


def _is_best(value: object) -> bool:
    if not isinstance(value, dict) or not _is_count(value.get("step")):
        return False
    return "ap" in value and (value["ap"] is None or isinstance(value["ap"], float | int))


def _is_guard(value: object) -> bool:
    return isinstance(value, dict) and all(_is_count(value.get(key)) for key in ("num_skipped", "in_a_row"))


def _is_provenance(value: object) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("data"), dict):
        return False
    splits = [value["data"].get(name) for name in ("train", "val")]
    are_splits = all(isinstance(split, dict) and {"sha256", "images", "boxes"} <= {*split} for split in splits)
    return are_splits and {"processes", "hardware", "torch"} <= {*value}


_PARTS: Final[dict[str, tuple[str, Callable[[Any], bool]]]] = {
    "step": ("a number of steps", _is_count),
    "config": ("the text of a configuration", lambda value: isinstance(value, str)),
    "categories": ("ids and names of the classes", _are_classes),
    "model": ("weights by name", _are_weights),
    "ema": ("averaged weights by name, or None", _is_average),
    "optimizer": ("an optimiser's state", _is_optimizer),
    "scaler": ("a loss scaler's state, or None", lambda value: value is None or isinstance(value, dict)),
    "normalizer": ("a normaliser's state", _is_normalizer),
    "best": ("AP and step of the best evaluation", _is_best),
    "guard": ("counts of skipped steps", _is_guard),
    "provenance": ("a description of data and hardware", _is_provenance),
    "is_initialised": ("true or false", lambda value: isinstance(value, bool)),
    "evaluation_due": ("true or false", lambda value: isinstance(value, bool)),
}
_LATER: Final = frozenset({"guard", "provenance", "is_initialised", "evaluation_due"})
"""Parts that older checkpoints lack."""


def _describe(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else f'{text[:60]}...'}"
