"""Convert a dataset from one format to another."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from detector.data.annotations import complete_sizes
from detector.data.formats.content import DatasetContent, FormatName
from detector.data.formats.limits import NoBoxError, notes_on_classes, notes_on_ids
from detector.data.formats.output_folder import check_output, new_folder
from detector.data.formats.reading import DatasetSource, read_dataset
from detector.data.formats.shown_size import SIZELESS, check_turns_without_sizes
from detector.data.formats.writing import write_dataset
from detector.data.selection import hold_out, number_by
from detector.errors import UserError
from detector.structures import Categories


@dataclass(frozen=True, slots=True)
class Holdout:
    """How a split is divided in two, ``train`` and ``val``; see :func:`detector.data.selection.hold_out`."""

    fraction: float
    seed: int = 0
    group: str | None = None


@dataclass(frozen=True, slots=True)
class ConvertedSplit:
    """What was written of a split: counts, and a line for each thing that the format could not hold."""

    name: str
    num_images: int
    num_empty_images: int
    num_boxes: int
    num_ignored: int
    notes: Sequence[str]


@dataclass(frozen=True, slots=True)
class Conversion:
    """What was converted.

    Attributes:
        source: format that was read.
        target: format that was written.
        folder: where it is now.
        splits: at least one.
        class_names: the classes.
        notes: a line for each thing that becomes of them.
    """

    source: FormatName
    target: FormatName
    folder: Path
    splits: Sequence[ConvertedSplit]
    class_names: Sequence[str]
    notes: Sequence[str]


def convert(
    source: DatasetSource,
    target: FormatName,
    folder: Path,
    *,
    splits: Sequence[str] = (),
    holdout: Holdout | None = None,
    copy_images: bool = False,
    overwrite: bool = False,
) -> Conversion:
    """Convert a dataset, and make sure that it reads back as it was.

    Args:
        source: what to read; its ``split`` does not count.
        target: the format to write.
        folder: where to; there as a whole afterwards, or not at all.
        splits: the splits to convert, which keep their names; none = the only one or all images, as ``train``.
        holdout: divide what was read in ``train`` and ``val``; only with at most one split.
        copy_images: copy the images; else the new dataset holds links to them.
        overwrite: replace what an earlier conversion put into ``folder``.

    Raises:
        UserError: the dataset cannot be read or written; says why.
    """
    _check_splits(splits, holdout)
    check_output(folder, [source.path, *([source.images] if source.images else [])], overwrite=overwrite)
    wanted: Sequence[str | None] = splits or [None]
    contents = [read_dataset(replace(source, split=split)) for split in wanted]
    check_output(folder, [content.images_dir for content in contents], overwrite=overwrite)
    contents = [complete_sizes(content) for content in _with_same_classes(contents)]
    if target not in SIZELESS:
        for content in contents:
            check_turns_without_sizes(content, target)
    named = dict(zip(splits or ["train"], contents, strict=True))
    if holdout is not None:
        train, val = hold_out(contents[0], fraction=holdout.fraction, seed=holdout.seed, group=holdout.group)
        named = {"train": contents[0].select_images(train), "val": contents[0].select_images(val)}
    description: dict[str, object] = {"from": str(source.path.absolute()), "format": target, "splits": list(named)}
    try:
        with new_folder(folder, description) as work:
            written = write_dataset(work, target, named, copy_images=copy_images)
    except NoBoxError as error:
        raise error if holdout is None else UserError(f"{error}; choose another --seed or --holdout") from error
    counts = [_count(name, part.content, part.notes) for name, part in written.items()]
    fitted = {name: part.content for name, part in written.items()}
    notes = [*notes_on_classes(fitted, target), *notes_on_ids(fitted, target)]
    return Conversion(contents[0].format, target, folder, counts, contents[0].categories.names, notes)


def _check_splits(splits: Sequence[str], holdout: Holdout | None) -> None:
    if holdout is not None and len(splits) > 1:
        raise UserError(f"--holdout divides one split, found {len(splits)}: {', '.join(splits)}")
    if len(set(splits)) < len(splits):
        raise UserError(f"--split: {', '.join(splits)}: expected different names")
    for split in splits:
        if "/" in split or "\\" in split:
            raise UserError(
                f"--split: {split!r}: expected the name of a split, such as train, which becomes the name of files and "
                "so holds no slash"
            )


def _with_same_classes(contents: list[DatasetContent]) -> list[DatasetContent]:
    """Give all splits the same classes: those of any of them, for formats that have no list of classes."""
    first = contents[0]
    if first.format in ("voc", "csv"):
        names = sorted({name for content in contents for name in content.categories.names})
        categories = Categories(tuple(range(1, len(names) + 1)), tuple(names))
        return [number_by(content, categories) for content in contents]
    for content in contents:
        if content.categories != first.categories:
            raise UserError(f"{content.path} has other classes than {first.path}, expected the same ids and names")
    return contents


def _count(name: str, content: DatasetContent, notes: Sequence[str]) -> ConvertedSplit:
    return ConvertedSplit(
        name=name,
        num_images=content.num_images,
        num_empty_images=int((content.boxes_per_image() == 0).sum()),
        num_boxes=int((~content.is_ignored).sum()),
        num_ignored=int(content.is_ignored.sum()),
        notes=notes,
    )
