"""The data of a run: opened, checked before it starts, and what is said of it."""

from dataclasses import dataclass

from pycocotools.coco import COCO

from detector.config import Config
from detector.data.dataset import DetectionDataset
from detector.data.opening import OpenSplit, open_train_and_val
from detector.data.pixel_cache import cache_bytes
from detector.data.repeat_factors import RepeatFactors, build_repeat_factors, describe_repeat_factors
from detector.engine.cached_images import cache_images, check_cache_fits
from detector.engine.processes import Processes
from detector.evaluation.ground_truth import ground_truth_of
from detector.inspect.anchor_summary import build_anchor_summary
from detector.inspect.doctor.start_up import format_start_up, start_up_findings
from detector.inspect.startup import check_decodable, check_files_present


@dataclass(frozen=True, slots=True)
class RunData:
    """What a run learns from and is scored on.

    Attributes:
        train: images to learn from.
        val: images to be scored on.
        ground_truth: of ``val``, as it is written.
        repeats: which training images are repeated; None = each is dealt once an epoch.
        notes: lines for the start-up report; on the main process.
        warnings: what may spoil the run; likewise.
    """

    train: DetectionDataset
    val: DetectionDataset
    ground_truth: COCO
    repeats: RepeatFactors | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def images_per_epoch(self) -> int:
        """Images that one epoch deals; more than there are where some are repeated."""
        return len(self.train) if self.repeats is None else self.repeats.images_per_epoch


def open_run_data(config: Config, processes: Processes) -> RunData:
    """Open the data of a run, and check on the main process as much of it as takes seconds.

    Raises:
        UserError: a dataset is missing or wrong, or its images are missing or cannot be read.
    """
    train, val = open_train_and_val(config.data, config.seed)
    datasets = (train.dataset, val.dataset)
    if config.data.cache == "ram" and processes.is_main:
        # Before anything that takes time: other processes of the machine begin to fill their caches meanwhile.
        check_cache_fits(datasets)
    notes: list[str] = []
    warnings: list[str] = []
    if processes.is_main:
        notes, warnings = _check_images(config, train, val), _check_annotations(config, train, val)
        notes.append(build_anchor_summary(config, train.dataset.table))
    repeats = build_repeat_factors(config.data, train.dataset.table)
    if repeats is not None:
        notes.append(describe_repeat_factors(repeats, train.dataset.categories))
    if config.data.cache == "ram":
        datasets = (cache_images(train.dataset), cache_images(val.dataset))
        num_bytes = sum(cache_bytes(dataset.sizes) for dataset in datasets)
        notes.append(f"data.cache: {num_bytes / 1e9:.2f} GB of decoded images in memory")
    return RunData(*datasets, ground_truth_of(val), repeats, tuple(notes), tuple(warnings))


def _check_images(config: Config, train: OpenSplit, val: OpenSplit) -> list[str]:
    """Look whether all files are there, decode a sample, and say what was done to the boxes."""
    notes = []
    for name, split in (("train", train), ("val", val)):
        may_skip = name == "train" and config.data.on_unreadable == "skip"
        present = check_files_present(split.dataset, max_missing=config.data.max_unreadable if may_skip else 0)
        decoded = check_decodable(split.dataset, seed=config.seed, skip_unreadable=may_skip)
        notes.append(f"{name}: {present}; {decoded}")
        if split.dataset.table.problems.num_changed:
            notes.append(f"{name}: {split.dataset.table.problems}")
    return notes


def _check_annotations(config: Config, train: OpenSplit, val: OpenSplit) -> list[str]:
    data = config.data
    findings = start_up_findings(train.content, val.content, short_side=max(data.short_side), max_side=data.max_side)
    return format_start_up(findings)
