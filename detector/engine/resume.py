"""Which checkpoint a run continues from, and with which other values."""

from pathlib import Path
from typing import Any

from detector.config import Config
from detector.config_io import load_config_text
from detector.engine.checkpoint import find_newest_checkpoint, load_checkpoint
from detector.engine.checkpoint_content import check_content
from detector.engine.processes import Processes
from detector.engine.recipe import resolve_recipe
from detector.engine.run_folder import CHECKPOINTS
from detector.errors import UserError
from detector.telemetry import METRICS_FILE


def agree_on_checkpoint(
    processes: Processes, output_dir: Path, resume: str | None, init_from: Path | None
) -> tuple[tuple[str, dict[str, Any]] | None, list[str]]:
    """Return what :func:`find_resume` finds on the main process, in every process.

    Raises:
        UserError: see :func:`find_resume`; or another process cannot read the main one's checkpoint: they need a file
            system in common.
    """
    found, notes = find_resume(output_dir, resume, init_from) if processes.is_main else (None, [])
    path = processes.broadcast(None if found is None else found[0])
    if path is not None and found is None:
        found = path, load_checkpoint(Path(path))
    return found, notes


def find_resume(
    output_dir: Path, resume: str | None, init_from: Path | None = None
) -> tuple[tuple[str, dict[str, Any]] | None, list[str]]:
    """Return the checkpoint to continue from, if any.

    Args:
        output_dir: run folder.
        resume: None, "auto" (newest intact checkpoint of the run folder) or a checkpoint file.
        init_from: checkpoint that a new run begins with; where a run is continued it has done so already.

    Returns:
        Name and content of the checkpoint, and notes: what is damaged, where it continues.

    Raises:
        UserError: if the file is not readable, is no checkpoint of the run in the run folder, or none there is intact.
    """
    if resume is None:
        return None, []
    if resume != "auto":
        if init_from is not None:
            raise UserError(
                "--resume CHECKPOINT continues a run with all of its state, --init-from starts a new one from weights "
                "alone: give one of them (a bare --resume may stand beside --init-from: it starts the run that is not "
                "there yet)"
            )
        _check_own(Path(resume), output_dir)
        content = load_checkpoint(Path(resume))
        if "optimizer" not in content:
            raise UserError(
                f"--resume {resume}: weights alone, without the state of a training run. A new run begins with them by "
                f"--init-from {resume}"
            )
        check_content(content, resume)
        return (resume, content), [f"resumed from {resume}"]
    found, problems = find_newest_checkpoint(output_dir / CHECKPOINTS)
    if found is None and problems:
        raise UserError(
            "\n".join(["--resume: no checkpoint is intact, and a fresh start would remove the run", *problems])
        )
    if found is None:
        return None, [f"--resume: no checkpoint in {output_dir / CHECKPOINTS}; starting from step 0"]
    notes = [f"{problem}; the one before is used" for problem in problems]
    path, content = found
    check_content(content, str(path))
    notes.append(f"resumed from {path}")
    if init_from is not None:
        notes.append(f"--init-from {init_from} is not read again: the run has begun from it")
    return (str(path), content), notes


def _check_own(checkpoint: Path, output_dir: Path) -> None:
    """See that the run in the run folder, if there is one, is the one that the checkpoint is of.

    Its rows and checkpoints after the checkpoint's step are about to be removed.
    """
    folder = output_dir / CHECKPOINTS
    is_used = (output_dir / METRICS_FILE).exists() or folder.exists()
    if is_used and checkpoint.resolve().parent != folder.resolve():
        raise UserError(
            f"--resume {checkpoint}: not in {folder}, and {output_dir} holds a run already, whose later rows and "
            "checkpoints would be given up. Copy the checkpoint to that folder if it is of that run, or choose another "
            "output_dir=FOLDER"
        )


def settle_recipe(
    config: Config,
    num_images: int,
    num_processes: int,
    checkpoint: tuple[str, dict[str, Any]] | None,
    *,
    is_initialised: bool,
) -> tuple[Config, list[str]]:
    """Return the configuration with numbers in place of ``auto``, and notes: the reasons.

    Args:
        config: of the run.
        num_images: images of one epoch.
        num_processes: of the run.
        checkpoint: what the run continues from: what it had in place of ``auto`` stays.
        is_initialised: whether a new run begins with the weights of another one.
    """
    if checkpoint is not None:
        return keep_resolved(config, checkpoint, num_processes), []
    return resolve_recipe(config, num_images, is_pretrained=is_initialised or config.model.backbone.pretrained)


def keep_resolved(config: Config, checkpoint: tuple[str, dict[str, Any]], num_processes: int) -> Config:
    """Put what a run had in place of ``auto`` at its start there again.

    On another number of processes ``data.images_per_forward`` stays ``auto``: a process's share is another one.
    """
    saved = saved_config(checkpoint)
    optimizer = {"lr": saved.optimizer.lr} if config.optimizer.lr == "auto" else {}
    names = ("max_steps", "warmup_steps")
    schedule = {name: getattr(saved.schedule, name) for name in names if getattr(config.schedule, name) == "auto"}
    if "max_steps" in schedule:  # the run may have been given in epochs
        schedule["epochs"] = saved.schedule.epochs
    data = {}
    if config.data.images_per_forward == "auto" and has_processes(checkpoint, num_processes):
        # A number where the share of a process did not fit into the memory.
        data = {"images_per_forward": saved.data.images_per_forward}
    return config.model_copy(
        update={
            "data": config.data.model_copy(update=data),
            "optimizer": config.optimizer.model_copy(update=optimizer),
            "schedule": config.schedule.model_copy(update=schedule),
        }
    )


def has_processes(checkpoint: tuple[str, dict[str, Any]], num_processes: int) -> bool:
    """Return whether a checkpoint is of a run of so many processes; older ones do not say, and count as such."""
    provenance = checkpoint[1].get("provenance") or {}
    return bool(provenance.get("processes", num_processes) == num_processes)


def saved_config(checkpoint: tuple[str, dict[str, Any]]) -> Config:
    """Return the configuration that a checkpoint holds."""
    source, content = checkpoint
    return load_config_text(content["config"], source)
