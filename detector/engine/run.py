"""From a configuration to everything that the train loop needs."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from detector.config import Config
from detector.config_io import dump_config
from detector.criterion import LossNormalizer, build_criterion
from detector.data.dataset import DetectionDataset
from detector.data.loader import BatchLoader, build_train_loader
from detector.data.opening import open_train_and_val
from detector.data.repeat_factors import RepeatFactors, build_repeat_factors, describe_repeat_factors
from detector.data.samplers import split_batch
from detector.data.transforms import Transforms, build_transforms
from detector.engine.checkpoint import set_aside_later_checkpoints
from detector.engine.dataset_checks import DatasetReport, check_datasets
from detector.engine.device import (
    ResolvedPrecision,
    describe_device,
    place_for_training,
    resolve_device,
    resolve_precision,
)
from detector.engine.ema import WeightAverage
from detector.engine.evaluator import Evaluator, build_evaluator
from detector.engine.matcher import build_matcher
from detector.engine.optimizer import build_optimizer
from detector.engine.processes import Processes, join_processes, processes_from_environment
from detector.engine.recipe import resolve_recipe
from detector.engine.report import backbone_warning, effect_notes, format_report
from detector.engine.resume import describe_changes, find_resume, keep_resolved
from detector.engine.run_folder import CHECKPOINTS, check_run_folder, open_run_folder
from detector.engine.schedule import Schedule, build_schedule
from detector.engine.state import TrainState
from detector.engine.step import Stepper
from detector.engine.transfer import initialise_model
from detector.evaluation.coco import ground_truth_of
from detector.models import build_model
from detector.telemetry import METRICS_FILE, Diagnosis, RunRecorder
from detector.telemetry.diagnosis import build_diagnosis
from detector.telemetry.jsonl import read_rows

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
    train_split, val_split = open_train_and_val(config.data, config.seed)
    train, val = train_split.dataset, val_split.dataset
    report = check_datasets(config, train_split, val_split) if processes.is_main else DatasetReport()
    notes = [*report.notes]
    repeats = build_repeat_factors(config.data, train.table)
    images_per_epoch = len(train) if repeats is None else repeats.images_per_epoch
    if repeats is not None:
        notes.append(describe_repeat_factors(repeats, train.categories))
    evaluator = build_evaluator(
        config,
        val,
        ground_truth_of(val_split),
        train.categories,
        precision=precision,
        device=device,
        processes=processes,
    )

    _seed_everything(config)
    join_processes(processes, device)
    checkpoint, resume_notes = find_resume(output_dir, resume)
    config, recipe_notes = _resolve_recipe(config, images_per_epoch, checkpoint, is_initialised=init_from is not None)
    schedule, schedule_notes = build_schedule(config.schedule, images_per_epoch, config.data.batch_size)
    state, init_notes = _build_state(config, train, device, precision, checkpoint, init_from)
    loader, num_forwards = _build_loader(config, train, repeats, transforms, state.step, processes, device)
    stepper = Stepper(
        state,
        build_matcher(config),
        build_criterion(config.loss, len(train.categories)),
        precision=precision,
        processes=processes,
        clip_grad_norm=config.optimizer.clip_grad_norm,
    )
    run = Run(
        config=config,
        output_dir=output_dir,
        state=state,
        schedule=schedule,
        stepper=stepper,
        loader=loader,
        num_forwards=num_forwards,
        evaluator=evaluator,
        train_dataset=train,
        val_dataset=val,
        images_per_epoch=images_per_epoch,
        # Nothing is written or removed before this line: after an error above, the mended command works as it is.
        recorder=_open_recorder(config, state, schedule, processes, train.categories.names, overwrite=overwrite),
        diagnosis=_open_diagnosis(config, state, schedule, processes, train.categories.names),
        device=device,
        processes=processes,
    )
    _report(run, report.warnings, [*notes, *resume_notes, *recipe_notes, *schedule_notes, *init_notes])
    return run


def _open_recorder(
    config: Config,
    state: TrainState,
    schedule: Schedule,
    processes: Processes,
    class_names: Sequence[str],
    *,
    overwrite: bool,
) -> RunRecorder:
    """Write the run folder's first files, unless the run is finished already, and open those that grow."""
    output_dir = Path(config.output_dir)
    set_aside: list[Path] = []
    if processes.is_main and state.step < schedule.max_steps:
        hardware = describe_device(next(state.model.parameters()).device)
        open_run_folder(
            output_dir, overwrite=overwrite, config_yaml=dump_config(config), seed=config.seed, hardware=hardware
        )
        set_aside = set_aside_later_checkpoints(output_dir / CHECKPOINTS, state.step)
    recorder = RunRecorder(
        output_dir,
        max_steps=schedule.max_steps,
        start_step=state.step,
        class_names=class_names,
        is_main=processes.is_main,
    )
    for path in set_aside:
        recorder.note(f"{path.name}: of the course that this run had after step {state.step}; set aside")
    return recorder


def _open_diagnosis(
    config: Config, state: TrainState, schedule: Schedule, processes: Processes, class_names: Sequence[str]
) -> Diagnosis:
    """Return the diagnosis as the run left it; after the recorder, which removes the rows that are written again."""
    diagnosis = build_diagnosis(
        config,
        class_names,
        max_steps=schedule.max_steps,
        warmup_steps=schedule.warmup_steps,
        is_initialised=state.is_initialised,
    )
    if processes.is_main:
        diagnosis.replay(read_rows(Path(config.output_dir) / METRICS_FILE))
    return diagnosis


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


def _resolve_recipe(
    config: Config, num_images: int, checkpoint: tuple[str, dict[str, Any]] | None, *, is_initialised: bool
) -> tuple[Config, list[str]]:
    """Return the configuration with numbers in place of ``auto``, and notes: reasons, or what changed since."""
    if checkpoint is not None:
        config = keep_resolved(config, checkpoint)
        return config, describe_changes(config, checkpoint)
    return resolve_recipe(config, num_images, is_pretrained=is_initialised or config.model.backbone.pretrained)


def _build_state(
    config: Config,
    train: DetectionDataset,
    device: torch.device,
    precision: ResolvedPrecision,
    content: tuple[str, dict[str, Any]] | None,
    init_from: Path | None,
) -> tuple[TrainState, list[str]]:
    starts_fresh = content is None and init_from is None
    model = build_model(config.model, len(train.categories), load_weights=starts_fresh)
    notes = []
    if content is None and init_from is not None:
        notes.append(initialise_model(model, config.model, train.categories, init_from))
    model = place_for_training(model, device)
    state = TrainState(
        model=model,
        optimizer=build_optimizer(config.optimizer, model),
        normalizer=LossNormalizer(config.loss.normalizer),
        ema=None if config.ema.decay is None else WeightAverage(model, config.ema.decay),
        scaler=torch.amp.GradScaler(device.type) if precision == "fp16" else None,
        is_initialised=init_from is not None,
    )
    if content is not None:
        state.load_checkpoint(content[1], content[0], train.categories)
    return state, notes


def _build_loader(
    config: Config,
    train: DetectionDataset,
    repeats: RepeatFactors | None,
    transforms: Transforms,
    start_step: int,
    processes: Processes,
    device: torch.device,
) -> tuple[BatchLoader, int]:
    data = config.data
    loader = build_train_loader(
        data,
        train,
        transforms,
        seed=config.seed,
        repeats=repeats,
        start_step=start_step,
        rank=processes.rank,
        num_processes=processes.num_processes,
        pin_memory=device.type == "cuda",
    )
    return loader, split_batch(data.batch_size, data.images_per_forward, processes.num_processes)[1]
