import atexit
import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from detector.data import worker_exit
from tests.data.test_loader import FakeDataset, config, train_loader

HOLDS_A_LOADER = """
from tests.data.test_loader import FakeDataset, config, train_loader

loader = train_loader(config(num_workers=2), FakeDataset())
batches = iter(loader)
next(batches)
print("done", flush=True)
"""


FORKS = """
import os
from tests.data.test_loader import FakeDataset, config, train_loader

batches = iter(train_loader(config(num_workers=1), FakeDataset()))
next(batches)
child = os.fork()
if not child:
    next(iter(train_loader(config(num_workers=1), FakeDataset())))
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
for _ in range(4):
    next(batches)
print("done", flush=True)
"""


@pytest.mark.slow  # it imports everything anew
@pytest.mark.parametrize("script", [HOLDS_A_LOADER, FORKS], ids=["holds a loader in a global name", "forks"])
def test_a_script_ends(script: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (result.stdout, result.stderr, result.returncode) == ("done\n", "", 0)


def test_processes_are_taken_care_of_once_and_for_no_longer_than_their_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    registered: list[tuple[Any, ...]] = []
    monkeypatch.setattr(atexit, "register", lambda *call: registered.append(call))
    loader = train_loader(config(num_workers=1), FakeDataset())
    for _ in range(2):
        batches = iter(loader)
        next(batches)
    ((end, reference, owner),) = registered
    processes = reference()._workers
    end(reference, owner + 1)  # in a fork of the program
    assert all(process.is_alive() for process in processes)
    end(reference, owner)
    assert not any(process.is_alive() for process in processes)
    del batches, loader
    assert reference() is None
    end(reference, owner)


def test_a_loader_that_the_garbage_collector_frees_ends_its_processes() -> None:
    loader = train_loader(config(num_workers=1), FakeDataset())
    next(iter(loader))
    stream: Any = loader._loader._iterator
    (process,) = stream._workers
    stream.cycle = [stream]  # as the traceback of an error makes one
    del loader, stream
    gc.collect()
    assert process.exitcode == 0
    next(iter(train_loader(config(num_workers=1), FakeDataset())))
    assert all(process not in processes for _, processes, _ in worker_exit._KEPT)  # nor is it kept for ever


def test_those_that_a_dead_one_leaves_behind_end_too(monkeypatch: pytest.MonkeyPatch) -> None:
    registered: list[tuple[Any, ...]] = []
    monkeypatch.setattr(atexit, "register", lambda *call: registered.append(call))
    batches = iter(train_loader(config(num_workers=2), FakeDataset()))
    next(batches)
    ((end, reference, owner),) = registered
    processes = reference()._workers
    processes[0].kill()
    processes[0].join()
    end(reference, owner)
    assert not any(process.is_alive() for process in processes)


def test_a_loader_without_processes_needs_no_care(monkeypatch: pytest.MonkeyPatch) -> None:
    registered: list[tuple[Any, ...]] = []
    monkeypatch.setattr(atexit, "register", lambda *call: registered.append(call))
    next(iter(train_loader(config(num_workers=0), FakeDataset())))
    assert not registered
