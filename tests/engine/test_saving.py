from types import SimpleNamespace
from typing import cast

import pytest

from detector.engine.run import Run
from detector.engine.saving import RunSaver
from detector.errors import UserError


def run_of_another_process(heard: str, asked: list[str]) -> Run:
    """Return what a saver looks at of a run, in a process that is not the main one and hears ``heard`` from it."""

    def broadcast(own: str) -> str:
        asked.append(own)
        return heard

    processes = SimpleNamespace(is_main=False, broadcast=broadcast)
    return cast(Run, SimpleNamespace(processes=processes, state=SimpleNamespace(best_ap=None, best_step=0)))


def test_a_process_that_does_not_write_waits_for_the_one_that_does() -> None:
    asked: list[str] = []
    with RunSaver(run_of_another_process("", asked)) as saver:
        saver.require_saved()
    assert asked == [""]


def test_all_processes_learn_that_the_last_checkpoint_could_not_be_written() -> None:
    run = run_of_another_process("step-4.pt: the checkpoint cannot be written: no room", [])
    with (
        RunSaver(run) as saver,
        pytest.raises(UserError, match="cannot be written: no room; the run ends here without it"),
    ):
        saver.require_saved()
