"""Evaluation of a checkpoint, as ``tools/evaluate.py`` does it."""

import json
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detector.data.opening import open_val
from detector.engine.evaluator import Advance
from detector.engine.evaluator_building import build_evaluator
from detector.engine.inference import load_detector, resolve_config
from detector.engine.processes import Processes
from detector.evaluation.coco import CocoScores
from detector.evaluation.ground_truth import ground_truth_of
from detector.evaluation.results import CocoResults

Progress = Callable[[str, int], AbstractContextManager[Advance]]


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """What :func:`evaluate_checkpoint` returns: an :class:`detector.engine.evaluator.Evaluation` with its score.

    ``seconds`` is the wall time of both.
    """

    scores: CocoScores
    results: CocoResults
    losses: dict[str, float]
    split: dict[str, Any]
    seconds: float
    num_images: int


def evaluate_checkpoint(
    checkpoint: Path,
    *,
    config: Path | None = None,
    overrides: Iterable[str] = (),
    annotations: Path | None = None,
    images: Path | None = None,
    weights: str | None = None,
    progress: Progress | None = None,
) -> EvaluationResult:
    """Evaluate a checkpoint on its validation set, or on another one with the same classes.

    Args:
        checkpoint: file of a run.
        config: configuration file to use in place of the one in the checkpoint.
        overrides: ``key=value``.
        annotations: COCO file in place of the configuration's ``data.val.annotations``.
        images: folder in place of ``data.val.images``.
        weights: "ema" or "raw"; None = ema if the checkpoint has it.
        progress: shows how far it is, such as :meth:`detector.telemetry.RunConsole.progress`.

    Raises:
        UserError: if anything the user gave is wrong.
    """
    resolved = resolve_config(checkpoint, config, [*overrides, *validation_overrides(annotations, images)])
    detector = load_detector(
        checkpoint, config=resolved, device=resolved.device, precision=resolved.precision, weights=weights
    )
    split = open_val(resolved.data, detector.categories)
    evaluator = build_evaluator(
        resolved,
        split.dataset,
        ground_truth_of(split),
        detector.categories,
        precision=detector.precision,
        device=detector.device,
        processes=Processes(),
    )
    start = time.perf_counter()
    with (progress or no_progress)("evaluating", len(split.dataset)) as advance:
        evaluation = evaluator(detector.model, advance=advance)
    assert evaluation is not None
    scores = evaluator.score(evaluation.results)
    return EvaluationResult(
        scores=scores,
        results=evaluation.results,
        losses=evaluation.losses,
        split=evaluation.split,
        seconds=time.perf_counter() - start,
        num_images=evaluation.num_images,
    )


def validation_overrides(annotations: Path | None, images: Path | None) -> list[str]:
    """Return the overrides that put a file and a folder in place of the configuration's; None leaves it."""
    given = {"annotations": annotations, "images": images}
    # As JSON strings: an override's value is YAML, in which a path such as "1e3" would be a number.
    return [f"data.val.{key}={json.dumps(str(path))}" for key, path in given.items() if path is not None]


def no_progress(_description: str, _total: int) -> AbstractContextManager[Advance]:
    """Show no progress."""
    return nullcontext(lambda _amount: None)
