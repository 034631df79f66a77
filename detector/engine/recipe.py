"""Values that a recipe leaves to the data: learning rate and length, with the reasons for them in words."""

import math
from typing import Final

from detector.config import Config, OptimizerConfig, ScheduleConfig

BASE_BATCH: Final = 16
"""Images per step that the base learning rates are for: the batch of the published RetinaNet recipes."""

BASE_LR: Final = {
    # Linear rule (Goyal et al. 2017, Sec. 2.1), from Lin et al. 2017 and detectron2.
    ("sgd", True): 0.01,
    ("sgd", False): 0.01,
    # Square-root rule (Malladi et al. 2022), from torchvision's RetinaNet v2 recipe; from scratch, where nothing learnt
    # can be lost, about what the demo recipe has (1e-3 for 8 images).
    ("adamw", True): 1e-4,
    ("adamw", False): 1e-3,
}
"""By optimiser, and whether the weights were trained before."""

EPOCHS: Final = {True: 24, False: 72}
"""Passes over the images, by whether the weights were trained before: the 2x schedule, and three times as long from
scratch (He, Girshick, Dollar 2018, "Rethinking ImageNet Pre-training": 6x reaches what 2x with pretraining does)."""

MIN_STEPS: Final = {True: 1500, False: 3000}
"""Updates that a detector needs to settle, however few images there are."""

MAX_WARMUP: Final = 1000


def resolve_recipe(config: Config, num_images: int, *, is_pretrained: bool) -> tuple[Config, list[str]]:
    """Put numbers in place of ``auto`` in ``optimizer.lr``, ``schedule.max_steps`` and ``schedule.warmup_steps``.

    Args:
        config: the configuration.
        num_images: images of one epoch.
        is_pretrained: whether backbone or detector start from trained weights.

    Returns:
        The configuration with numbers, and a line with the reason for each.
    """
    optimizer, schedule, batch_size = config.optimizer, config.schedule, config.data.batch_size
    notes = []
    if optimizer.lr == "auto":
        lr, reason = derive_lr(optimizer, batch_size, is_pretrained=is_pretrained)
        optimizer = optimizer.model_copy(update={"lr": lr})
        notes.append(f"optimizer.lr = auto: {lr:.3g}, {reason}")
    if schedule.max_steps == "auto":
        steps, reason = derive_max_steps(num_images, batch_size, is_pretrained=is_pretrained)
        schedule = schedule.model_copy(update={"max_steps": steps})
        notes.append(f"schedule.max_steps = auto: {steps}, {reason}")
    if schedule.warmup_steps == "auto":
        steps = derive_warmup_steps(schedule, num_images, batch_size)
        schedule = schedule.model_copy(update={"warmup_steps": steps})
        notes.append(f"schedule.warmup_steps = auto: {steps}, a tenth of the run, at most {MAX_WARMUP}")
    return config.model_copy(update={"optimizer": optimizer, "schedule": schedule}), notes


def derive_lr(config: OptimizerConfig, batch_size: int, *, is_pretrained: bool) -> tuple[float, str]:
    """Return the learning rate for a batch, rounded to three digits, and the reason in words."""
    base = BASE_LR[config.name, is_pretrained]
    ratio = batch_size / BASE_BATCH
    factor = ratio if config.name == "sgd" else math.sqrt(ratio)
    rule = f"{batch_size} / {BASE_BATCH}" if config.name == "sgd" else f"sqrt({batch_size} / {BASE_BATCH})"
    start = "from trained weights" if is_pretrained else "from scratch"
    return float(
        f"{base * factor:.3g}"
    ), f"{config.name}'s {base:g} for {BASE_BATCH} images a step {start}, times {rule}"


def derive_max_steps(num_images: int, batch_size: int, *, is_pretrained: bool) -> tuple[int, str]:
    """Return the length of a run in steps, and the reason in words."""
    epochs, least = EPOCHS[is_pretrained], MIN_STEPS[is_pretrained]
    steps = math.ceil(epochs * num_images / batch_size)
    passes = f"{epochs} epochs of {num_images} images in batches of {batch_size}"
    if steps >= least:
        return steps, passes
    start = "trained weights" if is_pretrained else "random weights"
    return least, f"as {passes} are only {steps} steps, and from {start} it takes about {least}, however few images"


def derive_warmup_steps(config: ScheduleConfig, num_images: int, batch_size: int) -> int:
    """Return the steps over which the learning rate rises."""
    if isinstance(config.max_steps, int):
        max_steps = config.max_steps
    else:
        max_steps = math.ceil((config.epochs or 0) * num_images / batch_size)
    return min(MAX_WARMUP, max_steps // 10)
