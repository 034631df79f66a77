"""The train loop."""

import gc
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from detector.config import Config
from detector.engine.clock import StepClock
from detector.engine.device import compute_type
from detector.engine.evaluator import Evaluation, EvaluationStopped
from detector.engine.input_watch import build_input_watch
from detector.engine.out_of_memory import explained_out_of_memory
from detector.engine.pictures import draw_pictures
from detector.engine.run import Origins, Run, build_run
from detector.engine.run_folder import discard_unstarted_run
from detector.engine.sanity import PRIOR, InitialLoss, check_first_loss, check_prior
from detector.engine.saving import RunSaver, how_to_continue
from detector.engine.schedule import attach_schedule, is_due
from detector.engine.stop import StopRequest
from detector.errors import StoppedEarly, UserError
from detector.evaluation.table import format_scores
from detector.models.inference import inference_copy
from detector.telemetry import EvalRow, Finding, StepTotals, TrainRow, WarningRow
from detector.telemetry.loss_profile_figures import render_loss_profile

PICTURE_SCORE_THRESH = 0.3
"""Predictions below this are not drawn: at the threshold of the evaluation a picture would be full of boxes."""


def train(
    config: Config,
    origins: Origins,
    *,
    notes: Sequence[str] = (),
    resume: str | None = None,
    init_from: Path | None = None,
    overwrite: bool = False,
    allow_changes: bool = False,
) -> None:
    """Train a detector as a configuration says; see :func:`detector.engine.run.build_run` for the arguments.

    ``notes`` are lines to be printed with the start-up report.

    Raises:
        UserError: if anything that the user gave is wrong.
        StoppedEarly: after SIGTERM, SIGINT, SIGUSR1 or the time limit, with everything saved.
        DivergedError: after too many non-finite steps in a row.
        ResourceError: if the memory is not enough, or loader processes are killed again and again.
    """
    with StopRequest(config.time_limit_seconds) as stop:
        try:
            run = build_run(
                config, origins, resume=resume, init_from=init_from, overwrite=overwrite, allow_changes=allow_changes
            )
            stop.begin_steps()
        except KeyboardInterrupt:
            raise StoppedEarly(f"stopped by {stop.reason} before the first step; there was nothing to save") from None
        try:
            with run.recorder:
                for note in notes:
                    run.recorder.note(note)
                if run.state.step >= run.schedule.max_steps and not run.state.evaluation_due:
                    run.recorder.note(f"the run in {run.output_dir} is finished: {run.state.step} steps are done")
                else:
                    train_loop(run, stop)
        except UserError:
            if run.processes.is_main:
                discard_unstarted_run(run.output_dir)
            raise
        finally:
            # What draws figures leaves exceptions whose tracebacks hold the frame of the loop. Without them the
            # loader's workers end with `run`; collected together with it they would not: they ignore signals, and wait
            # for a word.
            gc.collect()
            run.processes.close()


def train_loop(run: Run, stop: StopRequest | None = None) -> None:
    """Make the steps that are left: data, step, log, evaluate, save, stop when asked to."""
    stop = stop or StopRequest()
    config, state, recorder, last_step = run.config, run.state, run.recorder, run.schedule.max_steps
    scheduler = attach_schedule(state.optimizer, run.schedule, config.optimizer.resolved_lr, state.step)
    batches, clock, input_watch = iter(run.loader), StepClock(), build_input_watch(config)
    state.model.train()
    with RunSaver(run) as saver:
        stop.begin_steps()
        if state.evaluation_due:
            _make_up_evaluation(run, stop, saver)
        for step in range(state.step + 1, last_step + 1):
            # Data
            with clock.waiting():
                host_batches = list(itertools.islice(batches, run.num_forwards))

            # Step
            lr = float(scheduler.get_last_lr()[0])
            device_batches = [batch.to(run.device) for batch in host_batches]
            must_log = is_due(step, config.log_every, last_step)
            if step == 1 and not state.is_initialised:
                _check_prior(run)
                expected = run.stepper.expected_first_loss(device_batches, prior=config.model.head.prior)
            with explained_out_of_memory(step, host_batches, config, run.device):
                result = run.stepper(device_batches, detail=must_log)
            scheduler.step()
            state.step = step
            clock.count_step()
            recorder.step_done(step)
            if result.message is not None:
                recorder.warn(result.message)
            if step == 1 and not state.is_initialised:
                _check_first_loss(run, expected, result.totals)

            # Log
            if must_log:
                row = _train_row(run, result.totals, lr, clock)
                recorder.train_row(row)
                _warn_of(run, run.diagnosis.observe(row))
                _warn_of(run, run.diagnosis.only_new(input_watch.observe(row, run.loader.take_seconds())))
                clock.restart()

            # Evaluate, but not if asked to stop: the time that is left may be shorter than an evaluation
            must_stop, is_best = run.processes.any(stop.is_set), False
            state.evaluation_due = is_due(step, run.steps_of(config.eval.every), last_step)
            if state.evaluation_due and not must_stop:
                with clock.paused():
                    saver.finish()
                    is_best = _evaluate(run, stop)
                    must_stop = run.processes.any(stop.is_set)

            # Save, stop
            if is_best or must_stop or is_due(step, run.steps_of(config.checkpoint.every), last_step):
                with clock.paused():
                    saver.save(is_best=is_best)
            saver.poll()
            if must_stop and (step < last_step or state.evaluation_due):
                saver.require_saved()
                raise StoppedEarly(how_to_continue(run, stop.reason))
        saver.require_saved()
    if (message := run.stepper.guard.read()) is not None:
        recorder.warn(message)
    if run.stepper.guard.num_skipped:
        recorder.warn(f"{run.stepper.guard.num_skipped} steps were not finite and therefore skipped")


