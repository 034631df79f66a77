"""Two runs side by side: what differs, and from which step on."""

import json
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

TIMED: Final = frozenset({"data_seconds", "step_seconds", "images_per_second"})
"""Numbers of a row that no two runs share."""

_NAMES_ONLY: Final = frozenset({"output_dir"})
"""Keys that are no difference."""

_ENVIRONMENT: Final = ("version", "git_commit", "git_changes", "python", "system", "hardware", "cuda", "processes")
_NUM_SHOWN: Final = 6


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two runs have in common and what not.

    Attributes:
        is_same: whether rows and final weights are the same to the last bit.
        text: what was compared and what differs, a line each.
    """

    is_same: bool
    text: str


def compare_runs(first: Path, second: Path) -> Comparison:
    """Compare two run folders.

    Differing values and environments are named, but make no other run of it: rows and weights decide.

    Raises:
        UserError: a folder is no run, or its files cannot be read.
    """
    for folder in (first, second):
        if not (folder / METRICS_FILE).is_file():
            raise UserError(f"{folder}: no run folder, there is no {METRICS_FILE} in it")
    rows, rows_text = _compare_rows(_read_rows(first), _read_rows(second))
    weights, weights_text = _compare_weights(_final_content(first), _final_content(second))
    lines = [f"A {first}", f"B {second}", *_compare_values(first, second), rows_text, weights_text]
    return Comparison(rows and weights, "\n".join(lines))


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


def _compare_weights(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[bool, str]:
    if first["step"] != second["step"]:
        return False, f"final weights: after step {first['step']} -> {second['step']}"
    differing, largest = [], 0.0
    one, other = _flat_tensors(first), _flat_tensors(second)
    for name in {**one, **other}:
        a, b = one.get(name), other.get(name)
        if a is None or b is None or a.shape != b.shape:
            differing.append(name)
        elif not torch.equal(a, b):
            differing.append(name)
            largest = max(largest, float((a.double() - b.double()).abs().max()))
    if not differing:
        return True, f"final weights: after step {first['step']}, {len(one)} tensors are the same"
    return False, (
        f"final weights: after step {first['step']}, {len(differing)} of {len(one)} tensors differ, by up to "
        f"{largest:.3g}: {_show(differing)}"
    )


def _flat_tensors(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return weights and averaged weights by name."""
    flat = dict(content["model"])
    if content["ema"] is not None:
        flat |= {f"ema.{name}": value for name, value in content["ema"]["model"].items()}
    return flat


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
