"""From a configuration to everything that the train loop needs."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from detector.config import Config
from detector.criterion import LossNormalizer, build_criterion
from detector.data.dataset import DetectionDataset
from detector.data.loader import BatchLoader, build_train_loader
from detector.data.samplers import split_batch
from detector.data.transforms import Transforms, build_transforms
from detector.engine.device import ResolvedPrecision, place_for_training, resolve_device, resolve_precision
from detector.engine.ema import WeightAverage
from detector.engine.evaluator import Evaluator, build_evaluator
from detector.engine.fit_memory import settle_images_per_forward
from detector.engine.matcher import build_matcher
from detector.engine.nonfinite import NonfiniteReporter
from detector.engine.optimizer import build_optimizer
from detector.engine.processes import Processes, join_processes, processes_from_environment
from detector.engine.report import backbone_warning, effect_notes, format_report
from detector.engine.resume import find_resume, settle_recipe
from detector.engine.run_data import RunData, open_run_data
from detector.engine.run_folder import check_run_folder
from detector.engine.run_records import open_diagnosis, open_recorder
from detector.engine.schedule import Schedule, build_schedule
from detector.engine.state import TrainState
from detector.engine.step import Stepper
from detector.engine.transfer import initialise_model
from detector.models import build_model
from detector.structures import Categories
from detector.telemetry import Diagnosis, RunRecorder

Origins = Mapping[tuple[str | int, ...], str]


@dataclass(frozen=True, slots=True)
class Run:
    """A run that is ready to train; nothing in it is built again.

    Attributes:
        config: with ``precision`` resolved.
        output_dir: run folder.
        state: what training moves, already at the step to continue from.
        schedule: length and learning rate.
        stepper: makes optimiser steps.
        loader: micro-batches of this process, without end.
        num_forwards: micro-batches per step.
        evaluator: on the validation set.
        train_dataset: images to learn from.
        val_dataset: images to be scored on.
        images_per_epoch: images that one epoch deals; more than there are where some are repeated.
        recorder: where rows and notes go.
        diagnosis: what the rows say is wrong.
        device: where it runs.
        processes: who shares it.
    """

    config: Config
    output_dir: Path
    state: TrainState
    schedule: Schedule
    stepper: Stepper
    loader: BatchLoader
    num_forwards: int
    evaluator: Evaluator
    train_dataset: DetectionDataset
    val_dataset: DetectionDataset
    images_per_epoch: int
    recorder: RunRecorder
    diagnosis: Diagnosis
    device: torch.device
    processes: Processes

    @property
    def steps_per_epoch(self) -> float:
        """Optimiser steps in one pass over the training images, repeated ones counted each time."""
        return self.images_per_epoch / self.config.data.batch_size

    def steps_of(self, cadence: int | str) -> int:
        """Return a cadence of the configuration (steps, or ``epoch``) in steps."""
        return cadence if isinstance(cadence, int) else max(1, round(self.steps_per_epoch))


def build_run(
    config: Config,
    origins: Origins,
    *,
    resume: str | None = None,
    init_from: Path | None = None,
    overwrite: bool = False,
) -> Run:
    """Build a run: check what the user gave, in the order of cost, then make everything.

    Args:
        config: the configuration.
        origins: where each of its values comes from, for messages.
        resume: None, "auto" (newest checkpoint of the run folder) or a checkpoint file.
        init_from: checkpoint to take weights from, for a new run.
        overwrite: remove the run that is in the run folder.

    Raises:
        UserError: if anything that the user gave is wrong.
    """
    processes = processes_from_environment()
    device = resolve_device(config.device, processes.local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # events and pinned memory belong to the current device
    precision = resolve_precision(config.precision, device)
    config = config.model_copy(update={"precision": precision})
    transforms = build_transforms(config.data.augment, origins)
    output_dir = Path(config.output_dir)
    if processes.is_main:
        check_run_folder(output_dir, resume=resume is not None, overwrite=overwrite)
    data = open_run_data(config, processes)
    categories = data.train.categories
    evaluator = build_evaluator(
        config, data.val, data.ground_truth, categories, precision=precision, device=device, processes=processes
    )

    _seed_everything(config)
    join_processes(processes, device)
    checkpoint, resume_notes = find_resume(output_dir, resume)
    config, recipe_notes = settle_recipe(
        config, data.images_per_epoch, checkpoint, is_initialised=init_from is not None
    )
    schedule, schedule_notes = build_schedule(config.schedule, data.images_per_epoch, config.data.batch_size)
    state, init_notes = _build_state(config, categories, device, precision, checkpoint, init_from)
    config, memory_notes = _fit_memory(config, data, state, precision, device, processes, checkpoint)
    loader, num_forwards = _build_loader(config, data, transforms, state.step, processes, device)
    stepper = _build_stepper(config, data.train, state, precision, processes)
    run = Run(
        config=config,
        output_dir=output_dir,
        state=state,
        schedule=schedule,
        stepper=stepper,
        loader=loader,
        num_forwards=num_forwards,
        evaluator=evaluator,
        train_dataset=data.train,
        val_dataset=data.val,
        images_per_epoch=data.images_per_epoch,
        # Nothing is written or removed before this line: after an error above, the mended command works as it is.
        recorder=open_recorder(config, state, schedule, processes, categories.names, overwrite=overwrite),
        diagnosis=open_diagnosis(config, state, schedule, processes, categories.names),
        device=device,
        processes=processes,
    )
    _report(
        run, data.warnings, [*data.notes, *resume_notes, *recipe_notes, *schedule_notes, *init_notes, *memory_notes]
    )
    return run


def _report(run: Run, warnings: Sequence[str], notes: Sequence[str]) -> None:
    """Print the start-up report."""
    run.recorder.note(
        format_report(
            run.config,
            run.state,
            run.schedule,
            run.train_dataset,
            run.val_dataset,
            run.processes,
            run.images_per_epoch,
        )
    )
    for note in [*notes, *effect_notes(run.config)]:
        run.recorder.note(note)
    own = backbone_warning(run.config)
    for warning in [*warnings, *([own] if own else [])]:
        run.recorder.warn(warning)


def _seed_everything(config: Config) -> None:
    torch.manual_seed(config.seed)
    if config.deterministic:
        # cuBLAS reads it when it is first used; torch refuses its nondeterministic workspaces otherwise.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)


def _build_state(
    config: Config,
    categories: Categories,
    device: torch.device,
    precision: ResolvedPrecision,
    checkpoint: tuple[str, dict[str, Any]] | None,
    init_from: Path | None,
) -> tuple[TrainState, list[str]]:
    starts_fresh = checkpoint is None and init_from is None
    model = build_model(config.model, len(categories), load_weights=starts_fresh)
    notes = []
    if checkpoint is None and init_from is not None:
        notes.append(initialise_model(model, config.model, categories, init_from))
    model = place_for_training(model, device)
    state = TrainState(
        model=model,
        optimizer=build_optimizer(config.optimizer, model),
        normalizer=LossNormalizer(config.loss.normalizer),
        ema=None if config.ema.decay is None else WeightAverage(model, config.ema.decay),
        scaler=torch.amp.GradScaler(device.type) if precision == "fp16" else None,
        is_initialised=init_from is not None,
    )
    if checkpoint is not None:
        state.load_checkpoint(checkpoint[1], checkpoint[0], categories)
    return state, notes


def _fit_memory(
    config: Config,
    data: RunData,
    state: TrainState,
    precision: ResolvedPrecision,
    device: torch.device,
    processes: Processes,
    checkpoint: tuple[str, dict[str, Any]] | None,
) -> tuple[Config, list[str]]:
    if checkpoint is not None:
        return config, []  # it goes on with as many as before

    def make_stepper() -> Stepper:
        criterion = build_criterion(config.loss, len(data.train.categories))
        return Stepper(state, build_matcher(config), criterion, precision=precision)

    return settle_images_per_forward(config, data.train.table, state, make_stepper, device, processes)


def _build_stepper(
    config: Config, dataset: DetectionDataset, state: TrainState, precision: ResolvedPrecision, processes: Processes
) -> Stepper:
    matcher, criterion = build_matcher(config), build_criterion(config.loss, len(dataset.categories))
    reporter = NonfiniteReporter(
        Path(config.output_dir), dataset, state, matcher, criterion, precision=precision, processes=processes
    )
    return Stepper(
        state,
        matcher,
        criterion,
        precision=precision,
        processes=processes,
        clip_grad_norm=config.optimizer.clip_grad_norm,
        reporter=reporter,
    )


def _build_loader(
    config: Config,
    data: RunData,
    transforms: Transforms,
    start_step: int,
    processes: Processes,
    device: torch.device,
) -> tuple[BatchLoader, int]:
    loader = build_train_loader(
        config.data,
        data.train,
        transforms,
        seed=config.seed,
        repeats=data.repeats,
        start_step=start_step,
        rank=processes.rank,
        num_processes=processes.num_processes,
        pin_memory=device.type == "cuda",
    )
    batch = split_batch(config.data.batch_size, config.data.images_per_forward, processes.num_processes)
    return loader, batch[1]
