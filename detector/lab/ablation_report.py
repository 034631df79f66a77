"""The ablation as a page: a table in the form of the paper's, what is ahead and what ties, and how it was made."""

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detector.lab.ablation_grid import FOCAL, PAPER_TABLES, Cell, PaperAP, short
from detector.lab.ablation_results import CellResult, Comparison, RunResult, compare

Results = Mapping[str, CellResult]
"""What there is of each cell, by its name."""

_METRICS = ("AP", "AP50", "AP75")
_EXPLANATION = (
    "Mean over the seeds (smallest–largest). The tables are those of Lin et al. 2017: 1a cross-entropy, 1b focal loss, "
    "1d mining of hard examples; the paper's AP is that on COCO with ResNet-50 at 600 px (1d: ResNet-101). Training is "
    "the time of a run's steps, without start-up, evaluation and saving."
)


@dataclass(frozen=True, slots=True)
class GridInfo:
    """What all runs share.

    Attributes:
        config: name of the recipe.
        overrides: what replaces its values, ``key=value`` each.
        length: of a run, such as ``400 steps``.
        seeds: of each cell.
        num_runs: cells times seeds.
        precision: arithmetic of the network.
        command: the command line.
    """

    config: str
    overrides: tuple[str, ...]
    length: str
    seeds: tuple[int, ...]
    num_runs: int
    precision: str
    command: str


def format_page(results: Results, info: GridInfo, *, picture: str) -> str:
    """Return the page in Markdown with ``picture``, a file beside it; cells that are not trained yet have a ``-``."""
    parts = ["# Ablation of the class loss", "\n".join(f"- {line}" for line in summarise(results)), *_table(results)]
    parts.append(f"![AP of every loss, the mean as a bar and each seed as a dot]({picture})")
    if comparisons := list_comparisons(results):
        parts += [
            "## Differences in AP",
            "A difference of two means counts if it is larger than the larger of the two ranges over the seeds.",
            _lay_out(
                ["first", "second", "difference", "larger range", "the first is"],
                (_comparison_row(comparison) for comparison in comparisons),
            ),
        ]
    return "\n\n".join([*parts, "## How it was made", _provenance(results, info)]) + "\n"


def to_json(results: Results, info: GridInfo) -> dict[str, Any]:
    """Return the raw numbers of every run, for other programs."""
    return {
        "config": info.config,
        "overrides": list(info.overrides),
        "length": info.length,
        "precision": info.precision,
        "seeds": list(info.seeds),
        "command": info.command,
        "environments": [dict(run.environment) for run in _one_run_of_each_environment(results)],
        "cells": [_cell_json(result) for result in results.values()],
        "comparisons": [
            {
                "first": comparison.first.cell.name,
                "second": comparison.second.cell.name,
                "difference": _finite_or_none(comparison.difference),
                "larger_range": _finite_or_none(comparison.spread),
                "verdict": comparison.verdict,
            }
            for comparison in list_comparisons(results)
        ],
    }


def summarise(results: Results) -> list[str]:
    """Say in words where the paper's focal loss stands; one sentence for each loss that it is compared with."""
    if (focal := results.get(FOCAL)) is None:
        return ["The paper's focal loss (γ 2, α .25) is not in this grid."]
    balanced = [result for result in results.values() if result.cell.kind == "balanced_ce" and result.runs]
    best = max(balanced, key=lambda result: (result.num_diverged == 0, _or_minus_one(result.mean())), default=None)
    rivals = [("the best balanced CE", best)]
    rivals += [(name, results.get(cell)) for name, cell in (("CE without the prior", "ce_pi.5"), ("OHEM", "ohem_1to3"))]
    return [_sentence(focal, name, rival) for name, rival in rivals]


def list_comparisons(results: Results) -> list[Comparison]:
    """Return the comparisons that the paper makes, of cells that have been trained.

    The focal loss with every other loss, cross-entropy with and without the prior, balanced with plain cross-entropy.
    """
    pairs = [(FOCAL, name) for name in results if name != FOCAL]
    pairs += [("ce_pi.01", "ce_pi.5")]
    pairs += [(name, "ce_pi.01") for name, result in results.items() if result.cell.kind == "balanced_ce"]
    found = [(results.get(first), results.get(second)) for first, second in pairs]
    comparisons = [compare(first, second) for first, second in found if first is not None and second is not None]
    return [comparison for comparison in comparisons if comparison.verdict != "missing"]


