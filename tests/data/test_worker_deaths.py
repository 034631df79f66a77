"""A loader process that is killed costs nothing but time."""

import logging
import os
import signal
import time
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from detector.data.loader import build_eval_loader
from detector.data.stages import StageClock
from detector.errors import ResourceError, UserError
from detector.structures import Sample
from tests.data.test_loader import FakeDataset, assert_same, config, train_loader


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch look after its processes more often than every five seconds."""
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.2,))


class DeadlyDataset(FakeDataset):
    """One of its images kills the process that reads it, a few times."""

    def __init__(self, folder: Path, deadly: int, times: int, number: int = signal.SIGKILL) -> None:
        super().__init__()
        self.folder, self.deadly, self.times, self.number = folder, deadly, times, number

    def read(self, index: int, clock: StageClock) -> Sample:
        if index == self.deadly and len(list(self.folder.iterdir())) < self.times:
            (self.folder / f"{time.monotonic_ns()}").touch()
            os.kill(os.getpid(), self.number)
            time.sleep(60)
        return super().read(index, clock)


@pytest.mark.parametrize(("num_workers", "times"), [(1, 1), (3, 2)])
def test_the_batches_are_those_of_a_loader_that_was_never_killed(
    num_workers: int, times: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = list(islice(train_loader(config(images_per_forward=2), FakeDataset()), 20))
    dataset = DeadlyDataset(tmp_path, deadly=expected[9].image_ids[0] - 100, times=times)
    with caplog.at_level(logging.WARNING):
        batches = list(islice(train_loader(config(images_per_forward=2, num_workers=num_workers), dataset), 20))
    for actual, same in zip(batches, expected, strict=True):
        assert_same(actual, same)
    assert len(caplog.records) == len(list(tmp_path.iterdir())) == times
    assert "was killed by SIGKILL, usually by the system or the batch system, because the memory ran out" in caplog.text
    assert "the loader is started again at the same batch" in caplog.text


def test_a_process_that_dies_before_the_first_batch_is_replaced_too(tmp_path: Path) -> None:
    (first,) = islice(train_loader(config(), FakeDataset()), 1)
    dataset = DeadlyDataset(tmp_path, deadly=first.image_ids[0] - 100, times=1)
    assert_same(next(iter(train_loader(config(num_workers=1), dataset))), first)


def test_an_evaluation_goes_on_and_the_next_one_begins_at_its_beginning(tmp_path: Path) -> None:
    options: dict[str, Any] = {"short_side": 48, "batch_size": 3}
    expected = list(build_eval_loader(config(), FakeDataset(), **options))
    dataset = DeadlyDataset(tmp_path, deadly=expected[3].image_ids[0] - 100, times=1)
    loader = build_eval_loader(config(num_workers=2), dataset, **options)
    for _ in range(2):
        for actual, same in zip(loader, expected, strict=True):
            assert_same(actual, same)


def test_a_process_that_dies_between_two_passes_is_named_and_replaced(caplog: pytest.LogCaptureFixture) -> None:
    expected = list(islice(train_loader(config(), FakeDataset()), 3))
    loader = train_loader(config(num_workers=2), FakeDataset())
    list(islice(loader, 3))
    idle = loader._loader._iterator
    assert isinstance(idle, _MultiProcessingDataLoaderIter)
    os.kill(idle._workers[0].pid, signal.SIGKILL)
    idle._workers[0].join()
    for actual, same in zip(islice(loader, 3), expected, strict=True):
        assert_same(actual, same)
    assert f"(pid {idle._workers[0].pid}) was killed by SIGKILL" in caplog.text


@pytest.mark.parametrize(
    ("number", "cause"), [(signal.SIGKILL, "SIGKILL, usually by"), (signal.SIGSEGV, "SIGSEGV, by a crash")]
)
def test_what_dies_at_the_same_batch_every_time_ends_the_run_with_a_remedy(
    number: int, cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detector.data.worker_deaths.MAX_IN_A_ROW", 1)
    (first,) = islice(train_loader(config(), FakeDataset()), 1)
    dataset = DeadlyDataset(tmp_path, deadly=first.image_ids[0] - 100, times=9, number=number)
    with pytest.raises(ResourceError, match=rf"was killed by {cause}.*, 2 times at the same batch\. .*num_workers"):
        next(iter(train_loader(config(num_workers=1), dataset)))


def test_the_training_process_is_not_interrupted_where_it_stands(tmp_path: Path) -> None:
    loader = iter(train_loader(config(num_workers=2), FakeDataset()))
    next(loader)
    assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL


def test_errors_of_a_worker_are_no_deaths() -> None:
    class Failing(FakeDataset):
        def read(self, index: int, clock: StageClock) -> Sample:
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        next(iter(train_loader(config(num_workers=1), Failing())))


def test_more_unreadable_images_than_allowed_stop_the_run(caplog: pytest.LogCaptureFixture) -> None:
    dataset = FakeDataset(unreadable=frozenset({1, 7, 12, 20}))
    loader = train_loader(config(on_unreadable="skip", max_unreadable=3), dataset)
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(UserError, match=r"data\.max_unreadable: more than 3 images cannot be read, the last because: "),
    ):
        list(islice(loader, 12))
    assert "(3 so far, at most data.max_unreadable = 3)" in caplog.text
    assert len(list(islice(train_loader(config(on_unreadable="skip", max_unreadable=4), dataset), 12))) == 12
