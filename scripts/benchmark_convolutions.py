"""3x3 convolutions on a CPU, forward and each gradient: direct in both memory formats, and by Winograd's algorithm.

    python scripts/benchmark_convolutions.py
    OMP_NUM_THREADS=1 python scripts/benchmark_convolutions.py --clock cpu

Rates are by the operations of the direct convolution, so that Winograd's, which needs fewer, may be beyond what the
hardware reaches. Whether ``convolution: auto`` should be winograd on a kind of CPU is seen here, and on a whole step in
benchmark_step.py (which has --direct).
"""

from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

import torch
from benchmarking import (
    Figure,
    describe_hardware,
    make_parser,
    print_table,
    time_in_turn,
    timing_options,
    write_figures,
)
from torch import Tensor

from detector.ops.winograd import transform_weight, winograd_conv2d


class Layer(NamedTuple):
    """A convolution with as many channels in as out.

    Attributes:
        images: N.
        channels: C.
        height: of input and output in pixels.
        width: of input and output in pixels.
    """

    images: int
    channels: int
    height: int
    width: int

    @property
    def flops(self) -> int:
        """Operations of the direct convolution; each of its gradients has as many."""
        return 2 * 9 * self.images * self.channels**2 * self.height * self.width

    def __str__(self) -> str:
        channels = f"{self.channels} → {self.channels} channels"
        return f"{channels}, {self.images} x {self.height} x {self.width}"


LAYERS: Final = (Layer(2, 256, 64, 64), Layer(8, 64, 64, 88))
"""Of the two settings of benchmark_step.py: the head on P3, and a layer of ResNet-18."""

FORMATS: Final = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
PASSES: Final = ("forward", "gradient of input", "gradient of weights")


def main() -> None:
    parser = make_parser(__doc__)
    parser.set_defaults(device="cpu")
    args = parser.parse_args()
    if args.device != "cpu":
        parser.error("these are a CPU's convolutions; a GPU's are cuDNN's")
    hardware = describe_hardware(torch.device("cpu"))
    print(hardware)
    rows, figures = [], []
    for layer in LAYERS:
        for name, calls in ways(layer).items():
            timings = time_in_turn(calls, device=torch.device("cpu"), **timing_options(args))
            rates = {key: layer.flops / timings[key].seconds(args.clock).median / 1e9 for key in PASSES}
            rows.append({"GFLOP/s": f"{layer}, {name}", **{key: f"{rate:.0f}" for key, rate in rates.items()}})
            figures += [Figure(f"{layer}, {name}: {key}", rate, unit="GFLOP/s") for key, rate in rates.items()]
    print_table(rows)
    if args.json:
        write_figures(args.json, figures, hardware)


def ways(layer: Layer) -> dict[str, dict[str, Callable[[], object]]]:
    """Return the three passes of a layer, for each way to compute them."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(layer.images, layer.channels, layer.height, layer.width, generator=generator)
    weight = torch.randn(layer.channels, layer.channels, 3, 3, generator=generator)
    grad = torch.randn(x.shape, generator=generator)
    found = {}
    for name, memory_format in FORMATS.items():
        tensors = (tensor.to(memory_format=memory_format) for tensor in (x, weight, grad))
        found[f"direct, {name}"] = _direct(*tensors)
    last = torch.channels_last
    found["winograd, channels last"] = _winograd(x.to(memory_format=last), weight, grad.to(memory_format=last))
    return found


def _direct(x: Tensor, weight: Tensor, grad: Tensor) -> dict[str, Callable[[], object]]:
    backward = partial(
        torch.ops.aten.convolution_backward, grad, x, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1
    )
    forward = partial(torch.nn.functional.conv2d, x, weight, padding=1)
    passes = (forward, lambda: backward([True, False, False]), lambda: backward([False, True, False]))
    return dict(zip(PASSES, passes, strict=True))


def _winograd(x: Tensor, weight: Tensor, grad: Tensor) -> dict[str, Callable[[], object]]:
    """Return the passes with the transform of the weights in each, as in a step that uses them once."""

    def forward() -> Tensor:
        with torch.no_grad():
            return winograd_conv2d(x, transform_weight(weight))

    # Graphs are retained, so that each call makes the backward pass alone.
    x_leaf, weight_leaf = x.clone().requires_grad_(), weight.clone().requires_grad_()
    of_input = winograd_conv2d(x_leaf, transform_weight(weight))
    of_weights = winograd_conv2d(x, transform_weight(weight_leaf))
    passes: tuple[Callable[[], object], ...] = (
        forward,
        lambda: torch.autograd.grad(of_input, x_leaf, grad, retain_graph=True),
        lambda: torch.autograd.grad(of_weights, weight_leaf, grad, retain_graph=True),
    )
    return dict(zip(PASSES, passes, strict=True))


if __name__ == "__main__":
    main()
