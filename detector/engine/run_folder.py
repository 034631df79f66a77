"""The run folder: who may write into it, and what is put there at the start."""

import json
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import torch

import detector
from detector.errors import UserError

CHECKPOINTS = "checkpoints"
_OURS = ("config.yaml", "environment.json", "metrics.jsonl", CHECKPOINTS)
_PACKAGES = ("torch", "torchvision", "albumentations", "opencv-python-headless", "numpy", "pycocotools", "pydantic")


def prepare_run_folder(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Make the run folder, or see that the user wants to write into the one that is there.

    Args:
        folder: ``output_dir``.
        resume: the run in it is to be continued.
        overwrite: the run in it is to be removed; files that no run writes stay.

    Raises:
        UserError: if it holds something and neither is asked for, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        entries = sorted(path.name for path in folder.iterdir())
        if not entries or resume:
            return
        if not overwrite:
            raise UserError(
                f"output_dir: {folder} is not empty (it holds {', '.join(entries[:4])}{', …' if entries[4:] else ''}). "
                "Continue that run with --resume, choose another output_dir=FOLDER, or remove that run with --overwrite"
            )
        for path in folder.iterdir():
            if path.name in _OURS or path.name.startswith("events.out.tfevents."):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    except OSError as error:
        raise UserError(f"output_dir: {folder} cannot be written: {error.strerror}") from error


def write_run_files(folder: Path, *, config_yaml: str, seed: int, hardware: str) -> None:
    """Write ``config.yaml`` (resolved; it reproduces the run) and ``environment.json``."""
    (folder / "config.yaml").write_text(config_yaml, encoding="utf-8")
    environment = {
        "version": detector.__version__,
        "git_commit": _git("rev-parse", "HEAD"),
        "git_changes": _git("status", "--porcelain", "--untracked-files=no"),
        "command": sys.argv,
        "seed": seed,
        "python": platform.python_version(),
        "system": platform.platform(),
        "hardware": hardware,
        "packages": {name: _package_version(name) for name in _PACKAGES},
        "cuda": torch.version.cuda,
    }
    (folder / "environment.json").write_text(json.dumps(environment, indent=2) + "\n", encoding="utf-8")


def _git(*arguments: str) -> str | None:
    """Return what git says of this program's checkout; None where it is installed without one."""
    folder = Path(detector.__file__).parent
    try:
        result = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def _package_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