def _sentence(focal: CellResult, name: str, rival: CellResult | None) -> str:
    if rival is None:
        return f"{focal.cell.label} against {name}: not trained."
    label = rival.cell.label
    beginning = (
        f"{focal.cell.label} against {name} ({label})" if name not in label else f"{focal.cell.label} against {label}"
    )
    comparison = compare(focal, rival)
    if comparison.verdict == "missing":
        return f"{beginning}: not trained."
    numbers = f"AP {_fraction(focal.mean())} against {_fraction(rival.mean())}"
    if math.isfinite(comparison.difference):
        numbers += f", difference {_signed(comparison.difference)}, larger seed range {_fraction(comparison.spread, 4)}"
    match comparison.verdict:
        case "ahead" | "behind":
            diverged = rival if comparison.verdict == "ahead" else focal
            reason = f"{_diverged(diverged)}; {numbers}" if diverged.num_diverged else numbers
            return f"{beginning}: **{comparison.verdict}** ({reason})."
        case "one seed":
            return f"{beginning}: one seed, so no range to tell the difference from chance ({numbers})."
        case verdict:
            return f"{beginning}: {verdict} ({numbers})."


def _table(results: Results) -> Iterator[str]:
    """Yield the table and what explains it."""
    rows = [
        _table_row(f"{table}", results[name], paper)
        for table, cells in PAPER_TABLES
        for name, paper in cells
        if name in results
    ]
    header = ["table", "loss", "γ", "α", "π", *_METRICS, "the paper's AP", "training"]
    yield _lay_out(header, rows)
    yield textwrap.fill(_EXPLANATION, 120)


def _table_row(table: str, result: CellResult, paper: PaperAP) -> list[str]:
    cell = result.cell
    gamma = "-" if cell.kind == "ohem" else short(cell.gamma)
    alpha = "-" if cell.alpha is None else short(cell.alpha)
    seconds = [run.training_seconds for run in result.runs]
    return [
        *(table, cell.label, gamma, alpha, short(cell.prior)),
        *(_metric(result, name) for name in _METRICS),
        "-" if paper is None else paper if isinstance(paper, str) else _fraction(paper),
        f"{sum(seconds) / len(seconds) / 60:.1f} min" if seconds else "-",
    ]


def _metric(result: CellResult, name: str) -> str:
    values = result.values(name)
    text = _fraction(result.mean(name)) if values else "-"
    if len(values) > 1:
        text += f" ({_fraction(min(values))}–{_fraction(max(values))})"
    if not result.num_diverged:
        return text
    return f"{_diverged(result)}, {text}" if values else _diverged(result)


def _diverged(result: CellResult) -> str:
    return f"diverged ({result.num_diverged} of {len(result.runs)})"


def _comparison_row(comparison: Comparison) -> list[str]:
    is_known = math.isfinite(comparison.difference)
    return [
        comparison.first.cell.label,
        comparison.second.cell.label,
        _signed(comparison.difference) if is_known else "-",
        _fraction(comparison.spread, 4) if is_known and comparison.verdict != "one seed" else "-",
        comparison.verdict,
    ]


def _provenance(results: Results, info: GridInfo) -> str:
    done = sum(len(result.runs) for result in results.values())
    seconds = sum(run.training_seconds for result in results.values() for run in result.runs)
    lines = [
        f"{done} of {info.num_runs} runs: recipe `{info.config}`, {info.length} a run, "
        f"seeds {', '.join(map(str, info.seeds))}, {info.precision}; {seconds / 60:.0f} min of training in all.",
    ]
    if info.overrides:
        lines.append(f"Changed in the recipe, for all runs alike: `{' '.join(info.overrides)}`.")
    lines += [_describe_environment(run.environment) for run in _one_run_of_each_environment(results)]
    return "\n".join(f"- {line}" for line in [*lines, f"`{info.command}`"])


def _one_run_of_each_environment(results: Results) -> list[RunResult]:
    """Return a run for each combination of hardware, versions and program that runs were made with."""
    runs = [run for result in results.values() for run in result.runs if run.environment]
    return list({_describe_environment(run.environment): run for run in runs}.values())


def _describe_environment(environment: Mapping[str, Any]) -> str:
    packages = environment.get("packages") or {}
    commit, changes = environment.get("git_commit"), environment.get("git_changes")
    text = f"{environment.get('hardware')}; Python {environment.get('python')}"
    text += "".join(f", {name} {packages.get(name)}" for name in ("torch", "torchvision"))
    text += f"; detector {environment.get('version')}"
    return text + (f", commit {commit[:10]}{' with changes' if changes else ''}" if commit else "")


def _cell_json(result: CellResult) -> dict[str, Any]:
    cell: Cell = result.cell
    return {
        "name": cell.name,
        "label": cell.label,
        "kind": cell.kind,
        "gamma": cell.gamma,
        "alpha": cell.alpha,
        "prior": cell.prior,
        "runs": [
            {
                "seed": run.seed,
                "diverged": run.diverged,
                "training_seconds": run.training_seconds,
                "metrics": dict(run.metrics),
            }
            for run in result.runs
        ],
    }


def _lay_out(header: Sequence[str], rows: Iterator[list[str]] | Sequence[list[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (header, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:]])


def _fraction(value: float, digits: int = 3) -> str:
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def _signed(value: float) -> str:
    return ("+" if value >= 0 else "") + _fraction(value, 4)


def _or_minus_one(value: float) -> float:
    return value if math.isfinite(value) else -1.0


def _finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