def _make_up_evaluation(run: Run, stop: StopRequest, saver: RunSaver) -> None:
    """Evaluate where the run was stopped before its evaluation, as it would have done."""
    is_best = _evaluate(run, stop)
    if run.state.evaluation_due:
        raise StoppedEarly(how_to_continue(run, stop.reason))
    saver.save(is_best=is_best)


def _train_row(run: Run, totals: StepTotals, lr: float, clock: StepClock) -> TrainRow:
    numbers = totals.to_host()  # waits for the step to be finished: before the clock is read
    data_seconds, step_seconds = clock.means()
    return TrainRow(
        step=run.state.step,
        epoch=run.state.step / run.steps_per_epoch,
        lr=lr,
        data_seconds=data_seconds,
        step_seconds=step_seconds,
        images_per_second=run.config.data.batch_size / step_seconds,
        **numbers,
    )


def _check_prior(run: Run) -> None:
    """Warn, before the first step, if the prior is not on the class head."""
    model, prior = run.state.model, run.config.model.head.prior
    finding = check_prior(
        model.cls_subnet.last.bias, num_classes=model.num_classes, prior=prior, activation=model.activation
    )
    if finding is not None:
        _warn_of(run, run.diagnosis.only_new([finding]))


def _check_first_loss(run: Run, expected: Tensor, totals: StepTotals) -> None:
    """Warn if the first class loss is not what theory gives for the prior, the classes and the anchors."""
    check = InitialLoss(expected=float(expected), measured=float(totals.losses.loss_cls))
    finding = check_first_loss(check)
    if finding is None:
        run.recorder.note(f"first class loss {check.measured:.3f}, theory gives {check.expected:.3f}: as it should be")
    elif not run.diagnosis.has_told(PRIOR):  # which explains it
        _warn_of(run, run.diagnosis.only_new([finding]))


def _warn_of(run: Run, findings: Sequence[Finding]) -> None:
    for finding in findings:
        run.recorder.warning_row(WarningRow(step=run.state.step, name=finding.name, text=finding.text))


def _evaluate(run: Run, stop: StopRequest) -> bool:
    """Evaluate, record the result, and return whether it is the best so far; asked to stop, leave it for later."""
    # With norm = batch every process has statistics of its own images; those of the main one are evaluated and saved.
    for model in (run.state.model, run.state.model_for_evaluation):
        run.processes.copy_from_main(model.buffers())
    num_pictures = min(run.config.eval.num_pictures, len(run.val_dataset))
    indices = [idx * len(run.val_dataset) // max(1, num_pictures) for idx in range(num_pictures)]
    image_ids = run.val_dataset.table.image_ids.tolist()
    # Of the step alone, so that a resumed run does what an uninterrupted one does; 0 = never.
    profile_every = run.steps_of(run.config.eval.every) * run.config.eval.loss_profile_every
    try:
        with run.recorder.progress("evaluating", len(run.val_dataset)) as advance:
            evaluation = run.evaluator(
                inference_copy(run.state.model_for_evaluation, compute_type(run.evaluator.precision)),
                picture_ids=[image_ids[idx] for idx in indices],
                with_profile=profile_every > 0 and is_due(run.state.step, profile_every, run.schedule.max_steps),
                advance=advance,
                should_stop=lambda: stop.is_set,
            )
    except EvaluationStopped:
        return False
    run.state.evaluation_due = False
    if evaluation is not None:
        run.recorder.eval_row(_eval_row(run, evaluation, indices))
        run.recorder.note(format_scores(evaluation.scores))
    # Decided by the main process, which saves, and knows whether a file could be written.
    is_best = False if evaluation is None else run.state.record_best(evaluation.scores.metrics["AP"])
    return bool(run.processes.broadcast(is_best))


def _eval_row(run: Run, evaluation: Evaluation, picture_indices: list[int]) -> EvalRow:
    numbers: dict[str, Any] = evaluation.losses | evaluation.split
    return EvalRow(
        step=run.state.step,
        metrics=evaluation.scores.metrics,
        per_class={row.name: row.AP for row in evaluation.scores.per_class},
        profile=evaluation.profile,
        pictures=draw_pictures(run.val_dataset, picture_indices, evaluation.detections, PICTURE_SCORE_THRESH),
        figures={} if evaluation.profile is None else render_loss_profile(evaluation.profile),
        scores=evaluation.results.scores.astype(np.float32),
        **numbers,
    )
