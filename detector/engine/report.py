"""What a run is about to do, in a few lines before it starts."""

from typing import Final

from detector.config import Config
from detector.data.dataset import DetectionDataset
from detector.data.samplers import split_batch
from detector.engine.device import describe_device
from detector.engine.processes import Processes
from detector.engine.schedule import Schedule
from detector.engine.state import TrainState
from detector.models.build import resolve_backbone

ALPHA_OF_PAPER: Final = {"sigmoid_ce": 0.75, "varifocal": 0.75}
"""Best alpha of losses that the focal loss's 0.25 does not suit (Lin et al. 2017, Tab. 1a; Zhang et al. 2021)."""


def format_report(
    config: Config,
    state: TrainState,
    schedule: Schedule,
    train: DetectionDataset,
    val: DetectionDataset,
    processes: Processes,
    images_per_epoch: int,
) -> str:
    """Return the start-up report: hardware, data, recipe and network, as they were resolved."""
    device = next(state.model.parameters()).device
    rows = [
        ("run", f"{config.output_dir}, seed {config.seed}"),
        ("hardware", f"{describe_device(device)}; {processes.num_processes} process(es), {config.precision}"),
        ("train", _describe_dataset(train)),
        ("val", _describe_dataset(val)),
        ("classes", f"{len(train.categories)}: {_shorten(', '.join(train.categories.names))}"),
        ("images", _describe_images(config, processes)),
        ("network", _describe_network(config, state)),
        ("recipe", _describe_recipe(config)),
        ("schedule", _describe_schedule(schedule, config, images_per_epoch)),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)


def backbone_warning(config: Config) -> str | None:
    """Return a warning if a random backbone is to stay as it is."""
    backbone = config.model.backbone
    if backbone.pretrained:
        return None
    frozen = [f"norm = {backbone.norm}"] if backbone.norm == "frozen" else []
    frozen += [f"frozen_stages = {backbone.frozen_stages}"] if backbone.frozen_stages not in ("auto", 0) else []
    if not frozen:
        return None
    return (
        f"model.backbone: weights = none with {' and '.join(frozen)}: random layers are kept as they are and never "
        "learn. Use pretrained weights, or norm = batch | group and frozen_stages = 0"
    )


def effect_notes(config: Config) -> list[str]:
    """Return a line for every parameter of a loss that was changed but not read, and for an alpha of another loss."""
    cls, box = config.loss.cls, config.loss.box
    notes = [
        f"loss.cls.{key} = {_show(getattr(cls, key))} has no effect: loss.cls.name = {cls.name} does not read it"
        for key, field in type(cls).model_fields.items()
        if key != "name" and key not in cls.acting_keys and getattr(cls, key) != field.default
    ]
    if cls.name in ALPHA_OF_PAPER and cls.alpha == type(cls).model_fields["alpha"].default:
        notes.append(
            f"loss.cls.alpha = {_show(cls.alpha)} is the focal loss's for gamma = 2; with {cls.name} the papers have "
            f"{ALPHA_OF_PAPER[cls.name]:g}"
        )
    if box.name != "smooth_l1" and box.beta != type(box).model_fields["beta"].default:
        notes.append(f"loss.box.beta = {box.beta:g} has no effect: loss.box.name = {box.name} does not read it")
    return notes


def _describe_dataset(dataset: DetectionDataset) -> str:
    table = dataset.table
    num_regions = int(table.ignore.sum())
    counts = table.box_offsets.diff()
    text = f"{len(dataset)} images, {len(table.boxes) - num_regions} boxes"
    text += f", {num_regions} ignore regions" if num_regions else ""
    return text + (f", {int((counts == 0).sum())} images without boxes" if bool((counts == 0).any()) else "")


def _describe_images(config: Config, processes: Processes) -> str:
    data = config.data
    per_forward, num_forwards = split_batch(data.batch_size, data.images_per_forward, processes.num_processes)
    sides = "/".join(str(side) for side in data.short_side)
    return (
        f"short side {sides}, at most {data.max_side}; batch {data.batch_size} = {processes.num_processes} process(es) "
        f"x {num_forwards} forward(s) x {per_forward} image(s); evaluation at {config.eval_short_side}"
    )


def _describe_network(config: Config, state: TrainState) -> str:
    norm, frozen_stages = resolve_backbone(config.model.backbone)
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in state.model.parameters()]
    trained = sum(size for size, requires_grad in sizes if requires_grad)
    return (
        f"{config.model.backbone.name} ({config.model.backbone.weights}, {norm} norm, {frozen_stages} frozen stages), "
        f"FPN {config.model.fpn.channels}, {config.model.anchors.num_per_cell} anchors per cell; "
        f"{sum(size for size, _ in sizes) / 1e6:.1f} M parameters, {trained / 1e6:.1f} M trained"
    )


def _describe_recipe(config: Config) -> str:
    optimizer, cls, box = config.optimizer, config.loss.cls, config.loss.box
    per_image = optimizer.resolved_lr / config.data.batch_size
    cls_parameters = ", ".join(f"{key} {_show(getattr(cls, key))}" for key in cls.acting_keys)
    box_parameters = f" (beta {box.beta:g})" if box.name == "smooth_l1" else ""
    box_weight = "" if box.weight == 1 else f"{box.weight:g} x "
    return (
        f"{optimizer.name}, lr {optimizer.resolved_lr:g} ({per_image:.3g} per image), "
        f"weight decay {optimizer.weight_decay:g}; "
        f"{cls.name} ({cls_parameters}, prior {config.model.head.prior:g}) + {box_weight}{box.name}{box_parameters}, "
        f"normaliser {config.loss.normalizer}"
    )


def _show(value: float | tuple[float, ...] | None) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(f'{number:g}' for number in value)}]"
    return "null" if value is None else f"{value:g}"


def _describe_schedule(schedule: Schedule, config: Config, images_per_epoch: int) -> str:
    epochs = schedule.max_steps * config.data.batch_size / images_per_epoch
    text = f"{schedule.max_steps} steps = {epochs:.1f} epochs, {schedule.name}, warm-up {schedule.warmup_steps} steps"
    return text + (f", lr falls at {list(schedule.milestones)}" if schedule.milestones else "")


def _shorten(text: str, length: int = 160) -> str:
    return text if len(text) <= length else text[: length - 2] + " …"
