"""The page of gpu_check.py: targets and what was measured, every other figure, and what came of each part."""

import shlex
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarking import TARGETS, Bound, Hardware, Target
from benchmarking.figures import format_value, without_folder
from benchmarking.table import format_table
from gpu_check_running import ROOT, Outcome


def format_page(hardware: Hardware, outcomes: Sequence[Outcome], *, arguments: Sequence[str]) -> str:
    """Return the Markdown page."""
    command = shlex.join(["./scripts/gpu_check.sh", *map(without_folder, arguments)])
    figures = {figure["figure"]: (figure, outcome) for outcome in outcomes for figure in outcome.figures}
    targets = [_target_row(target, figures.get(target.key), outcomes, hardware) for target in TARGETS.values()]
    sections = [
        f"# {hardware.name}",
        f"`{command}` at {_commit()}, {time.strftime('%Y-%m-%d', time.gmtime())}; {hardware}.",
        "## Targets\n\nMedians within one run of one script, with quartiles in brackets; – = nothing to reach there.",
        format_table(targets),
        _count(targets),
    ]
    if others := [_figure_row(figure) for key, (figure, _) in figures.items() if key not in TARGETS]:
        sections += ["## Other figures", format_table(others)]
    sections += ["## Parts", format_table([_part_row(outcome) for outcome in outcomes])]
    return "\n\n".join(sections) + "\n"


def _target_row(
    target: Target, found: tuple[dict[str, Any], Outcome] | None, outcomes: Sequence[Outcome], hardware: Hardware
) -> dict[str, str]:
    bound = target.on(hardware.device)
    row = {"figure": target.what, "CPU": _limit(target.cpu), "H100": _limit(target.cuda)}
    if found is None:
        measured, command = f"not measured: {_why_not(target, outcomes)}" if bound else "–", ""
        result = "not measured" if bound else ""
    else:
        figure, outcome = found
        measured, command = format_value(figure), f"`{outcome.command}`"
        measured += f"; {figure['note']}" if figure["note"] else ""
        result = {True: "met", False: "**missed**", None: "not measured" if bound else ""}[figure["is_met"]]
    cells = {"measured": _cell(measured), "result": result, "command": _cell(command)}
    return row | cells


def _why_not(target: Target, outcomes: Sequence[Outcome]) -> str:
    for outcome in outcomes:
        if outcome.name == target.script:
            return outcome.problem or f"{target.script} reports no {target.key}"
    return f"{target.script} was not run"


def _count(rows: Sequence[dict[str, str]]) -> str:
    results = [row["result"] for row in rows]
    met, missed, rest = (results.count(word) for word in ("met", "**missed**", "not measured"))
    return f"{met} met, {missed} missed, {rest} not measured."


def _figure_row(figure: dict[str, Any]) -> dict[str, str]:
    return {"figure": figure["figure"], "measured": format_value(figure), "note": _cell(figure["note"])}


def _part_row(outcome: Outcome) -> dict[str, str]:
    values = ", ".join(_value_words(outcome.values))
    result = _cell(outcome.problem) or "ok"
    return {"part": outcome.name, "result": result, "seconds": f"{outcome.seconds:.0f}", "figures": values}


def _value_words(values: dict[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        yield f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"


def _limit(bound: Bound | None) -> str:
    return "–" if bound is None else str(bound)


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")


def _commit() -> str:
    try:
        command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "an unknown commit"
