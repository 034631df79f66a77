"""The train loop."""

import gc
import itertools
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from torch import Tensor

from detector.config import Config
from detector.engine.clock import StepClock
from detector.engine.evaluations import Evaluations
from detector.engine.input_watch import build_input_watch
from detector.engine.out_of_memory import explained_out_of_memory
from detector.engine.processes import leaving_processes
from detector.engine.run import Origins, Run, build_run
from detector.engine.run_folder import discard_unstarted_run
from detector.engine.sanity import PRIOR, InitialLoss, check_first_loss, check_prior
from detector.engine.saving import RunSaver, how_to_continue
from detector.engine.schedule import attach_schedule, is_due
from detector.engine.stop import StopRequest, starting
from detector.errors import StoppedEarly, UserError
from detector.telemetry import Finding, StepTotals, TrainRow, WarningRow


def train(
    config: Config,
    origins: Origins,
    *,
    notes: Sequence[str] = (),
    resume: str | None = None,
    init_from: Path | None = None,
    overwrite: bool = False,
    allow_changes: bool = False,
    stop: StopRequest | None = None,
) -> None:
    """Train a detector as a configuration says; see :func:`detector.engine.run.build_run` for the arguments.

    ``notes`` are lines to be printed with the start-up report. ``stop`` is what listens to signals already; None: that
    begins here.

    Raises:
        UserError: if anything that the user gave is wrong.
        StoppedEarly: after SIGTERM, SIGINT, SIGUSR1 or the time limit, with everything saved.
        DivergedError: after too many non-finite steps in a row.
        ResourceError: if the memory is not enough, or loader processes are killed again and again.
    """
    with StopRequest(config.time_limit_seconds) if stop is None else nullcontext(stop) as stop, leaving_processes():
        with starting(stop):
            run = build_run(
                config, origins, resume=resume, init_from=init_from, overwrite=overwrite, allow_changes=allow_changes
            )
            stop.begin_steps()
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


def train_loop(run: Run, stop: StopRequest | None = None) -> None:
    """Make the steps that are left: data, step, log, evaluate, save, stop when asked to."""
    stop = stop or StopRequest()
    config, state, recorder, last_step = run.config, run.state, run.recorder, run.schedule.max_steps
    scheduler = attach_schedule(state.optimizer, run.schedule, config.optimizer.resolved_lr, state.step)
    batches, clock, input_watch = iter(run.loader), StepClock(), build_input_watch(config)
    state.model.train()
    with RunSaver(run) as saver, Evaluations(run, saver) as evaluations:
        stop.begin_steps()
        if state.evaluation_due:
            _make_up_evaluation(run, stop, evaluations)
        for step in range(state.step + 1, last_step + 1):
            # Data
            with clock.waiting():
                host_batches = list(itertools.islice(batches, run.num_forwards))

            # Step
            lr = float(scheduler.get_last_lr()[0])
            must_log = is_due(step, config.log_every, last_step)
            with explained_out_of_memory(step, host_batches, config, run.device):
                device_batches = [batch.to(run.device) for batch in host_batches]
                if step == 1 and not state.is_initialised:
                    _check_prior(run)
                    expected = run.stepper.expected_first_loss(device_batches, prior=config.model.head.prior)
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
            must_stop = run.processes.any(stop.is_set)
            must_save = is_due(step, run.steps_of(config.checkpoint.every), last_step)
            state.evaluation_due = is_due(step, run.steps_of(config.eval.every), last_step)
            if state.evaluation_due and not must_stop:
                with clock.paused():
                    if evaluations.make(stop, must_save=must_save):
                        must_save = False  # it has been, or is when the score is known
                    must_stop = run.processes.any(stop.is_set)

            # Save, stop
            with clock.paused():
                if must_save or must_stop:
                    evaluations.finish()
                    saver.save()
                evaluations.poll()
                saver.poll()
            if must_stop and (step < last_step or state.evaluation_due):
                saver.require_saved()
                stop.end_steps()
                raise StoppedEarly(how_to_continue(run, stop.reason))
        evaluations.finish()
        saver.require_saved()
    if (message := run.stepper.guard.read()) is not None:
        recorder.warn(message)
    if run.stepper.guard.num_skipped:
        recorder.warn(f"{run.stepper.guard.num_skipped} steps were not finite and therefore skipped")


def _make_up_evaluation(run: Run, stop: StopRequest, evaluations: Evaluations) -> None:
    """Evaluate where the run was stopped before its evaluation, as it would have done."""
    if not evaluations.make(stop, must_save=True):
        raise StoppedEarly(how_to_continue(run, stop.reason))


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
