"""The run folder: who may write into it, and what is put there at the start."""

import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import detector
from detector.errors import UserError

CHECKPOINTS = "checkpoints"
NONFINITE = "nonfinite"
"""Folder of the write-ups of steps that were not finite."""
ENVIRONMENT = "environment.json"
_OURS = ("config.yaml", ENVIRONMENT, "metrics.jsonl", CHECKPOINTS, NONFINITE)
_PACKAGES = ("torch", "torchvision", "albumentations", "opencv-python-headless", "numpy", "pycocotools", "pydantic")


def check_run_folder(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """See that the user wants to write into this folder, and that it can be done; change nothing.

    Args:
        folder: ``output_dir``; it need not exist.
        resume: the run in it is to be continued.
        overwrite: the run in it is to be removed.

    Raises:
        UserError: if it holds something and neither is asked for, both are, or it cannot be written.
    """
    if resume and overwrite:
        raise UserError("--resume continues the run in output_dir and --overwrite removes it: give one of them")
    try:
        entries = sorted(path.name for path in folder.iterdir())
    except FileNotFoundError:
        entries = []
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"output_dir: {folder} cannot be used as a folder: {reason}") from error
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"output_dir: {folder} cannot be written: {existing} is no folder that you may write to")
    if entries and not resume and not overwrite:
        raise UserError(
            f"output_dir: {folder} is not empty (it holds {', '.join(entries[:4])}{', …' if entries[4:] else ''}). "
            "Continue that run with --resume, choose another output_dir=FOLDER, or remove that run with --overwrite"
        )


def open_run_folder(
    folder: Path,
    *,
    overwrite: bool,
    config_yaml: str,
    seed: int,
    hardware: str,
    num_processes: int = 1,
    start_step: int = 0,
) -> None:
    """Make the run folder and write ``config.yaml`` (resolved; it reproduces the run) and ``environment.json``.

    Where a run goes on, the environments of its earlier starts stay in ``environment.json`` under ``earlier``.

    Args:
        folder: ``output_dir``.
        overwrite: remove the run in it first; files that no run writes stay.
        config_yaml: the resolved configuration.
        seed: of the run.
        hardware: as :func:`detector.engine.device.describe_device` names it.
        num_processes: of the run.
        start_step: optimiser steps already done.

    Raises:
        UserError: if it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if overwrite:
            _remove_run(folder)
        _replace_text(folder / "config.yaml", config_yaml)
        environment = _describe_environment(seed, hardware) | {"processes": num_processes, "start_step": start_step}
        if start_step > 0:
            environment["earlier"] = _earlier_environments(folder / ENVIRONMENT)
        _replace_text(folder / ENVIRONMENT, json.dumps(environment, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"output_dir: {folder} cannot be written: {error.strerror or error}") from error


def _replace_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all: a kill in between leaves the old one."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _earlier_environments(path: Path) -> list[dict[str, Any]]:
    """Return the environments in which a run was started before, the first one first."""
    try:
        last = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # of an unknown start
        return []
    return [*last.pop("earlier", []), last] if isinstance(last, dict) else []


def discard_unstarted_run(folder: Path) -> None:
    """Remove what the start of a run wrote if nothing else has come to it, so that it can be started again as it was.

    For a run that fails over the user's input before its first row and its first checkpoint.
    """
    metrics = folder / "metrics.jsonl"
    with contextlib.suppress(OSError):  # the error to be told is the one that ended the run
        if not (folder / CHECKPOINTS).exists() and metrics.stat().st_size == 0:
            _remove_run(folder)


def _remove_run(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name in _OURS or path.name.startswith("events.out.tfevents."):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _describe_environment(seed: int, hardware: str) -> dict[str, Any]:
    return {
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
