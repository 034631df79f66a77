"""Pretrained backbone weights: torchvision's by name, or a file."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError
from typing import Final

import torch
import torchvision
from torch import Tensor

from detector.errors import UserError
from detector.models.backbone import ResNetBackbone

_VERSIONS = {"imagenet": "IMAGENET1K_V1", "imagenet_v2": "IMAGENET1K_V2"}

TIMEOUT_SECONDS: Final = 20.0
"""Longest wait for an answer of the server, at the beginning and in between."""


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
    url: str = members[version].url
    file = url.rpartition("/")[2]
    cached = Path(torch.hub.get_dir(), "checkpoints", file)
    was_there = cached.is_file()
    try:
        with _socket_timeout(TIMEOUT_SECONDS):
            state: Mapping[str, Tensor] = members[version].get_state_dict(
                progress=False, check_hash=True, weights_only=True
            )
    except (OSError, HTTPException, EOFError, RuntimeError, UnpicklingError) as error:
        if was_there:
            raise UserError(
                f"model.backbone.weights: {cached}, which an earlier download left there, cannot be read "
                f"({str(error).partition('. ')[0]}); "
                "remove it, and it is downloaded again"
            ) from error
        raise UserError(
            f"model.backbone.weights: {weights} for {name} could not be downloaded from {url} ({error}).\n"
            f"Without network: download {file} on another machine and give its path, model.backbone.weights=path/to/"
            f"{file}, or put it into {cached.parent}; or train from scratch, model.backbone.weights=none"
        ) from error
    return state


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Let no connection wait longer: torch's download sets no limit, and behind a firewall it would hang."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


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
        keys = ", ".join(map(repr, list(state)[:5])) if isinstance(state, Mapping) else ""
        raise UserError(
            f"model.backbone.weights: {path} is not a state dict (name -> tensor), but a {type(state).__name__}"
            f"{f' with the keys {keys}' if keys else ''}; checkpoints of whole detectors go to --init-from"
        )
    return state
