"""Pretrained backbone weights: torchvision's by name, or a file."""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor

from detector.errors import UserError
from detector.models.backbone import ResNetBackbone

_VERSIONS = {"imagenet": "IMAGENET1K_V1", "imagenet_v2": "IMAGENET1K_V2"}


def load_backbone_weights(backbone: ResNetBackbone, name: str, weights: str) -> None:
    """Fill a backbone with pretrained weights.

    Args:
        backbone: whose parameters and statistics are overwritten.
        name: architecture, e.g. "resnet50".
        weights: "imagenet", "imagenet_v2", or the path of a state dict with torchvision's names.

    Raises:
        UserError: if the weights cannot be downloaded or read, or belong to another architecture.
    """
    state = _download(name, weights) if weights in _VERSIONS else _read(Path(weights))
    wanted = backbone.state_dict()
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    wrong = [key for key in wanted if key in state and state[key].shape != wanted[key].shape]
    if missing or wrong:
        key = (missing or wrong)[0]
        found = f"has shape {tuple(state[key].shape)}" if key in state else "is missing"
        raise UserError(
            f"model.backbone.weights: {weights} does not fit {name}: {len(missing)} entries are missing and "
            f"{len(wrong)} have another shape; '{key}' {found}, expected shape {tuple(wanted[key].shape)}"
        )
    backbone.load_state_dict({key: state[key] for key in wanted if key in state}, strict=False)


def _download(name: str, weights: str) -> Mapping[str, Tensor]:
    members = torchvision.models.get_model_weights(name).__members__
    version = _VERSIONS[weights]
    if version not in members:
        raise UserError(f"model.backbone.weights: {weights} does not exist for {name}; torchvision has {list(members)}")
    try:
        state: Mapping[str, Tensor] = members[version].get_state_dict(progress=False, check_hash=True)
    except (URLError, OSError, EOFError, RuntimeError, UnpicklingError) as error:
        raise UserError(
            f"model.backbone.weights: {weights} for {name} could not be downloaded from {members[version].url} "
            f"({error}). Without network, download that file elsewhere and give its path: "
            "model.backbone.weights=FILE; or train from scratch: model.backbone.weights=none"
        ) from error
    return state


def _read(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise UserError(
            f"model.backbone.weights: {path} is not a file; expected none, imagenet, imagenet_v2 or the path of a "
            "state dict"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds for a file that is not a checkpoint
        raise UserError(
            f"model.backbone.weights: {path} is not a PyTorch state dict ({type(error).__name__})"
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"model.backbone.weights: {path} is not a state dict (name -> tensor)")
    return state
