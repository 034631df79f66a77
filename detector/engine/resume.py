"""Which checkpoint a run continues from, and with which other values."""

from pathlib import Path
from typing import Any

from detector.config import Config
from detector.config_io import flatten_config, load_config_text
from detector.engine.checkpoint import find_newest_checkpoint, load_checkpoint
from detector.engine.run_folder import CHECKPOINTS
from detector.errors import UserError

_MAY_CHANGE = ("output_dir ", "log_every ", "device ", "data.num_workers ", "eval.", "checkpoint.")
"""Keys that change no number of the training."""


def find_resume(
    output_dir: Path, resume: str | None, config: Config
) -> tuple[tuple[str, dict[str, Any]] | None, list[str]]:
    """Return the checkpoint to continue from, if any.

    Args:
        output_dir: run folder.
        resume: None, "auto" (newest intact checkpoint of the run folder) or a checkpoint file.
        config: of the run that is to continue.

    Returns:
        Name and content of the checkpoint, and notes: what is damaged, where it continues, which values differ.

    Raises:
        UserError: if the file is not readable, or no checkpoint of the run folder is intact.
    """
    if resume is None:
        return None, []
    if resume != "auto":
        content = load_checkpoint(Path(resume))
        return (resume, content), [f"resumed from {resume}", *_describe_changes(content["config"], resume, config)]
    found, problems = find_newest_checkpoint(output_dir / CHECKPOINTS)
    if found is None and problems:
        raise UserError(
            "\n".join(["--resume: no checkpoint is intact, and a fresh start would remove the run", *problems])
        )
    if found is None:
        return None, [f"--resume: no checkpoint in {output_dir / CHECKPOINTS}; starting from step 0"]
    notes = [f"{problem}; the one before is used" for problem in problems]
    path, content = found
    notes += [f"resumed from {path}", *_describe_changes(content["config"], str(path), config)]
    return (str(path), content), notes


def _describe_changes(old_yaml: str, source: str, config: Config) -> list[str]:
    """Return a note if a run continues with other values than it began with."""
    before, after = flatten_config(load_config_text(old_yaml, source)), flatten_config(config)
    changed = [f"{key} {before[key]} -> {after[key]}" for key in after if before.get(key) != after[key]]
    changed = [change for change in changed if not change.startswith(_MAY_CHANGE)]
    return [f"the run continues with other values than it began with: {', '.join(changed)}"] if changed else []
