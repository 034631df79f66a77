"""Synchronised batch norm over two processes normalises as batch norm over the whole batch does."""

import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close

from detector.models.norm import NormName, make_norm_layer

pytestmark = pytest.mark.gpu

IMAGES = 6
SHARES = (2, 4)
"""Images of each process: unequal, so that a mean of the processes' means would be wrong."""


def network(norm: NormName) -> nn.Module:
    torch.manual_seed(3)
    layers = [nn.Conv2d(3, 8, 3, padding=1), make_norm_layer(norm)(8), nn.ReLU(), nn.Conv2d(8, 2, 3, padding=1)]
    return nn.Sequential(*layers).to("cuda:0")


def images() -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(IMAGES, 3, 16, 16, generator=generator).to("cuda:0")


def step(model: nn.Module, batch: Tensor, share: float) -> None:
    """Leave the gradients of the mean over all images, of which ``share`` are here."""
    (model(batch).square().mean() * share).backward()


def work(rank: int, port: int, folder: str) -> None:
    store = f"tcp://127.0.0.1:{port}"
    # Gloo, because NCCL wants a device a process.
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=len(SHARES))
    model = DistributedDataParallel(network("sync"))
    batch = images().split(SHARES)[rank]
    step(model, batch, len(SHARES) * len(batch) / IMAGES)  # DDP takes the mean over the processes
    state = model.module.state_dict() | {name: p.grad for name, p in model.module.named_parameters(prefix="grad")}
    torch.save({name: value.cpu() for name, value in state.items()}, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_normalise_by_the_statistics_of_all_images(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(work, args=(port, str(tmp_path)), nprocs=len(SHARES))
    alone = network("batch")
    step(alone, images(), 1.0)
    expected = alone.state_dict() | {name: p.grad for name, p in alone.named_parameters(prefix="grad")}
    for rank in range(len(SHARES)):
        actual = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert_close(actual, {name: value.cpu() for name, value in expected.items()}, rtol=1e-3, atol=1e-5)
