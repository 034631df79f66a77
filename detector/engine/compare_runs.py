"""Two runs side by side: what differs, and from which step on."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from detector.config_io import load_config
from detector.engine.checkpoint import load_checkpoint
from detector.engine.config_changes import compare_configs
from detector.engine.run_folder import CHECKPOINTS
from detector.errors import UserError
from detector.telemetry import METRICS_FILE
from detector.telemetry.input_wait import DATA_WAIT

TIMED: Final = frozenset({"data_seconds", "step_seconds", "images_per_second"})
"""Numbers of a row that no two runs share."""

STATE: Final = ("model", "ema", "optimizer", "scaler", "normalizer", "best", "guard", "evaluation_due")
"""Parts of a checkpoint that the rest of a run follows from."""

_WARNING: Final = "warning"
_NAMES_ONLY: Final = frozenset({"output_dir"})
"""Keys that are no difference."""

_ENVIRONMENT: Final = ("version", "git_commit", "git_changes", "python", "system", "hardware", "cuda", "processes")
_NUM_SHOWN: Final = 6


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two runs have in common and what not.

    Attributes:
        is_same: whether rows and final states are the same to the last bit.
        text: what was compared and what differs, a line each.
    """

    is_same: bool
    text: str


def compare_runs(first: Path, second: Path, *, with_warnings: bool = True) -> Comparison:
    """Compare two run folders.

    Differing values and environments are named, but make no other run of it: rows and the state of the last checkpoint
    decide.

    Args:
        first: run folder, A.
        second: another one, B.
        with_warnings: compare rows of warnings too; a run that something happened to has more of them.

    Raises:
        UserError: a folder is no run, or its files cannot be read.
    """
    for folder in (first, second):
        if not (folder / METRICS_FILE).is_file():
            raise UserError(f"{folder}: no run folder, there is no {METRICS_FILE} in it")
    both = [
        [
            row
            for row in _read_rows(folder)
            if row["kind"] != _WARNING or (with_warnings and row.get("name") != DATA_WAIT)  # which is about times
        ]
        for folder in (first, second)
    ]
    rows, rows_text = _compare_rows(*both)
    doubled = [line for name, its in zip("AB", both, strict=True) for line in _doubled_rows(name, its)]
    state, state_text = _compare_states(_final_content(first), _final_content(second))
    lines = [f"A {first}", f"B {second}", *_compare_values(first, second), rows_text, *doubled, state_text]
    return Comparison(rows and state and not doubled, "\n".join(lines))


def _compare_values(first: Path, second: Path) -> list[str]:
    changes = [
        change
        for change in compare_configs(load_config(first / "config.yaml"), load_config(second / "config.yaml"))
        if change.key not in _NAMES_ONLY
    ]
    one, other = _read_environment(first), _read_environment(second)
    keys = {**one, **other}
    differing = [f"{key}: {one.get(key)} -> {other.get(key)}" for key in keys if one.get(key) != other.get(key)]
    return [
        *([f"config: {len(changes)} values differ"] if changes else ["config: the same"]),
        *(f"  {change}" for change in changes),
        *([f"environment: {len(differing)} entries differ"] if differing else ["environment: the same"]),
        *(f"  {line}" for line in differing),
    ]


def _compare_rows(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> tuple[bool, str]:
    """Compare rows by kind and step: the runs may have logged at other steps."""
    one, other = _by_step(first), _by_step(second)
    shared = sorted(key for key in one if key in other)
    alone = [sorted(key for key in own if key not in rest) for own, rest in ((one, other), (other, one))]
    missing = "".join(
        f"; only in {name}: {_show([f'{kind} {step}' for step, kind in keys])}"
        for name, keys in zip("AB", alone, strict=True)
        if keys
    )
    for step, kind in shared:
        row, its = one[step, kind], other[step, kind]
        names = [name for name in {**row, **its} if row.get(name) != its.get(name)]
        if names:
            values = [f"{name} {row.get(name)} -> {its.get(name)}" for name in names]
            text = f"rows: differ from step {step} on ({kind} row): {_show(values)}{missing}"
            return False, text
    same = bool(shared) and not missing
    return same, f"rows: {len(shared)} shared rows are the same{missing}" if shared else f"rows: none shared{missing}"


def _doubled_rows(name: str, rows: list[dict[str, Any]]) -> list[str]:
    """Say which rows a run has more than once; a warning may come twice at a step."""
    counts = Counter((row["step"], row["kind"]) for row in rows if row["kind"] != _WARNING)
    doubled = [f"{kind} {step}" for (step, kind), count in counts.items() if count > 1]
    return [f"rows: more than once in {name}: {_show(doubled)}"] if doubled else []


def _compare_states(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[bool, str]:
    if first["step"] != second["step"]:
        return False, f"final state: after step {first['step']} -> {second['step']}"
    one, other = _flat_state(first), _flat_state(second)
    differing = [
        name for name in {**one, **other} if name not in one or name not in other or not _equal(one[name], other[name])
    ]
    if not differing:
        return True, f"final state: after step {first['step']}, {len(one)} weights and other values are the same"
    largest = max((_distance(one.get(name), other.get(name)) for name in differing), default=0.0)
    return False, (
        f"final state: after step {first['step']}, {len(differing)} of {len(one)} weights and other values differ, "
        f"by up to {largest:.3g}: {_show(differing)}"
    )


def _flat_state(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return tensors and plain values of the state by dotted names."""
    flat: dict[str, Any] = {}

    def add(name: str, value: Any) -> None:
        if isinstance(value, dict | list | tuple) and value:
            for key, part in value.items() if isinstance(value, dict) else enumerate(value):
                add(f"{name}.{key}", part)
        else:
            flat[name] = value

    for part in STATE:
        if part in content:
            add(part, content[part])
    return flat


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)
    return type(one) is type(other) and bool(one == other)


def _distance(one: Any, other: Any) -> float:
    """Return the largest difference of two tensors; 0 where there is none to be had."""
    if not isinstance(one, Tensor) or not isinstance(other, Tensor) or one.shape != other.shape or not one.numel():
        return 0.0
    return float((one.double() - other.double()).abs().max())


def _by_step(rows: list[dict[str, Any]]) -> dict[tuple[int, str], dict[str, Any]]:
    """Return rows without times by step and kind; a warning's name is part of its kind."""
    return {
        (row["step"], f"{row['kind']} {row['name']}" if "name" in row else row["kind"]): {
            name: value for name, value in row.items() if name not in TIMED
        }
        for row in rows
    }


def _read_rows(folder: Path) -> list[dict[str, Any]]:
    path = folder / METRICS_FILE
    rows = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or not isinstance(row.get("step"), int) or "kind" not in row:
            if number == len(lines):
                continue  # a run that is writing it, or was killed over it
            raise UserError(f"{path}:{number}: not a row of a run")
        rows.append(row)
    return rows


def _read_environment(folder: Path) -> dict[str, Any]:
    path = folder / "environment.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected an object, found a {type(content).__name__}")
    packages = content.get("packages")
    flat = {key: content.get(key) for key in _ENVIRONMENT}
    return flat | (packages if isinstance(packages, dict) else {})


def _final_content(folder: Path) -> dict[str, Any]:
    return load_checkpoint(folder / CHECKPOINTS / "last.pt")


def _show(values: list[str]) -> str:
    rest = len(values) - _NUM_SHOWN
    return ", ".join(values[:_NUM_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
