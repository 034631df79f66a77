"""What a run may change where it goes on, and what would make it another run."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from detector.config import Config
from detector.config_io import flatten_config
from detector.engine.resume import saved_config
from detector.engine.schedule import build_schedule
from detector.errors import UserError

FREE_KEYS: Final = frozenset({
    "output_dir", "log_every", "device", "time_limit", "data.num_workers", "data.cache", "data.max_unreadable",
    "data.train.path", "data.train.annotations", "data.train.images",
    "data.val.path", "data.val.annotations", "data.val.images",
    "eval.every", "eval.batch_size", "eval.num_pictures", "eval.scorer", "eval.background",
    "eval.loss_profile_every", "checkpoint.every", "checkpoint.keep",
})  # fmt: skip
"""Keys that change no number of a step or a score. Data may lie elsewhere: its content is compared, not its path."""

LENGTH_KEYS: Final = frozenset({"schedule.max_steps", "schedule.epochs"})


@dataclass(frozen=True, slots=True)
class Change:
    """A value that is another one than the run had.

    Attributes:
        key: dotted.
        before: as YAML; empty where there was none.
        after: likewise.
    """

    key: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.key} {self.before or 'nothing'} -> {self.after or 'nothing'}"


def compare_configs(before: Config, after: Config) -> list[Change]:
    """Return every value that differs, by key, in the order of the schema."""
    old, new = flatten_config(before), flatten_config(after)
    return [Change(key, old.get(key, ""), new.get(key, "")) for key in {**old, **new} if old.get(key) != new.get(key)]


def check_changes(
    config: Config, checkpoint: tuple[str, dict[str, Any]], num_images: int, *, allow_changes: bool
) -> list[str]:
    """Compare the configuration of a run that goes on with the one it had.

    A longer schedule is always allowed, and so is a change of the learning rate of steps that are still to come: the
    run is then the one that had the new values from its start.

    Args:
        config: with numbers in place of auto.
        checkpoint: name and content of the checkpoint.
        num_images: images of one epoch.
        allow_changes: go on in any case.

    Returns:
        Notes that name what changed.

    Raises:
        UserError: a value differs that the steps done have depended on, naming each.
    """
    source, content = checkpoint
    before = saved_config(checkpoint)
    changes = [change for change in compare_configs(before, config) if change.key not in FREE_KEYS]
    # With `auto` it is this program's choice, made anew on another number of processes, which has a note of its own.
    changes = [change for change in changes if (change.key, change.after) != ("data.images_per_forward", "auto")]
    schedule = [change for change in changes if change.key.startswith("schedule.")]
    if _keeps_course(before, config, num_images, content["step"]) or _only_grows(schedule):
        breaking = [change for change in changes if change not in schedule]
    else:
        breaking = changes
    if breaking and not allow_changes:
        raise UserError(
            f"{source}: --resume continues a run exactly, but these values differ from those it had:\n"
            + "\n".join(f"  {change}" for change in breaking)
            + "\nSet them back, continue with them all the same by --allow-changes, or start a new run from the "
            f"weights with --init-from {source} and another output_dir"
        )
    notes = [f"the run continues with other values than it began with: {_join(breaking)}"] if breaking else []
    rest = [change for change in schedule if change not in breaking]
    if rest:
        notes.append(f"the schedule is another one from here on: {_join(rest)}")
    return notes


def _only_grows(changes: Iterable[Change]) -> bool:
    """Return whether a schedule is longer than it was, and nothing else."""
    return all(
        change.key in LENGTH_KEYS and "null" not in (change.before, change.after)
        and float(change.after) > float(change.before)
        for change in changes
    )  # fmt: skip


def _keeps_course(before: Config, after: Config, num_images: int, num_steps: int) -> bool:
    """Return whether the steps done would have had the same learning rate."""
    old, _ = build_schedule(before.schedule, num_images, before.data.batch_size)
    new, _ = build_schedule(after.schedule, num_images, after.data.batch_size)
    return all(old.factor(step) == new.factor(step) for step in range(num_steps))


def _join(changes: Iterable[Change]) -> str:
    return ", ".join(map(str, changes))
