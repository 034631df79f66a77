"""Run a part of gpu_check.py, or a benchmark, in a process of its own with a time limit."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]

MIN_SECONDS: Final = 5
"""With less time left a part is not begun."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a part.

    Attributes:
        name: of the part; of a benchmark the script's.
        problem: what went wrong; empty = nothing.
        seconds: it took.
        output: what it printed.
        values: of a part, what it measured, by name.
        figures: of a benchmark, in the JSON form of :mod:`benchmarking`.
        command: of a benchmark, for others to repeat.
    """

    name: str
    problem: str
    seconds: float
    output: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    figures: tuple[dict[str, Any], ...] = ()
    command: str = ""


def run_part(name: str, folder: Path, limit: float, *, tiny: bool) -> Outcome:
    """Run a part of gpu_check_parts.py, which writes its figures to ``folder``."""
    command = [sys.executable, str(ROOT / "scripts/gpu_check_parts.py"), name, str(folder), *["--tiny"][: int(tiny)]]
    problem, seconds, output = run_process(command, folder / f"{name}.log", limit)
    values, trouble = _read(folder / f"{name}.json")
    return Outcome(name, problem or trouble, seconds, output, values=values)


def run_benchmark(
    script: str, folder: Path, limit: float, *, device: str, arguments: Sequence[str | Path] = ()
) -> Outcome:
    """Run a benchmark on a device, otherwise as it is by default; what it had written when it failed still counts.

    Args:
        script: file under ``scripts``.
        folder: where it may write.
        limit: seconds that it may take.
        device: ``cpu`` or ``cuda``.
        arguments: options of its own.
    """
    path, result = ROOT / "scripts" / script, folder / f"{script}.json"
    if not path.is_file():
        return Outcome(script, "there is no such script", 0.0)
    command = [sys.executable, str(path), *map(str, arguments), "--device", device, "--json", str(result)]
    problem, seconds, output = run_process(command, folder / f"{script}.log", limit)
    content, trouble = _read(result)
    figures = content.get("figures")
    if not isinstance(figures, list):
        return Outcome(script, problem or trouble or "its JSON has no list of figures", seconds, output)
    return Outcome(script, problem, seconds, output, figures=tuple(figures), command=content["command"])


def run_process(command: Sequence[str], log: Path, limit: float) -> tuple[str, float, str]:
    """Return what went wrong (empty = nothing), the seconds, and what the command printed."""
    if limit < MIN_SECONDS:
        return "not run: no time left", 0.0, ""
    start = time.monotonic()
    with log.open("w", encoding="utf-8") as file:
        # A session of its own, so that a time-out takes the loader's processes along.
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT, env=_environment(), start_new_session=True
        )
        try:
            code = process.wait(limit)
            problem = f"exit code {code}" if code else ""
        except subprocess.TimeoutExpired:
            problem = f"stopped after its {limit:.0f} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    output = log.read_text(encoding="utf-8", errors="replace")
    lines = [line for line in output.splitlines() if line.strip()]
    if problem.startswith("exit code"):
        problem += f": {lines[-1][:300] if lines else 'no output'}"
    return problem, time.monotonic() - start, output


def _environment() -> dict[str, str]:
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def _read(path: Path) -> tuple[dict[str, Any], str]:
    """Return the object in a JSON file, and what is wrong with it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, "it wrote no figures"
    except ValueError as error:
        return {}, f"its figures are no JSON: {error}"
    return (content, "") if isinstance(content, dict) else ({}, "its figures are no JSON object")
