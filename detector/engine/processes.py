"""The processes of one run: alone, or started by ``torchrun``."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

TIMEOUT = timedelta(minutes=30)
"""How long a process waits for the others; scoring a large set on one of them takes minutes."""


@dataclass(frozen=True, slots=True)
class Processes:
    """Who this process is. Methods do nothing where it is alone.

    Attributes:
        rank: number of this process, 0 ... num_processes - 1.
        num_processes: of the run, over all machines.
        local_rank: number of this process on its machine.
        num_local: processes on its machine.
    """

    rank: int = 0
    num_processes: int = 1
    local_rank: int = 0
    num_local: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum of ``tensor`` over all processes; on a GPU without waiting for it."""
        if self.num_processes > 1:
            tensor = tensor.clone()
            dist.all_reduce(tensor)
        return tensor

    def any(self, flag: bool) -> bool:
        """Return whether ``flag`` is set in any process; without touching a GPU."""
        if self.num_processes == 1:
            return flag
        # On the CPU, and therefore by gloo, also where NCCL serves the GPUs: cheap enough for every step.
        number = torch.tensor(int(flag))
        dist.all_reduce(number, op=dist.ReduceOp.MAX)
        return bool(number)

    def gather_all(self, value: Any) -> list[Any]:
        """Return every process's ``value`` in the order of ranks, in every process."""
        if self.num_processes == 1:
            return [value]
        values: list[Any] = [None] * self.num_processes
        dist.all_gather_object(values, value)
        return values

    def gather(self, value: Any) -> list[Any] | None:
        """Return every process's ``value`` in the order of ranks on the main process, None on the others."""
        if self.num_processes == 1:
            return [value]
        values: list[Any] | None = [None] * self.num_processes if self.is_main else None
        dist.gather_object(value, values)
        return values

    def broadcast(self, value: Any) -> Any:
        """Return the main process's ``value`` everywhere."""
        if self.num_processes == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def copy_from_main(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors with those of the main process."""
        if self.num_processes > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def close(self) -> None:
        """Leave the process group."""
        if self.num_processes > 1 and dist.is_initialized():
            dist.destroy_process_group()


@contextlib.contextmanager
def leaving_processes() -> Iterator[None]:
    """Leave the process group in the end, whatever has happened, if it was joined in between."""
    try:
        yield
    finally:
        processes_from_environment().close()


def processes_from_environment() -> Processes:
    """Return who ``torchrun`` says this process is; alone without it."""
    return Processes(
        rank=int(os.environ.get("RANK", "0")),
        num_processes=int(os.environ.get("WORLD_SIZE", "1")),
        local_rank=int(os.environ.get("LOCAL_RANK", "0")),
        num_local=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
    )


def join_processes(processes: Processes, device: torch.device) -> None:
    """Meet the other processes: NCCL between GPUs (gloo for what lies on the CPU), gloo else."""
    if processes.num_processes > 1 and not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        store, rank, size = next(dist.rendezvous("env://", timeout=TIMEOUT))  # type: ignore[attr-defined]
        # torchrun keeps its store when it starts processes again: without names of their own they would find the
        # addresses of those that are gone, and wait for them (gloo; seen with torch 2.14).
        prefix = f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        store = dist.PrefixStore(prefix, store)  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
