"""Files of small datasets, written by hand for the tests of the readers."""

from pathlib import Path

import numpy as np
from PIL import Image


def write(path: Path, content: str | bytes = "") -> Path:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def write_image(path: Path, width: int = 20, height: int = 10) -> Path:
    """Write a black image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(path)
    return path


def voc_object(name: str = "cat", box: tuple[object, ...] = (1, 2, 3, 4), extra: str = "") -> str:
    """Return an <object> element; the box is (xmin, ymin, xmax, ymax)."""
    corners = "".join(
        f"<{tag}>{value}</{tag}>" for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<object><name>{name}</name>{extra}<bndbox>{corners}</bndbox></object>"


def voc_xml(*objects: str, size: str = "<size><width>20</width><height>10</height></size>", filename: str = "") -> str:
    """Return an annotation file."""
    name = f"<filename>{filename}</filename>" if filename else ""
    return f"<annotation>{name}{size}{''.join(objects)}</annotation>"


def write_voc(folder: Path, *names: str) -> Path:
    """Write a VOC dataset in which each image has one cat."""
    for name in names:
        write(folder / "Annotations" / f"{name}.xml", voc_xml(voc_object()))
        write_image(folder / "JPEGImages" / f"{name}.jpg")
    return folder
