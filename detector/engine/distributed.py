"""One network in several processes, whose gradients are added in the same order at every step of a run."""

import inspect
from typing import Any, Final

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from detector.config import Config
from detector.engine.device import ResolvedPrecision
from detector.engine.forward import forward
from detector.engine.guard import BatchNormSnapshot
from detector.engine.processes import Processes
from detector.errors import UserError
from detector.models.build import resolve_backbone

PROBE_SIDE = 128
"""Side in pixels of the image of the probe: the coarsest stride, so that every level has a cell."""


_SYNC_BUFFERS: Final = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel.__init__).parameters
    else "broadcast_buffers"
)
"""Whether each forward pass sends buffers around; torch 2.14 gave it a new name."""


def check_sync_norm(config: Config, device: torch.device, processes: Processes) -> None:
    """Raise a UserError if batch norm is to be synchronised where it cannot be: torch does it between GPUs only."""
    norm, _ = resolve_backbone(config.model.backbone)
    if norm == "sync" and processes.num_processes > 1 and device.type != "cuda":
        raise UserError(
            f"model.backbone.norm: sync works on GPUs, and these {processes.num_processes} processes run on "
            f"{device.type}: use group, or batch with statistics of each process's own images"
        )


def share_network(model: nn.Module, processes: Processes, precision: ResolvedPrecision) -> nn.Module:
    """Return the network whose backward pass averages gradients over the processes; alone, the model itself."""
    if processes.num_processes == 1:
        return model
    # Buffers are the same everywhere (frozen, group, sync), or brought together before an evaluation (batch).
    options: dict[str, Any] = {_SYNC_BUFFERS: False}
    network = DistributedDataParallel(model, gradient_as_bucket_view=True, **options)
    _settle_buckets(network, model, precision)
    return network


def _settle_buckets(network: DistributedDataParallel, model: nn.Module, precision: ResolvedPrecision) -> None:
    """Bring the buckets of gradients to their final layout.

    DDP sums gradients bucket by bucket, and lays the buckets out anew after the first backward pass, in the order in
    which gradients became ready. Three or more numbers added up at another place of a bucket are added in another
    order: a run resumed at step k, whose first step is step k + 1, would differ from one that was never stopped. So the
    first backward pass is one that counts for nothing: of an empty image, the same at every start.
    """
    device = next(model.parameters()).device
    statistics = BatchNormSnapshot(model)
    statistics.take()
    was_training = model.training
    model.train()
    images = torch.zeros((1, PROBE_SIDE, PROBE_SIDE, 3), dtype=torch.uint8, device=device)
    sizes = torch.tensor([[PROBE_SIDE, PROBE_SIDE]], device=device)
    outputs = forward(network, images, sizes, precision)
    total = sum(part.float().sum() for part in (*outputs.cls_logits, *outputs.bbox_deltas))
    assert isinstance(total, torch.Tensor)
    total.backward()
    model.zero_grad(set_to_none=True)
    model.train(was_training)
    statistics.restore_unless(torch.tensor(False, device=device))
