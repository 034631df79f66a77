"""Mutated checkpoints. Rule: what is loaded has the weights that were saved, or is refused."""

import functools
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from detector.config_io import dump_config, load_config
from detector.criterion import LossNormalizer
from detector.engine.checkpoint import load_checkpoint
from detector.engine.checkpoint_content import check_content
from detector.engine.checkpoint_files import save_checkpoint
from detector.engine.inference import load_detector
from detector.engine.optimizer import build_optimizer
from detector.engine.state import TrainState
from detector.models import build_model
from detector.structures import Categories
from fuzzing.mutations import BINARY
from fuzzing.outcome import SilentError

OVERRIDES = (
    *("model.backbone.weights=none", "model.backbone.name=resnet18", "model.fpn.channels=16"),
    *("model.head.num_convs=1", "device=cpu", "precision=fp32"),
)


@functools.cache
def original() -> tuple[Path, dict[str, Any]]:
    """A checkpoint of an untrained network, written once; its file and its content."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-checkpoint-"))
    config = load_config("retina_demo", OVERRIDES)
    model = build_model(config.model, 2, load_weights=False)
    state = TrainState(model, build_optimizer(config.optimizer, model), LossNormalizer(config.loss.normalizer))
    content = state.to_checkpoint(dump_config(config), Categories((1, 2), ("cat", "dog")))
    content["optimizer"]["state"] = {}  # as large as the weights, and not read here
    file = save_checkpoint(folder, content, step=0, is_best=False, keep=1)
    return file, load_checkpoint(file)


def remove_original() -> None:
    """Remove what :func:`original` wrote."""
    if original.cache_info().currsize:
        shutil.rmtree(original()[0].parent)
        original.cache_clear()


def make_case(folder: Path, rng: random.Random) -> tuple[str, Path]:
    """Write a mutated checkpoint; return the mutation's name and the file."""
    source, content = original()
    file = folder / "step-00000001.pt"
    for old in folder.glob("step-*"):
        old.unlink()
    if rng.random() < 0.4:
        change = rng.choice(CHANGES)
        changed = _copy(content)
        name = change(changed, rng)
        torch.save(changed, file)
        return f"{change.__name__} {name}", file
    mutation = rng.choice(BINARY)
    file.write_bytes(mutation(source.read_bytes(), rng))
    if with_checksum := rng.random() < 0.5:
        digest = source.with_name(f"{source.name}.sha256").read_text()
        file.with_name(f"{file.name}.sha256").write_text(digest.replace(source.name, file.name))
    return f"{mutation.__name__} {'with' if with_checksum else 'without'} checksum", file


def read_case(file: Path) -> None:
    """Load the detector of a checkpoint, and take it up as a resumed run does."""
    detector = load_detector(file, device="cpu")
    content = load_checkpoint(file)
    weights, expected = content["model"], original()[1]["model"]
    if weights.keys() != expected.keys() or any(not torch.equal(weights[name], expected[name]) for name in expected):
        raise SilentError("other weights than were saved")
    if (detector.step, detector.categories.names) != (0, ("cat", "dog")):
        raise SilentError(f"step {detector.step}, classes {detector.categories.names}")
    check_content(content, str(file))
    config = detector.config
    model = build_model(config.model, 2, load_weights=False)
    state = TrainState(model, build_optimizer(config.optimizer, model), LossNormalizer(config.loss.normalizer))
    state.load_checkpoint(content, str(file), detector.categories)


def drop_key(content: dict[str, Any], rng: random.Random) -> str:
    place, key = _pick(content, rng)
    del place[key]
    return str(key)


def replace_value(content: dict[str, Any], rng: random.Random) -> str:
    place, key = _pick(content, rng)
    place[key] = rng.choice((None, -1, "text", [], {}, 1.5, True, float("nan"), torch.zeros(2), {"a": {}}))
    return str(key)


def add_weight(content: dict[str, Any], rng: random.Random) -> str:
    content["model"]["another.weight"] = torch.zeros(rng.randrange(5))
    return "another.weight"


def change_weight(content: dict[str, Any], rng: random.Random) -> str:
    name = rng.choice(list(content["model"]))
    value = content["model"][name]
    content["model"][name] = rng.choice((value.reshape(-1)[:1], value[None], [1.0], None))
    return str(name)


CHANGES: tuple[Callable[[dict[str, Any], random.Random], str], ...] = (
    drop_key, replace_value, replace_value, add_weight, change_weight
)  # fmt: skip


def _pick(content: dict[str, Any], rng: random.Random) -> tuple[dict[Any, Any], Any]:
    """A key of the content, or of one of its parts."""
    parts = [content, content, *(part for part in content.values() if isinstance(part, dict) and part)]
    place = rng.choice(parts)
    return place, rng.choice(list(place))


def _copy(value: Any) -> Any:
    """The same content with containers of its own; tensors are shared."""
    if isinstance(value, dict):
        return {key: _copy(part) for key, part in value.items()}
    return [_copy(part) for part in value] if isinstance(value, list) else value
