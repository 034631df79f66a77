"""What a run may change where it goes on."""

from pathlib import Path
from typing import Any

import pytest

from detector.config import Config
from detector.config_io import dump_config, flatten_config
from detector.engine.config_changes import FREE_KEYS, check_changes
from detector.engine.resume import find_resume
from detector.errors import UserError
from tests.engine.tiny import tiny_config

NUM_IMAGES = 8


def saved(config: Config, step: int) -> tuple[str, dict[str, Any]]:
    return "step.pt", {"config": dump_config(config), "step": step}


def changed(tmp_path: Path, *overrides: str) -> Config:
    return tiny_config(tmp_path, *overrides)[0]


def notes_of(tmp_path: Path, before: Config, *overrides: str, step: int = 2, allow: bool = False) -> list[str]:
    after = changed(tmp_path, *overrides)
    return check_changes(after, saved(before, step), NUM_IMAGES, allow_changes=allow)


@pytest.fixture
def before(tmp_path: Path) -> Config:
    return changed(tmp_path)


def test_free_keys_are_keys_of_the_schema(before: Config) -> None:
    known = {*flatten_config(before), "data.train.path", "data.val.path"}
    assert known >= FREE_KEYS


@pytest.mark.parametrize(
    "override",
    ["log_every=3", "data.num_workers=2", "checkpoint.every=9", "eval.every=2", "time_limit=3h", "output_dir=else",
     "data.train.images=elsewhere", "data.max_unreadable=500"],
)  # fmt: skip
def test_what_changes_no_number_may_change(tmp_path: Path, before: Config, override: str) -> None:
    assert notes_of(tmp_path, before, override) == []


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("optimizer.lr=0.004", r"optimizer\.lr 0\.005 -> 0\.004"),
        ("seed=1", "seed 0 -> 1"),
        ("data.augment=[]", r"data\.augment \[.*HorizontalFlip.*\] -> \[\]"),
        ("eval.nms_thresh=0.6", r"eval\.nms_thresh 0\.5 -> 0\.6"),
        ("schedule.warmup_steps=2", r"schedule\.warmup_steps 1 -> 2"),
    ],
)
def test_what_the_steps_done_depended_on_is_an_error_unless_allowed(
    tmp_path: Path, before: Config, override: str, expected: str
) -> None:
    with pytest.raises(UserError, match=rf"differ from those it had:\n  {expected}\n.*--allow-changes.*--init-from"):
        notes_of(tmp_path, before, override)
    (note,) = notes_of(tmp_path, before, override, allow=True)
    assert note.startswith("the run continues with other values than it began with: ")


def test_what_auto_is_on_other_processes_is_no_change_of_the_users(tmp_path: Path) -> None:
    before = changed(tmp_path, "data.images_per_forward=2")
    assert notes_of(tmp_path, before, "data.images_per_forward=auto") == []
    with pytest.raises(UserError, match=r"data\.images_per_forward 2 -> 1"):
        notes_of(tmp_path, before, "data.images_per_forward=1")


def test_every_difference_is_named(tmp_path: Path, before: Config) -> None:
    with pytest.raises(UserError, match=r"  seed 0 -> 1\n  ema\.decay null -> 0\.9\n"):
        notes_of(tmp_path, before, "seed=1", "ema.decay=0.9", "log_every=7")


@pytest.mark.parametrize("override", ["schedule.max_steps=9", "schedule.milestones=[2]", "schedule.max_steps=3"])
def test_the_steps_to_come_may_be_others(tmp_path: Path, before: Config, override: str) -> None:
    (note,) = notes_of(tmp_path, before, override)
    assert note.startswith(f"the schedule is another one from here on: {override.split('=')[0]} ")


def test_a_milestone_among_the_steps_done_may_not_move(tmp_path: Path, before: Config) -> None:
    with pytest.raises(UserError, match=r"schedule\.milestones \[3\] -> \[1\]"):
        notes_of(tmp_path, before, "schedule.milestones=[1]")


def test_a_longer_cosine_is_allowed_and_named_but_not_a_shorter_one(tmp_path: Path) -> None:
    cosine = ("schedule.name=cosine", "schedule.milestones=[]")
    before = changed(tmp_path, *cosine)
    (note,) = notes_of(tmp_path, before, *cosine, "schedule.max_steps=9")
    assert "schedule.max_steps 4 -> 9" in note
    with pytest.raises(UserError, match=r"schedule\.max_steps 4 -> 3"):
        notes_of(tmp_path, before, *cosine, "schedule.max_steps=3", step=3)


def test_a_checkpoint_and_weights_to_begin_with_are_not_given_together(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give one of them"):
        find_resume(tmp_path, "step.pt", Path("other.pt"))
    found, (note,) = find_resume(tmp_path, "auto", Path("other.pt"))
    assert found is None
    assert "starting from step 0" in note


def test_a_checkpoint_of_elsewhere_does_not_take_over_a_run(tmp_path: Path) -> None:
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match=r"holds a run already, whose later rows and checkpoints would be given up"):
        find_resume(tmp_path / "run", str(tmp_path / "other/checkpoints/last.pt"))
