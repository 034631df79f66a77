"""The watch over a run's input, for the machine that it runs on."""

import os

from detector.config import Config
from detector.telemetry.input_wait import InputWatch


def build_input_watch(config: Config) -> InputWatch:
    """Return the watch of this training process; the machine's cores are shared by all that torchrun started on it."""
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    num_local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return InputWatch(config.data.num_workers, max(1, num_cores // num_local))
