"""Write a dataset in Pascal VOC format: ``Annotations``, ``JPEGImages`` and ``ImageSets/Main/<split>.txt``.

The numbers are the inverse of those in :mod:`detector.data.formats.voc`: whole ones where the boxes are whole pixels.
"""

import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from detector.data.formats.by_image import ImageBoxes, iterate_images
from detector.data.formats.content import UNKNOWN_SIZE, DatasetContent
from detector.data.formats.image_files import normalize, stem
from detector.data.formats.numbers import shortest


def write_voc(folder: Path, splits: Mapping[str, DatasetContent]) -> dict[str, list[str]]:
    """Write the annotations of a dataset; ignore regions become ``difficult``.

    Where two splits have an image of the same name, all images lie in folders with the names of the splits. An XML
    file has the name of its image without the extension, or with it where another image has that name.

    Args:
        folder: an empty folder.
        splits: what to write, by the names of the splits; see :mod:`detector.data.formats.limits` for what they hold.

    Returns:
        Where each image of each split belongs, relative to ``folder``.
    """
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    names = {split: [normalize(name) for name in content.file_names] for split, content in splits.items()}
    if len({name for part in names.values() for name in part}) < sum(map(len, names.values())):
        names = {split: [f"{split}/{name}" for name in part] for split, part in names.items()}
    ids = _ids_of([name for part in names.values() for name in part])
    for parent in dict.fromkeys(posixpath.dirname(name) for name in ids):
        (folder / "Annotations" / parent).mkdir(parents=True, exist_ok=True)
    for split, content in splits.items():
        lines = [f"{ids[name]}\n" for name in names[split]]
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(lines), encoding="utf-8")
        classes = [_text(name) for name in content.categories.names]
        for name, found, size in zip(names[split], iterate_images(content), content.sizes.tolist(), strict=True):
            text = "".join(_document(name, found, size, classes))
            (folder / "Annotations" / f"{ids[name]}.xml").write_text(text, encoding="utf-8", newline="\n")
    return {split: [f"JPEGImages/{name}" for name in part] for split, part in names.items()}


def _ids_of(names: Sequence[str]) -> dict[str, str]:
    """Return an id for each name: what is left without the extension, or something that no other name is like."""
    counts = Counter(map(stem, names))
    ids: dict[str, str] = {}
    used: set[str] = set()
    for name in names:
        own = stem(name)
        if counts[own] > 1:
            own = name
            while own in counts or own in used:
                own += "_"
        used.add(own)
        ids[name] = own
    return ids


def _document(name: str, found: ImageBoxes, size: tuple[int, int], classes: Sequence[str]) -> Iterator[str]:
    folder = posixpath.join("JPEGImages", posixpath.dirname(name)).rstrip("/")
    yield f"<annotation>\n\t<folder>{_text(folder)}</folder>\n"
    yield f"\t<filename>{_text(posixpath.basename(name))}</filename>\n"
    height, width = size
    if UNKNOWN_SIZE not in size:
        yield f"\t<size>\n\t\t<width>{width}</width>\n\t\t<height>{height}</height>\n\t\t<depth>3</depth>\n\t</size>\n"
    for box, label, is_ignored in zip(*found, strict=True):
        yield f"\t<object>\n\t\t<name>{classes[label]}</name>\n\t\t<difficult>{int(is_ignored)}</difficult>\n"
        corners = zip(("xmin", "ymin", "xmax", "ymax"), _corners(*box), strict=True)
        tags = "".join(f"\t\t\t<{tag}>{shortest(value)}</{tag}>\n" for tag, value in corners)
        yield f"\t\t<bndbox>\n{tags}\t\t</bndbox>\n\t</object>\n"
    yield "</annotation>\n"


def _corners(x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
    """Return the first and the last pixels, counted from 1; see :mod:`detector.data.formats.voc`."""
    return x + 1, y + 1, _last(x, width), _last(y, height)


def _last(start: float, extent: float) -> float:
    return start + extent if extent > 0 else start + 1 + extent


def _text(text: str) -> str:
    return escape(text, {"\r": "&#13;"})  # XML takes a carriage return for a line feed
