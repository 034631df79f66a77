"""From a configuration to everything that the train loop needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from detector.config import Config
from detector.data.dataset import DetectionDataset
from detector.data.loader import BatchLoader
from detector.data.transforms import build_transforms
from detector.engine.compilation import check_compilation
from detector.engine.config_changes import check_changes
from detector.engine.device import resolve_device, resolve_precision
from detector.engine.distributed import check_sync_norm
from detector.engine.evaluator import Evaluator
from detector.engine.evaluator_building import build_evaluator
from detector.engine.heap import keep_freed_memory
from detector.engine.processes import Processes, join_processes, processes_from_environment
from detector.engine.provenance import check_provenance, describe_provenance
from detector.engine.report import backbone_warning, effect_notes, format_report
from detector.engine.reproducible import make_reproducible, search_convolutions
from detector.engine.resume import agree_on_checkpoint, settle_recipe
from detector.engine.run_data import RunData, open_run_data
from detector.engine.run_folder import check_run_folder
from detector.engine.run_parts import build_loader, build_state, build_stepper, fit_memory
from detector.engine.run_records import open_diagnosis, open_recorder
from detector.engine.schedule import Schedule, build_schedule
from detector.engine.state import TrainState
from detector.engine.step import Stepper
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
        data: to learn from and to be scored on.
        provenance: what the checkpoints keep of data, processes and hardware.
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
    data: RunData
    provenance: Mapping[str, Any]
    recorder: RunRecorder
    diagnosis: Diagnosis
    device: torch.device
    processes: Processes

    @property
    def train_dataset(self) -> DetectionDataset:
        """Images to learn from."""
        return self.data.train

    @property
    def val_dataset(self) -> DetectionDataset:
        """Images to be scored on."""
        return self.data.val

    @property
    def images_per_epoch(self) -> int:
        """Images that one epoch deals; more than there are where some are repeated."""
        return self.data.images_per_epoch

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
    allow_changes: bool = False,
) -> Run:
    """Build a run: check what the user gave, in the order of cost, then make everything.

    Args:
        config: the configuration.
        origins: where each of its values comes from, for messages.
        resume: None, "auto" (newest checkpoint of the run folder) or a checkpoint file.
        init_from: checkpoint to take weights from, for a new run.
        overwrite: remove the run that is in the run folder.
        allow_changes: continue also with values that the steps done have not had.

    Raises:
        UserError: if anything that the user gave is wrong.
    """
    processes = processes_from_environment()
    device = resolve_device(config.device, processes.local_rank, processes.num_local)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # events and pinned memory belong to the current device
    else:
        keep_freed_memory()
    check_compilation(config.compile, device, cuda_graphs=config.cuda_graphs)
    check_sync_norm(config, device, processes)
    precision = resolve_precision(config.precision, device)
    config = config.model_copy(update={"precision": precision})
    transforms = build_transforms(config.data.augment, origins)
    output_dir = Path(config.output_dir)
    # Before the checks that the main process alone makes: from here on a process that waits for another one sees it
    # leave. One that waits in this call for a process that has ended, torchrun kills half a minute later.
    join_processes(processes, device)
    if processes.is_main:
        check_run_folder(output_dir, resume=resume is not None, overwrite=overwrite)
    data = open_run_data(config, processes)
    categories = data.train.categories
    evaluator = build_evaluator(
        config, data.val, data.ground_truth, categories, precision=precision, device=device, processes=processes
    )

    make_reproducible(config.seed, deterministic=config.deterministic)
    num_shapes = None if config.data.buckets is None else len(config.data.buckets)
    search_convolutions(num_shapes, deterministic=config.deterministic)
    provenance = describe_provenance(data, processes, device)
    checkpoint, notes = agree_on_checkpoint(processes, output_dir, resume, init_from)
    config, recipe_notes = settle_recipe(
        config, data.images_per_epoch, processes.num_processes, checkpoint, is_initialised=init_from is not None
    )
    if checkpoint is not None:
        notes += check_changes(config, checkpoint, data.images_per_epoch, allow_changes=allow_changes)
        notes += check_provenance(provenance, checkpoint, allow_changes=allow_changes)
    schedule, schedule_notes = build_schedule(config.schedule, data.images_per_epoch, config.data.batch_size)
    state, init_notes = build_state(config, categories, device, precision, checkpoint, init_from)
    config, memory_notes = fit_memory(config, data, state, precision, device, processes, checkpoint)
    loader, num_forwards = build_loader(config, data, transforms, state.step, processes, device)
    run = Run(
        config=config,
        output_dir=output_dir,
        state=state,
        schedule=schedule,
        stepper=build_stepper(config, data.train, state, precision, processes, checkpoint),
        loader=loader,
        num_forwards=num_forwards,
        evaluator=evaluator,
        data=data,
        provenance=provenance,
        # Nothing is written or removed before this line: after an error above, the mended command works as it is.
        recorder=open_recorder(config, state, schedule, processes, categories.names, overwrite=overwrite),
        diagnosis=open_diagnosis(config, state, schedule, processes, categories.names),
        device=device,
        processes=processes,
    )
    _report(run, [*data.notes, *notes, *recipe_notes, *schedule_notes, *init_notes, *memory_notes])
    return run


def _report(run: Run, notes: Sequence[str]) -> None:
    """Print the start-up report."""
    data = run.data
    report = format_report(
        run.config, run.state, run.schedule, data.train, data.val, run.processes, data.images_per_epoch
    )
    for note in [report, *notes, *effect_notes(run.config)]:
        run.recorder.note(note)
    own = backbone_warning(run.config)
    for warning in [*data.warnings, *([own] if own else [])]:
        run.recorder.warn(warning)
