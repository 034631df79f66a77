"""How much memory a callable takes."""

import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


def peak_memory(function: Callable[[], object], device: torch.device) -> int:
    """Return the most bytes that a call holds at once, beyond what was held before it.

    On a GPU from the caching allocator. On a CPU from every allocation and release of torch's allocator, temporaries
    inside operators included, as its profiler records them; numpy's, OpenCV's and oneDNN's own buffers are not torch's.
    What is released of memory that is older than the call counts for nothing on a CPU, but on a GPU it makes room.

    Args:
        function: call it once before, so that what only a first call makes (optimiser state) is not counted.
        device: where it works.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        function()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    activities = [torch.profiler.ProfilerActivity.CPU]
    with _silent_kineto(), torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        function()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def peak_process_memory() -> int:
    """Return the most bytes of physical memory that this process ever had, shared ones included."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


@contextmanager
def _silent_kineto() -> Iterator[None]:
    """Keep the profiler from telling on stderr when it starts and that it found no GPU."""
    old = os.environ.get("KINETO_LOG_LEVEL")
    os.environ["KINETO_LOG_LEVEL"] = "99"
    try:
        yield
    finally:
        del os.environ["KINETO_LOG_LEVEL"]
        if old is not None:
            os.environ["KINETO_LOG_LEVEL"] = old
