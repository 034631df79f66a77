"""Figures: what a benchmark found out, each beside its target, printed and as JSON."""

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarking.hardware import Hardware
from benchmarking.table import format_table
from benchmarking.targets import TARGETS


@dataclass(frozen=True, slots=True)
class Figure:
    """One number.

    Attributes:
        key: one of :data:`benchmarking.targets.TARGETS`, or the script's own (``SCRIPT.WHAT``).
        value: None where it could not be measured; ``note`` says why.
        low: lower quartile, where there are several measurements.
        high: upper quartile.
        unit: for keys without a target; a target has its own.
        note: what a reader must know of it.
    """

    key: str
    value: float | None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    note: str = ""

    def to_json(self, device: str) -> dict[str, Any]:
        """Return the figure beside its target on ``cpu`` or ``cuda``, as the package's docstring describes it."""
        target = TARGETS.get(self.key)
        bound = None if target is None else target.on(device)
        return {
            "figure": self.key,
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "unit": self.unit if target is None else target.unit,
            "target": None if bound is None else str(bound),
            "is_met": None if bound is None or self.value is None else bound.is_met_by(self.value),
            "note": self.note,
        }


def print_figures(figures: Sequence[Figure], hardware: Hardware) -> None:
    """Print the figures with their targets."""
    rows = []
    for figure in (figure.to_json(hardware.device) for figure in figures):
        verdict = {True: "met", False: "MISSED", None: ""}[figure["is_met"]]
        rows.append(
            {
                "figure": figure["figure"],
                "value": format_value(figure),
                "target": figure["target"] or "",
                "result": verdict,
                "note": figure["note"],
            }
        )
    print(format_table(rows), flush=True)


def format_value(figure: dict[str, Any]) -> str:
    """Return value, quartiles and unit of a figure in its JSON form."""
    if figure["value"] is None:
        return "not measured"
    unit = {"": "", "x": " ×"}.get(figure["unit"], f" {figure['unit']}")
    spread = "" if figure["low"] is None else f" ({figure['low']:.3g} – {figure['high']:.3g})"
    return f"{figure['value']:.4g}{unit}{spread}"


def write_figures(path: Path, figures: Sequence[Figure], hardware: Hardware, details: object = None) -> None:
    """Write the figures to a JSON file, with the command that is running and the script's own details."""
    keys = [figure.key for figure in figures]
    if twice := {key for key in keys if keys.count(key) > 1}:
        raise ValueError(f"figures that stand twice: {', '.join(sorted(twice))}")
    content = {
        "command": format_command(sys.argv),
        "hardware": hardware.to_json(),
        "figures": [figure.to_json(hardware.device) for figure in figures],
        "details": details,
    }
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def format_command(argv: Sequence[str]) -> str:
    """Return a benchmark's command for others to repeat, without the folder it lies in and without ``--json``."""
    arguments = list(argv[1:])
    if "--json" in arguments:
        start = arguments.index("--json")
        del arguments[start : start + 2]
    return shlex.join(["python", f"scripts/{Path(argv[0]).name}", *map(without_folder, arguments)])


def without_folder(argument: str) -> str:
    """Return an argument, of an absolute path its last part: the folders of a machine are of no use to others."""
    return Path(argument).name if Path(argument).is_absolute() else argument


def read_figures(path: Path) -> dict[str, Any]:
    """Return what :func:`write_figures` wrote."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
