"""The evaluations of a run: made, scored at once or beside training, recorded, and saved where they are the best."""

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np

from detector.engine.background_scorer import BackgroundScorer
from detector.engine.evaluator import Evaluation, EvaluationStopped
from detector.engine.forward import network_for_inference
from detector.engine.pictures import draw_pictures
from detector.engine.run import Run
from detector.engine.saving import RunSaver, Snapshot
from detector.engine.schedule import is_due
from detector.engine.stop import StopRequest
from detector.evaluation.coco import CocoScores
from detector.evaluation.table import format_scores
from detector.telemetry import EvalRow
from detector.telemetry.loss_profile_figures import render_loss_profile

PICTURE_SCORE_THRESH = 0.3
"""Predictions below this are not drawn: at the threshold of the evaluation a picture would be full of boxes."""


@dataclass(frozen=True, slots=True)
class _Unscored:
    """An evaluation that waits for its score, with the run as it was evaluated."""

    step: int
    evaluation: Evaluation
    snapshot: Snapshot
    must_save: bool


class Evaluations:
    """Evaluates a run, at once or with the scoring beside training; leaving waits for the score.

    A score belongs to the step of its evaluation, whenever it comes. The evaluation is recorded and saved when it is
    there, as the run was at that step; until then the rows of later steps stay out of the files, and later evaluations
    and checkpoints wait (:meth:`finish`). So the files are, to the byte, those of a run that scores at once, and a kill
    before the score leaves a checkpoint from before the evaluation, which is then made again.

    Args:
        run: what is evaluated.
        saver: saves it.
    """

    def __init__(self, run: Run, saver: RunSaver) -> None:
        self._run = run
        self._saver = saver
        self._unscored: _Unscored | None = None
        self._scorer: BackgroundScorer | None = None
        if run.config.eval.background and run.processes.is_main:
            self._scorer = BackgroundScorer(run.evaluator.ground_truth, run.evaluator.scorer)

    def make(self, stop: StopRequest, *, must_save: bool) -> bool:
        """Evaluate the run as it is, and save it if it must be or is the best so far; in all processes.

        Returns:
            Whether that was done; asked to stop, it is left for later.
        """
        self.finish()
        run = self._run
        # With norm = batch every process has statistics of its own images; those of the main one are evaluated, saved.
        for model in (run.state.model, run.state.model_for_evaluation):
            run.processes.copy_from_main(model.buffers())
        try:
            evaluation = self._evaluate(stop)
        except EvaluationStopped:
            return False
        run.state.evaluation_due = False
        snapshot = self._saver.snapshot()
        if evaluation is not None and snapshot is not None:  # on the main process
            unscored = _Unscored(run.state.step, evaluation, snapshot, must_save)
            if self._scorer is None:
                self._settle(unscored, run.evaluator.score(evaluation.results))
            else:
                self._scorer.begin(evaluation.results)
                run.recorder.hold_rows()
                self._unscored = unscored
        return True

    def poll(self) -> None:
        """Record and save the evaluation whose score has come in the meantime; cheap enough for every step."""
        if self._unscored is not None and self._scorer is not None and self._scorer.is_done():
            self.finish()

    def finish(self) -> None:
        """Wait for the score that is awaited, and record and save its evaluation."""
        unscored, self._unscored = self._unscored, None
        if unscored is not None and self._scorer is not None:
            self._settle(unscored, self._scorer.finish())

    def __enter__(self) -> Self:
        """Return the evaluations themselves."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait for the score that is awaited, also after an error: the evaluation was made before it."""
        try:
            self.finish()
        finally:
            if self._scorer is not None:
                self._scorer.close()

    def _evaluate(self, stop: StopRequest) -> Evaluation | None:
        run, config = self._run, self._run.config.eval
        image_ids = run.val_dataset.table.image_ids.tolist()
        # Of the step alone, so that a resumed run does what an uninterrupted one does; 0 = never.
        profile_every = run.steps_of(config.every) * config.loss_profile_every
        network = network_for_inference(
            run.state.model_for_evaluation, run.device, run.evaluator.precision, run.config.convolution
        )
        with run.recorder.progress("evaluating", len(run.val_dataset)) as advance:
            return run.evaluator(
                network,
                picture_ids=[image_ids[idx] for idx in _picture_indices(run)],
                with_profile=profile_every > 0 and is_due(run.state.step, profile_every, run.schedule.max_steps),
                advance=advance,
                should_stop=lambda: stop.is_set,
            )

    def _settle(self, unscored: _Unscored, scores: CocoScores) -> None:
        run = self._run
        run.recorder.eval_row(_eval_row(run, unscored.step, unscored.evaluation, scores))
        run.recorder.note(format_scores(scores))
        is_best = run.state.record_best(scores.metrics["AP"], unscored.step)
        if is_best or unscored.must_save:
            self._saver.write(unscored.snapshot, is_best=is_best)


def _picture_indices(run: Run) -> list[int]:
    num_pictures = min(run.config.eval.num_pictures, len(run.val_dataset))
    return [idx * len(run.val_dataset) // max(1, num_pictures) for idx in range(num_pictures)]


def _eval_row(run: Run, step: int, evaluation: Evaluation, scores: CocoScores) -> EvalRow:
    numbers: dict[str, Any] = evaluation.losses | evaluation.split
    return EvalRow(
        step=step,
        metrics=scores.metrics,
        per_class={row.name: row.AP for row in scores.per_class},
        profile=evaluation.profile,
        pictures=draw_pictures(run.val_dataset, _picture_indices(run), evaluation.detections, PICTURE_SCORE_THRESH),
        figures={} if evaluation.profile is None else render_loss_profile(evaluation.profile),
        scores=evaluation.results.scores.astype(np.float32),
        **numbers,
    )
