"""How long a run is, and its learning rate at every step."""

import math
from dataclasses import dataclass
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from detector.config import ScheduleConfig


@dataclass(frozen=True, slots=True)
class Schedule:
    """The schedule in steps. ``factor(step)`` is a pure function, so a resumed run needs no state of it.

    Attributes:
        name: shape after the warm-up.
        max_steps: optimiser steps of the run.
        warmup_steps: steps of the linear rise.
        warmup_factor: factor at step 0.
        milestones: multistep: steps from which on the factor is lower.
        decay_factor: multistep: factor at each milestone.
        min_factor: cosine: factor at the end.
    """

    name: Literal["multistep", "cosine"]
    max_steps: int
    warmup_steps: int = 0
    warmup_factor: float = 0.0
    milestones: tuple[int, ...] = ()
    decay_factor: float = 0.1
    min_factor: float = 0.0

    def factor(self, step: int) -> float:
        """Return the factor on the learning rate for the update that follows ``step`` finished ones."""
        warmup = 1.0
        if step < self.warmup_steps:
            progress = step / self.warmup_steps
            warmup = self.warmup_factor + (1 - self.warmup_factor) * progress
        match self.name:
            case "multistep":
                return warmup * self.decay_factor ** sum(step >= milestone for milestone in self.milestones)
            case "cosine":
                span = max(1, self.max_steps - self.warmup_steps)
                progress = min(1.0, max(0, step - self.warmup_steps) / span)
                return warmup * (self.min_factor + (1 - self.min_factor) * 0.5 * (1 + math.cos(math.pi * progress)))


def build_schedule(config: ScheduleConfig, num_images: int, batch_size: int) -> tuple[Schedule, list[str]]:
    """Return the schedule in steps, and notes on what did not fit into it.

    Args:
        config: ``schedule`` of the configuration, with numbers in place of auto.
        num_images: images of one epoch.
        batch_size: images per step.
    """
    if config.max_steps == "auto" or config.warmup_steps == "auto":
        raise ValueError("schedule: max_steps or warmup_steps is auto; expected numbers")
    if (config.max_steps is None) == (config.epochs is None):
        raise ValueError("schedule: expected one of max_steps and epochs")
    steps_per_epoch = num_images / batch_size
    if config.max_steps is not None:
        max_steps = config.max_steps
    else:
        max_steps = max(1, math.ceil((config.epochs or 0) * steps_per_epoch))
    notes = []
    milestones = config.milestones or tuple(
        max(1, round(epoch * steps_per_epoch)) for epoch in config.milestones_epochs
    )
    dropped = [milestone for milestone in milestones if milestone >= max_steps]
    if dropped:
        notes.append(f"schedule: milestones {dropped} lie beyond the last step ({max_steps}) and are dropped")
    warmup_steps = config.warmup_steps
    if warmup_steps >= max_steps:
        notes.append(f"schedule: warm-up of {warmup_steps} steps is longer than the run ({max_steps}) and is dropped")
        warmup_steps = 0
    schedule = Schedule(
        name=config.name,
        max_steps=max_steps,
        warmup_steps=warmup_steps,
        warmup_factor=config.warmup_factor,
        milestones=tuple(milestone for milestone in milestones if milestone < max_steps),
        decay_factor=config.decay_factor,
        min_factor=config.min_factor,
    )
    return schedule, notes


def attach_schedule(optimizer: Optimizer, schedule: Schedule, lr: float, start_step: int) -> LambdaLR:
    """Return a scheduler that continues at ``start_step`` with the configuration's learning rate."""
    for group in optimizer.param_groups:
        group["initial_lr"] = lr
    return LambdaLR(optimizer, schedule.factor, last_epoch=start_step - 1)


def is_due(step: int, every: int, last_step: int) -> bool:
    """Return whether something with a period of ``every`` steps happens after ``step`` steps; always at the last."""
    return step % every == 0 or step == last_step
