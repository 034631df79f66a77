"""Weights for other programs: a safetensors file with classes and configuration in its metadata.

It reads back as a checkpoint without a training state: for ``--init-from``, ``evaluate`` and ``predict``.
"""

import json
import os
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from detector.engine.checksum import replace_with_digest, sha256_of
from detector.errors import UserError

SUFFIX: Final = ".safetensors"
EXPORTED_FORMAT: Final = "retina-detector weights"
"""Also in the metadata, under ``format``."""


def write_exported(path: Path, content: dict[str, Any], weights: dict[str, Tensor], *, kind: str) -> None:
    """Write weights with what is needed to use them, whole or not at all, with a checksum beside.

    Args:
        path: file to write.
        content: of the checkpoint that they are from.
        weights: by the names of the network's state dict.
        kind: "ema" or "raw".

    Raises:
        OSError: it cannot be written.
    """
    metadata = {
        "format": EXPORTED_FORMAT,
        "step": str(content["step"]),
        "weights": kind,
        "categories": json.dumps(content["categories"]),
        "config": content["config"],
    }
    temporary = path.with_name(f"{path.name}.tmp")
    # Not save_file: it makes the file for its owner only, and has errors of the system as text only.
    temporary.write_bytes(save({name: value.contiguous() for name, value in weights.items()}, metadata=metadata))
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    replace_with_digest(temporary, path, sha256_of(temporary))


def read_exported(path: Path) -> dict[str, Any]:
    """Read such a file as the content of a checkpoint that has no training state.

    Raises:
        UserError: it is none of this program.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != EXPORTED_FORMAT:
                raise UserError(
                    f"{path}: a safetensors file, but not one of this program, as `detector export` writes it"
                )
            return {
                "step": int(metadata["step"]),
                "config": metadata["config"],
                "categories": json.loads(metadata["categories"]),
                "model": {name: file.get_tensor(name) for name in file.keys()},  # noqa: SIM118 (no mapping)
                "ema": None,
            }
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error})") from error
