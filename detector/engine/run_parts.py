"""The parts of a run, each from the configuration and the checkpoint that the run continues from."""

from pathlib import Path
from typing import Any, TypeAlias

import torch

from detector.config import Config
from detector.criterion import LossNormalizer, build_criterion
from detector.data.dataset import DetectionDataset
from detector.data.loader import BatchLoader, build_train_loader
from detector.data.samplers import split_batch
from detector.data.transforms import Transforms
from detector.engine.device import ResolvedPrecision, place_for_training
from detector.engine.ema import WeightAverage
from detector.engine.fit_memory import settle_images_per_forward
from detector.engine.matcher import build_matcher
from detector.engine.nonfinite import NonfiniteReporter
from detector.engine.optimizer import build_optimizer
from detector.engine.processes import Processes
from detector.engine.resume import has_processes
from detector.engine.run_data import RunData
from detector.engine.state import TrainState
from detector.engine.step import Stepper
from detector.engine.transfer import initialise_model
from detector.models import build_model
from detector.structures import Categories

Checkpoint: TypeAlias = tuple[str, dict[str, Any]]
"""Name and content of a checkpoint."""


def build_state(
    config: Config,
    categories: Categories,
    device: torch.device,
    precision: ResolvedPrecision,
    checkpoint: Checkpoint | None,
    init_from: Path | None,
) -> tuple[TrainState, list[str]]:
    """Return what training moves, at the step to continue from, and notes on weights that were taken over."""
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


def fit_memory(
    config: Config,
    data: RunData,
    state: TrainState,
    precision: ResolvedPrecision,
    device: torch.device,
    processes: Processes,
    checkpoint: Checkpoint | None,
) -> tuple[Config, list[str]]:
    """Return the configuration with as many images a forward pass as fit, and notes; a run that continues has them."""
    if checkpoint is not None and has_processes(checkpoint, processes.num_processes):
        return config, []  # it goes on with as many as before

    def make_stepper() -> Stepper:
        criterion = build_criterion(config.loss, len(data.train.categories))
        return Stepper(state, build_matcher(config), criterion, precision=precision)

    return settle_images_per_forward(config, data.train.table, state, make_stepper, device, processes)


def build_stepper(
    config: Config,
    dataset: DetectionDataset,
    state: TrainState,
    precision: ResolvedPrecision,
    processes: Processes,
    checkpoint: Checkpoint | None,
) -> Stepper:
    """Return what makes the steps, as a checkpoint left it."""
    matcher, criterion = build_matcher(config), build_criterion(config.loss, len(dataset.categories))
    reporter = NonfiniteReporter(
        Path(config.output_dir), dataset, state, matcher, criterion, precision=precision, processes=processes
    )
    stepper = Stepper(
        state,
        matcher,
        criterion,
        precision=precision,
        convolution=config.convolution,
        compilation=config.compile,
        cuda_graphs=config.cuda_graphs,
        processes=processes,
        clip_grad_norm=config.optimizer.clip_grad_norm,
        reporter=reporter,
    )
    if checkpoint is not None and "guard" in checkpoint[1]:  # older checkpoints lack it
        stepper.guard.load_state_dict(checkpoint[1]["guard"])
    return stepper


def build_loader(
    config: Config,
    data: RunData,
    transforms: Transforms,
    start_step: int,
    processes: Processes,
    device: torch.device,
) -> tuple[BatchLoader, int]:
    """Return the loader of this process from ``start_step`` on, and its micro-batches per step."""
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
