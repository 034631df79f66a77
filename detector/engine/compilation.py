"""Network and losses as compiled graphs (``compile`` of the configuration): fewer and larger kernels, after minutes.

A graph is made for every padded shape; the configuration wants ``data.buckets`` for it, which bounds their number. The
model itself stays as it is, so that checkpoints, evaluation and the moving average know nothing of it.
"""

import warnings
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

import torch
from torch import Tensor, nn

from detector.criterion import Criterion, Losses
from detector.errors import UserError
from detector.structures import AnchorTargets, HeadOutputs

CompileName = Literal["off", "model", "step"]

ComputeLosses: TypeAlias = Callable[[HeadOutputs, AnchorTargets, Tensor, Tensor], Losses]

BACKEND: Final = "inductor"
"""torch's compiler that writes kernels: Triton on a GPU, C++ (which needs a compiler on the machine) on a CPU."""


def check_compilation(name: CompileName, device: torch.device, *, cuda_graphs: bool) -> None:
    """Refuse what a device cannot do.

    Raises:
        UserError: for CUDA graphs without CUDA.
    """
    if cuda_graphs and device.type != "cuda":
        raise UserError(
            f"cuda_graphs: needs a GPU, but the run is on {device.type}; use cuda_graphs=false"
            f"{'' if name == 'off' else f' (compile={name} works without)'}"
        )


def compile_network(model: nn.Module, name: CompileName, *, cuda_graphs: bool = False) -> nn.Module:
    """Return a network that runs the model's parameters through compiled graphs; with "off" the model itself.

    Args:
        model: whose parameters, names and mode stay its own.
        name: of the configuration.
        cuda_graphs: replay each graph's kernels in one launch. torch records them after warm-up on a stream of its own,
            with inputs copied to fixed places; :func:`begin_step` tells it that outputs may be overwritten.
    """
    if name == "off":
        return model
    mode = "reduce-overhead" if cuda_graphs else None
    return torch.compile(model, backend=BACKEND, dynamic=False, mode=mode)  # type: ignore[return-value]


def compile_losses(criterion: Criterion, name: CompileName) -> ComputeLosses | None:
    """Return the criterion as a compiled graph with "step"; else None.

    The assignment stays outside: its shapes follow the most objects of an image, which no bucket bounds.
    """
    if name != "step":
        return None
    compiled = torch.compile(criterion, backend=BACKEND, dynamic=False)

    def compute(outputs: HeadOutputs, targets: AnchorTargets, anchors: Tensor, normalizer: Tensor) -> Losses:
        with warnings.catch_warnings():
            # torch looks whether its inputs have gradients, and warns of its own look.
            warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf")
            losses: Losses = compiled(outputs, targets, anchors, normalizer)
        return losses

    return compute


def begin_step(num_forwards: int, *, cuda_graphs: bool) -> None:
    """Tell recorded graphs that what they returned before is no longer needed.

    Raises:
        UserError: for several forward passes a step: the second would overwrite the gradients of the first.
    """
    if not cuda_graphs:
        return
    if num_forwards > 1:
        raise UserError(
            f"cuda_graphs: a step must be one forward pass, found {num_forwards}; raise "
            "data.images_per_forward or lower data.batch_size"
        )
    torch.compiler.cudagraph_mark_step_begin()
