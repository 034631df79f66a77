"""``data.cache``: the decoded images of a run in memory, if they fit."""

import os
from collections.abc import Sequence
from typing import Final

from detector.data.dataset import DetectionDataset
from detector.data.pixel_cache import PixelCache, cache_bytes
from detector.errors import UserError

MEMORY_SHARE: Final = 0.8
"""Share of the available memory that decoded images may take: training needs some, too."""


def check_cache_fits(datasets: Sequence[DetectionDataset]) -> None:
    """Refuse a cache that does not fit; each training process of a machine has one of its own.

    Raises:
        UserError: with the memory that is needed and that is there.
    """
    from detector.engine.benchmark.host_memory import available_memory  # its package imports the run, which needs us

    num_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    needed = num_processes * sum(cache_bytes(dataset.sizes) for dataset in datasets)
    available = available_memory()
    if available is not None and needed > MEMORY_SHARE * available:
        raise UserError(
            f"data.cache: ram needs {needed / 1e9:.1f} GB for the decoded images of {num_processes} training "
            f"process(es) of this machine, and {available / 1e9:.1f} GB are available, of which it takes "
            f"{MEMORY_SHARE:.0%} at most; use data.cache=none, or store the images smaller"
        )


def cache_images(dataset: DetectionDataset) -> DetectionDataset:
    """Return the dataset with all of its images decoded in memory."""
    cache = PixelCache(dataset.sizes)
    cache.fill(lambda index: dataset[index].image)
    return DetectionDataset(dataset.table, dataset.images_dir, cache)
