"""A new run begins with the weights of another one: the class head by names, everything else where it fits.

Letters: A anchors per cell, K classes, C = K logits per anchor, with softmax K + 1.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from torch import Tensor

from detector.config import ModelConfig
from detector.config_io import load_config_text
from detector.config_yaml import write_flow
from detector.engine.checkpoint_content import load_trained
from detector.engine.state import checkpoint_categories
from detector.errors import UserError
from detector.models import RetinaNet
from detector.models.weights import load_backbone_weights
from detector.structures import Activation, Categories

_CLASS_HEAD = ("cls_subnet.last.weight", "cls_subnet.last.bias")
_BOX_HEAD = ("box_subnet.last.weight", "box_subnet.last.bias")
_NUM_SHOWN = 12


@dataclass(frozen=True, slots=True)
class HeadLayout:
    """What the channels of the subnets' last convolutions stand for.

    Attributes:
        class_names: K names in the order of the logits.
        activation: of the logits; softmax has one more per anchor, background, behind the classes.
        num_anchors: A.
        anchors: what shapes them: YAML by the keys of ``model.anchors``.
    """

    class_names: tuple[str, ...]
    activation: Activation
    num_anchors: int
    anchors: Mapping[str, str]

    @property
    def num_logits(self) -> int:
        """C, the class logits of one anchor."""
        return len(self.class_names) + (self.activation == "softmax")


def build_head_layout(config: ModelConfig, categories: Categories) -> HeadLayout:
    """Return the layout of the network that a configuration describes."""
    anchors = {key: write_flow(value) for key, value in config.anchors.model_dump(mode="json").items()}
    return HeadLayout(categories.names, config.head.activation, config.anchors.num_per_cell, anchors)


def initialise_model(model: RetinaNet, config: ModelConfig, categories: Categories, checkpoint: Path) -> str:
    """Give a new network the weights of a checkpoint, the averaged ones if it has them.

    Where the checkpoint has another backbone than the one that is asked for with pretrained weights, the backbone gets
    those as a whole: layers of two trainings in one would be worth less than either.

    Args:
        model: built without pretrained weights.
        config: that it was built from.
        categories: its classes.
        checkpoint: file of another run.

    Returns:
        Readable lines on what was moved and what is new.

    Raises:
        UserError: the checkpoint cannot be read, nothing of it fits, or pretrained weights are needed and missing.
    """
    content = load_trained(checkpoint)
    old = load_config_text(content["config"], str(checkpoint)).model
    weights: dict[str, Tensor] = content["model"] if content["ema"] is None else content["ema"]["model"]
    notes = []
    if config.backbone.pretrained and old.backbone.name != config.backbone.name:
        load_backbone_weights(model.backbone, config.backbone.name, config.backbone.weights)
        weights = {name: value for name, value in weights.items() if not name.startswith("backbone.")}
        notes.append(
            f"backbone: {config.backbone.name} with model.backbone.weights = {config.backbone.weights}, as the "
            f"checkpoint has {old.backbone.name}"
        )
    old_layout = build_head_layout(old, checkpoint_categories(content))
    notes = transfer_weights(model, weights, old_layout, build_head_layout(config, categories), str(checkpoint)) + notes
    return "\n  ".join(notes)


def transfer_weights(
    model: RetinaNet, weights: Mapping[str, Tensor], old: HeadLayout, new: HeadLayout, source: str
) -> list[str]:
    """Copy what fits by name and shape; the last class convolution class by class, by equal names.

    Classes that the weights do not know keep the bias of the prior. With another activation or number of anchors per
    cell the channels mean something else, so those layers stay new.

    Args:
        model: to fill; its other weights stay as they are.
        weights: of another network, by the names of the state dict.
        old: layout of the weights.
        new: layout of the model.
        source: the file's name, for messages.

    Returns:
        Readable lines on what was moved and what is new.

    Raises:
        UserError: nothing fits; the model is as before.
    """
    wanted = model.state_dict()
    fitting = {name: value for name, value in weights.items() if name in wanted and value.shape == wanted[name].shape}
    fresh_head, reason = _fresh_layers(old, new)
    if not _channels_fit(weights, wanted):  # a bias that fits belongs to weights that do not
        fresh_head = (*fresh_head, *_CLASS_HEAD)
        reason = [*reason, "last layer of the class head: new, as it has other inputs"]
    fitting = {name: value for name, value in fitting.items() if name not in fresh_head}
    by_name = {}
    if not fresh_head and old.class_names != new.class_names:
        by_name = {name: _move_rows(weights[name], wanted[name], old, new) for name in _CLASS_HEAD}
        fitting = {name: value for name, value in fitting.items() if name not in by_name}
    if not any(value.ndim for value in fitting.values()):  # the counters of batch norm fit anything
        raise UserError(f"{source}: none of its {len(weights)} weights fits this network")
    model.load_state_dict(fitting | by_name, strict=False)

    fresh = [name for name in wanted if name not in fitting and name not in by_name and name not in fresh_head]
    return [
        f"initialised from {source}: {len(fitting)} of {len(wanted)} tensors",
        *(_describe_classes(old.class_names, new.class_names) if by_name else []),
        *reason,
        *([f"not in it or of another shape, and therefore new: {_shorten(fresh)}"] if fresh else []),
    ]


def _fresh_layers(old: HeadLayout, new: HeadLayout) -> tuple[tuple[str, ...], list[str]]:
    """Return the tensors whose channels mean something else than they did, and a line on how the layouts differ."""
    if old.num_anchors != new.num_anchors:
        return (*_CLASS_HEAD, *_BOX_HEAD), [
            f"last layers of class and box head: new, as the checkpoint has {old.num_anchors} anchors per cell and "
            f"this network {new.num_anchors}"
        ]
    if old.activation != new.activation:
        return _CLASS_HEAD, [
            f"last layer of the class head: new, as the checkpoint's is for {old.activation} and this one for "
            f"{new.activation}"
        ]
    changed = [key for key, value in new.anchors.items() if old.anchors[key] != value]
    keys = ", ".join(f"model.anchors.{key} {old.anchors[key]} -> {new.anchors[key]}" for key in changed)
    return (), [f"moved to other anchors than they were trained with: {keys}"] if changed else []


def _channels_fit(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> bool:
    """Whether the last class convolutions have the same input."""
    return all(name in weights and weights[name].shape[1:] == wanted[name].shape[1:] for name in _CLASS_HEAD)


def _move_rows(value: Tensor, fresh: Tensor, old: HeadLayout, new: HeadLayout) -> Tensor:
    """Return ``fresh`` [A * C, ...] with the rows of ``value`` for classes of the same name and for background."""
    shared = [name for name in new.class_names if name in old.class_names]
    rows_from = [old.class_names.index(name) for name in shared]
    rows_to = [new.class_names.index(name) for name in shared]
    if new.activation == "softmax":
        rows_from.append(len(old.class_names))
        rows_to.append(len(new.class_names))
    rows: Tensor = fresh.clone().unflatten(0, (new.num_anchors, new.num_logits))  # see Subnet
    rows[:, rows_to] = value.unflatten(0, (old.num_anchors, old.num_logits))[:, rows_from]
    moved: Tensor = rows.flatten(0, 1)
    return moved


def _describe_classes(old: Sequence[str], new: Sequence[str]) -> list[str]:
    """Say which classes moved, and which stayed behind though their names look alike."""
    moved = [name for name in new if name in old]
    fresh = [name for name in new if name not in old]
    unused = [name for name in old if name not in new]
    parts = [f"moved {_shorten(moved)} ({len(moved)} of {len(new)})" if moved else f"moved none of {len(new)}"]
    parts += [f"new: {_shorten(fresh)}"] if fresh else []
    parts += [f"not used: {_shorten(unused)}"] if unused else []
    notes = [f"class head by name: {'; '.join(parts)}"]
    folded = {name.casefold(): name for name in unused}
    near = [(name, found) for name in fresh for found in get_close_matches(name.casefold(), folded, n=1, cutoff=0.8)]
    if near:
        pairs = _shorten(f"{folded[found]!r} in the checkpoint and {name!r} in the data" for name, found in near)
        notes.append(f"not taken for one class, though alike: {pairs}; where they are one, give them one name")
    return notes


def _shorten(names: Iterable[str]) -> str:
    listed = list(names)
    rest = len(listed) - _NUM_SHOWN
    return ", ".join(listed[:_NUM_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
