"""What is looked at of the datasets before a run starts, and what is said of it."""

from dataclasses import dataclass

from detector.config import Config
from detector.data.opening import OpenSplit
from detector.inspect.anchor_summary import build_anchor_summary
from detector.inspect.doctor.start_up import format_start_up, start_up_findings
from detector.inspect.startup import check_decodable, check_files_present


@dataclass(frozen=True, slots=True)
class DatasetReport:
    """Lines about the datasets of a run: for its start-up report, and warnings."""

    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def check_datasets(config: Config, train: OpenSplit, val: OpenSplit) -> DatasetReport:
    """Check images and annotations as far as it takes seconds.

    Args:
        config: of the run.
        train: images to learn from.
        val: images to be scored on.

    Raises:
        UserError: image files are missing or cannot be read.
    """
    notes: list[str] = []
    for name, split in (("train", train), ("val", val)):
        present = check_files_present(split.dataset)
        may_skip = name == "train" and config.data.on_unreadable == "skip"
        decoded = check_decodable(split.dataset, seed=config.seed, skip_unreadable=may_skip)
        notes.append(f"{name}: {present}; {decoded}")
        if split.dataset.table.problems.num_changed:
            notes.append(f"{name}: {split.dataset.table.problems}")
    notes.append(build_anchor_summary(config, train.dataset.table))
    data = config.data
    findings = start_up_findings(train.content, val.content, short_side=max(data.short_side), max_side=data.max_side)
    return DatasetReport(tuple(notes), tuple(format_start_up(findings)))
