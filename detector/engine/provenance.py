"""Where the numbers of a run come from, beside its configuration: its data and what computes them."""

import hashlib
import re
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import cv2
import torch
import torchvision

from detector.data.annotations import AnnotationTable
from detector.engine.device import describe_device
from detector.engine.processes import Processes
from detector.engine.run_data import RunData
from detector.errors import UserError

_DATA: Final = "data"
_COMPUTING: Final = ("processes", "hardware", "driver", "torch", "libraries")


def describe_provenance(data: RunData, processes: Processes, device: torch.device) -> dict[str, Any]:
    """Return what a checkpoint keeps of it: plain values."""
    return {
        _DATA: {
            name: {"sha256": digest_of(dataset.table), "images": len(dataset), "boxes": len(dataset.table.boxes)}
            for name, dataset in (("train", data.train), ("val", data.val))
        },
        "processes": processes.num_processes,
        "hardware": describe_device(device),
        "driver": describe_driver(device),
        "torch": str(torch.__version__),
        "libraries": ", ".join(f"{name} {version}" for name, version in _library_versions().items()),
    }


def describe_driver(device: torch.device) -> str:
    """Return the versions of a GPU's driver (on Linux), of CUDA and of cuDNN; "none" for a CPU."""
    if device.type != "cuda":
        return "none"
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        text = ""
    return f"driver {_driver_version(text)}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"


def _driver_version(text: str) -> str:
    """Return the version in what the driver's kernel module says of itself."""
    found = re.search(r"Module.*?\s(\d+\.\d[\d.]*)", text)
    return found[1] if found else "unknown"


def _library_versions() -> dict[str, str]:
    """Return those of the libraries that decide about pixels and operations beside torch."""
    return {
        "torchvision": str(torchvision.__version__),
        "OpenCV": cv2.__version__,
        "albumentations": metadata.version("albumentations"),
    }


def digest_of(table: AnnotationTable) -> str:
    """Return a SHA-256 of images and boxes as they are learnt; not of the pixels, and not of where the files lie."""
    digest = hashlib.sha256()
    names = table.file_names
    for tensor in (
        table.image_ids, table.sizes, table.boxes, table.labels, table.ignore, table.box_offsets,
        names.blob, names.offsets,
    ):  # fmt: skip
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def check_provenance(now: dict[str, Any], checkpoint: tuple[str, dict[str, Any]], *, allow_changes: bool) -> list[str]:
    """Compare with what a checkpoint keeps.

    Args:
        now: as :func:`describe_provenance` gives it.
        checkpoint: name and content of the checkpoint.
        allow_changes: go on with other data, too.

    Returns:
        Notes that name what changed.

    Raises:
        UserError: images or boxes are others than the run has learnt from or was scored on.
    """
    source, content = checkpoint
    before = content.get("provenance")
    if before is None:  # an older checkpoint
        return []
    differing = [
        f"data.{name}: {old['images']} images with {old['boxes']} boxes -> {new['images']} with {new['boxes']}"
        + (", of other content" if (old["images"], old["boxes"]) == (new["images"], new["boxes"]) else "")
        for name, new in now[_DATA].items()
        if (old := before[_DATA][name]) != new
    ]
    if differing and not allow_changes:
        raise UserError(
            f"{source}: --resume continues a run exactly, but its data is not what it was:\n"
            + "\n".join(f"  {line}" for line in differing)
            + "\nPut it back, or continue with it all the same by --allow-changes"
        )
    notes = [f"the run continues with other data: {'; '.join(differing)}"] if differing else []
    changed = [
        f"{key} {before[key]} -> {now[key]}"
        for key in _COMPUTING
        if key in before and before[key] != now[key]  # older checkpoints lack some
    ]
    if changed:
        notes.append(f"exact within rounding only, as what computes is another: {', '.join(changed)}")
    return notes
