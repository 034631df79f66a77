"""Read the splits to check: those of a configuration, or those of a bare dataset."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from detector.config import DataConfig
from detector.data.formats.content import DatasetContent
from detector.data.formats.reading import DatasetSource, read_dataset
from detector.data.opening import read_train, read_val
from detector.data.selection import hold_out, select_classes
from detector.errors import UserError
from detector.inspect.doctor.finding import Finding
from detector.inspect.doctor.split import Split


@dataclass(frozen=True, slots=True)
class OpenedSplits:
    """What is to be checked.

    Attributes:
        splits: as training and scoring see them, the one that is learnt from first.
        datasets: as they are written, whole: what ``--fix`` mends. With held-out images there is one.
        findings: what could not be read.
    """

    splits: tuple[Split, ...]
    datasets: tuple[Split, ...]
    findings: tuple[Finding, ...]


def build_splits(data: DataConfig, num_examples: int) -> OpenedSplits:
    """Read the splits of a configuration, with its classes and its held-out images.

    ``data.fraction`` and ``data.empty_images`` are not applied: all images that may be used are checked.

    Args:
        data: where they lie.
        num_examples: how many examples a finding names.

    Raises:
        UserError: ``data.classes`` or ``data.holdout`` do not suit the dataset.
    """
    readers: dict[str, Callable[[], DatasetContent]] = {"train": lambda: read_train(data)}
    if data.val is not None:
        readers["val"] = lambda: read_val(data)
    datasets, findings = _read(readers, num_examples)
    splits = list(datasets)
    if data.holdout is not None and datasets:
        rule = data.holdout
        kept, held_out = hold_out(datasets[0].content, fraction=rule.fraction, seed=rule.seed, group=rule.group)
        splits = [
            replace(split, name=name, is_scored=name == "val", content=split.content.select_images(rows))
            for split, name, rows in ((datasets[0], "train", kept), (datasets[0], "val", held_out))
        ]
    if data.classes is not None:
        for number, split in enumerate(splits):
            # Only train must have them all, as in training.
            chosen = (
                select_classes(split.content, data.classes)
                if split.name == "train"
                else (split.content.select_classes(data.classes))
            )
            splits[number] = replace(split, content=chosen)
    return OpenedSplits(tuple(splits), tuple(datasets), tuple(findings))


def open_bare(sources: Sequence[DatasetSource], num_examples: int) -> OpenedSplits:
    """Read splits of a dataset without a configuration.

    Args:
        sources: where they lie; named by their ``split``. The first is the one that is learnt from.
        num_examples: how many examples a finding names.
    """
    readers = {source.split or "data": _reader(source) for source in sources}
    datasets, findings = _read(readers, num_examples)
    return OpenedSplits(tuple(datasets), tuple(datasets), tuple(findings))


def _reader(source: DatasetSource) -> Callable[[], DatasetContent]:
    return lambda: read_dataset(source)


def _read(readers: dict[str, Callable[[], DatasetContent]], num_examples: int) -> tuple[list[Split], list[Finding]]:
    """Read what can be read; a dataset that cannot is a finding, so that the others are checked all the same."""
    splits, findings = [], []
    for number, (name, read) in enumerate(readers.items()):
        try:
            splits.append(Split(name, read(), is_scored=number > 0, num_examples=num_examples))
        except UserError as error:
            findings.append(
                Finding("unreadable-dataset", "error", name, str(error), 1, "nothing else of it could be checked")
            )
    return splits, findings
