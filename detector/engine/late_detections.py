"""Detections of each batch one batch late: the host makes them while the device computes the next one's outputs."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from detector.postprocess import Candidates, Postprocess
from detector.structures import Batch, Detections, HeadOutputs


@dataclass(frozen=True, slots=True)
class _OnTheWay:
    """A batch on the host with its candidates, which are there when ``ready`` is; None: they are."""

    batch: Batch
    candidates: Candidates
    ready: "torch.cuda.Event | None"


def late_detections(
    batches: Iterable[tuple[Batch, HeadOutputs, Tensor]], postprocess: Postprocess
) -> Iterator[tuple[Batch, list[Detections]]]:
    """Yield the batches, in order, with their detections.

    The candidates of a batch are copied to page-locked memory without waiting, and looked at when the next batch has
    been launched. So a GPU is never idle while the host thresholds and suppresses; that the host does the latter is
    quick (a few milliseconds an image) and gives the same boxes on every device.

    Args:
        batches: batches as the loader gives them, with raw outputs and anchors on the device.
        postprocess: outputs to detections.

    Returns:
        The same batches with detections on the CPU.
    """
    previous = None
    for batch, outputs, anchors in batches:
        current = _send(batch, postprocess.select(outputs, anchors))
        if previous is not None:
            yield _finish(previous, postprocess)
        previous = current
    if previous is not None:
        yield _finish(previous, postprocess)


def _send(batch: Batch, candidates: Candidates) -> _OnTheWay:
    if not candidates.scores.is_cuda:
        return _OnTheWay(batch, candidates, None)
    on_host = Candidates(*map(_pinned_copy, (candidates.scores, candidates.labels, candidates.boxes)))
    ready = torch.cuda.Event()
    ready.record()
    return _OnTheWay(batch, on_host, ready)


def _pinned_copy(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)


def _finish(sent: _OnTheWay, postprocess: Postprocess) -> tuple[Batch, list[Detections]]:
    if sent.ready is not None:
        sent.ready.synchronize()
    sizes = [(height, width) for height, width in sent.batch.sizes.tolist()]
    return sent.batch, postprocess.detect(sent.candidates, sizes, sent.batch.original_sizes)
