"""How much a callable computes."""

from collections.abc import Callable

from torch.utils.flop_counter import FlopCounterMode


def count_flops(function: Callable[[], object]) -> int:
    """Return the floating point operations of the convolutions and matrix products of a call, backward included.

    Two for a multiplication with its addition, as torch's counter has it. Elementwise work counts for nothing, nor does
    what a compiler or a Triton kernel does: count the eager form of the same work.
    """
    counter = FlopCounterMode(display=False)
    with counter:
        function()
    return int(counter.get_total_flops())
