"""Which checkpoint a run continues from, and with which other values."""

from pathlib import Path
from typing import Any

from detector.config import Config
from detector.config_io import flatten_config, load_config_text
from detector.engine.checkpoint import find_newest_checkpoint, load_checkpoint
from detector.engine.recipe import resolve_recipe
from detector.engine.run_folder import CHECKPOINTS
from detector.errors import UserError

_MAY_CHANGE = ("output_dir ", "log_every ", "device ", "data.num_workers ", "eval.", "checkpoint.")
"""Keys that change no number of the training."""


def find_resume(output_dir: Path, resume: str | None) -> tuple[tuple[str, dict[str, Any]] | None, list[str]]:
    """Return the checkpoint to continue from, if any.

    Args:
        output_dir: run folder.
        resume: None, "auto" (newest intact checkpoint of the run folder) or a checkpoint file.

    Returns:
        Name and content of the checkpoint, and notes: what is damaged, where it continues.

    Raises:
        UserError: if the file is not readable, or no checkpoint of the run folder is intact.
    """
    if resume is None:
        return None, []
    if resume != "auto":
        content = load_checkpoint(Path(resume))
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
    notes.append(f"resumed from {path}")
    return (str(path), content), notes


def settle_recipe(
    config: Config, num_images: int, checkpoint: tuple[str, dict[str, Any]] | None, *, is_initialised: bool
) -> tuple[Config, list[str]]:
    """Return the configuration with numbers in place of ``auto``, and notes: the reasons, or what changed since.

    Args:
        config: of the run.
        num_images: images of one epoch.
        checkpoint: what the run continues from: what it had in place of ``auto`` stays.
        is_initialised: whether a new run begins with the weights of another one.
    """
    if checkpoint is not None:
        config = keep_resolved(config, checkpoint)
        return config, describe_changes(config, checkpoint)
    return resolve_recipe(config, num_images, is_pretrained=is_initialised or config.model.backbone.pretrained)


def keep_resolved(config: Config, checkpoint: tuple[str, dict[str, Any]]) -> Config:
    """Put what a run had in place of ``auto`` at its start there again."""
    saved = _saved_config(checkpoint)
    optimizer = {"lr": saved.optimizer.lr} if config.optimizer.lr == "auto" else {}
    names = ("max_steps", "warmup_steps")
    schedule = {name: getattr(saved.schedule, name) for name in names if getattr(config.schedule, name) == "auto"}
    if "max_steps" in schedule:  # the run may have been given in epochs
        schedule["epochs"] = saved.schedule.epochs
    data = {}
    if config.data.images_per_forward == "auto":  # a number where the share of a process did not fit into the memory
        data = {"images_per_forward": saved.data.images_per_forward}
    return config.model_copy(
        update={
            "data": config.data.model_copy(update=data),
            "optimizer": config.optimizer.model_copy(update=optimizer),
            "schedule": config.schedule.model_copy(update=schedule),
        }
    )


def describe_changes(config: Config, checkpoint: tuple[str, dict[str, Any]]) -> list[str]:
    """Return a note if a run continues with other values than it began with."""
    before, after = flatten_config(_saved_config(checkpoint)), flatten_config(config)
    changed = [f"{key} {before[key]} -> {after[key]}" for key in after if before.get(key) != after[key]]
    changed = [change for change in changed if not change.startswith(_MAY_CHANGE)]
    return [f"the run continues with other values than it began with: {', '.join(changed)}"] if changed else []


def _saved_config(checkpoint: tuple[str, dict[str, Any]]) -> Config:
    source, content = checkpoint
    return load_config_text(content["config"], source)
