"""Which GPU a process takes, on a machine that only seems to have some."""

import pytest
import torch

from detector.engine.device import resolve_device
from detector.engine.processes import processes_from_environment
from detector.errors import UserError


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.usefixtures("two_gpus")
def test_each_process_takes_the_gpu_of_its_number() -> None:
    assert [resolve_device("auto", rank, 2) for rank in (0, 1)] == [torch.device("cuda", 0), torch.device("cuda", 1)]
    assert resolve_device("cpu", 7, 8) == torch.device("cpu")


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_all_processes_of_a_machine_see_that_they_are_more_than_its_gpus(
    rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {"RANK": 4 + rank, "WORLD_SIZE": 7, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": 3}  # as torchrun sets it
    for name, value in environment.items():
        monkeypatch.setenv(name, str(value))
    processes = processes_from_environment()
    with pytest.raises(UserError, match=r"^device: 3 processes on a machine with 2 GPU\(s\)"):
        resolve_device("cuda", processes.local_rank, processes.num_local)


def test_without_a_gpu_cuda_is_refused_and_auto_takes_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    with pytest.raises(UserError, match=r"^device: cuda was asked for, but torch finds no GPU"):
        resolve_device("cuda")
