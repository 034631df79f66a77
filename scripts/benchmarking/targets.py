"""Which figures must be reached, on a CPU and on a GPU: the only place of targets."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Bound:
    """A limit of a figure, and the side of it that is good."""

    limit: float
    is_minimum: bool

    def is_met_by(self, value: float) -> bool:
        """Return whether a figure keeps to it."""
        return value >= self.limit if self.is_minimum else value <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.is_minimum else '≤'} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Target:
    """A figure that must be reached.

    Attributes:
        key: of the figure.
        what: in words.
        unit: of the value; ``x`` = a ratio.
        script: file under ``scripts`` that measures it.
        cpu: what must be reached on a CPU; None = nothing.
        cuda: what must be reached on an H100; None = nothing.
    """

    key: str
    what: str
    unit: str
    script: str
    cpu: Bound | None = None
    cuda: Bound | None = None

    def on(self, device: str) -> Bound | None:
        """Return what must be reached on ``cpu`` or ``cuda``."""
        return self.cuda if device == "cuda" else self.cpu


def _at_least(limit: float) -> Bound:
    return Bound(limit, is_minimum=True)


def _at_most(limit: float) -> Bound:
    return Bound(limit, is_minimum=False)


_LOSS, _ASSIGN, _STEP = "benchmark_loss.py", "benchmark_assign.py", "benchmark_step.py"
_LOADER, _INFERENCE, _EVALUATION = "benchmark_loader.py", "benchmark_inference.py", "benchmark_evaluation.py"
_CHECKPOINT = "benchmark_checkpoint.py"

_ALL: Final = (
    Target(
        "loss.speedup.fp32",
        "focal loss, forward and backward, 2 × 100k × 80, fp32, against torchvision's",
        "x",
        _LOSS,
        _at_least(6),
        _at_least(15),
    ),
    Target(
        "loss.speedup.bf16",
        "the same in bf16",
        "x",
        _LOSS,
        _at_least(6),
        _at_least(15),
    ),
    Target(
        "loss.of_memory_floor",
        "time of the focal loss over that of reading the logits and writing the gradient at the copy rate",
        "x",
        _LOSS,
        None,
        _at_most(1.5),
    ),
    Target(
        "loss.extra_memory",
        "peak memory of the focal loss beyond the logits, over the logits'",
        "x",
        _LOSS,
        _at_most(1.1),
        _at_most(1.1),
    ),
    Target(
        "loss.growth.anchors",
        "focal loss: time per anchor at 4 times the anchors, over that at once",
        "x",
        _LOSS,
        _at_most(1.2),
        _at_most(1.2),
    ),
    Target(
        "loss.growth.boxes",
        "loss: time with 100 boxes an image over that with 10 (10 is linear)",
        "x",
        _LOSS,
        _at_most(10),
        _at_most(10),
    ),
    Target(
        "loss.growth.boxes_over_torchvision",
        "loss: that growth over torchvision's",
        "x",
        _LOSS,
        _at_most(1),
        _at_most(1),
    ),
    Target(
        "assign.speedup",
        "assignment, 16 images × 200k anchors × 20 boxes, default path, against torchvision's loop",
        "x",
        _ASSIGN,
        _at_least(4),
        _at_least(10),
    ),
    Target(
        "assign.growth.anchors",
        "assignment: time per anchor at 4 times the anchors, over that at once",
        "x",
        _ASSIGN,
        _at_most(1.2),
        _at_most(1.2),
    ),
    Target(
        "assign.growth.boxes",
        "assignment: time with 100 boxes an image over that with 10 (10 is linear)",
        "x",
        _ASSIGN,
        _at_most(10),
        _at_most(10),
    ),
    Target(
        "assign.growth.boxes_over_torchvision",
        "assignment: that growth over torchvision's",
        "x",
        _ASSIGN,
        _at_most(1),
        _at_most(1),
    ),
    Target(
        "step.blocking_reads",
        "blocking reads (item, nonzero, boolean index) of a step that is not a log step",
        "",
        _STEP,
        _at_most(0),
        _at_most(0),
    ),
    Target(
        "step.loss_and_assign_kernels",
        "kernels of loss and assignment in a step, from the profiler",
        "",
        _STEP,
        None,
        _at_most(60),
    ),
    Target(
        "step.speedup.fp32",
        "training step R50-FPN, fp32, against torchvision's",
        "x",
        _STEP,
        _at_least(1.15),
    ),
    Target(
        "step.speedup.bf16",
        "training step R50-FPN, bf16, against torchvision's",
        "x",
        _STEP,
        _at_least(1.15),
        _at_least(2),
    ),
    Target(
        "step.images_per_second",
        "training R50-FPN at 16 × 800 × 1344 in bf16",
        "images/s",
        _STEP,
        None,
        _at_least(240),
    ),
    Target(
        "step.of_matmul",
        "floating point operations a second of that step, over those of a matrix product in bf16",
        "x",
        _STEP,
        None,
        _at_least(0.4),
    ),
    Target(
        "loader.images_per_cpu_second",
        "loading: images per processor second, all processes counted, 800/1333",
        "images/s",
        _LOADER,
        _at_least(220),
        _at_least(220),
    ),
    Target(
        "inference.speedup.fp32",
        "inference R50, 800 pixels, fp32, against torchvision's",
        "x",
        _INFERENCE,
        _at_least(1.3),
        _at_least(1.5),
    ),
    Target(
        "inference.speedup.bf16",
        "inference R50, 800 pixels, bf16, against torchvision's",
        "x",
        _INFERENCE,
        _at_least(1.3),
        _at_least(1.5),
    ),
    Target(
        "evaluation.speedup.hotcoco",
        "COCO scoring of 5k images and 500k detections with hotcoco, against pycocotools",
        "x",
        _EVALUATION,
        _at_least(20),
    ),
    Target(
        "checkpoint.share",
        "time that saving every 100 steps adds to a run",
        "%",
        _CHECKPOINT,
        _at_most(5),
        _at_most(5),
    ),
)

TARGETS: Final = {target.key: target for target in _ALL}
"""Targets by key, in the order of the table that ``gpu_check.sh`` writes."""
