"""What ``predict`` writes: detections as JSON, pictures and videos with boxes drawn on them."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from detector.cli.inputs import Frame
from detector.drawing import draw_detections
from detector.errors import UserError
from detector.structures import Categories, Detections

Picture = npt.NDArray[np.uint8]


class Detector(Protocol):
    """What is needed of a detector; :class:`detector.engine.inference.LoadedDetector` is one."""

    @property
    def categories(self) -> Categories:
        """Its classes."""
        ...

    def detect(self, images: Sequence[Picture], /) -> list[Detections]:
        """Return the detections of [H, W, 3] uint8 RGB images, on the CPU and in their own pixels."""
        ...


def detect_frames(detector: Detector, frames: Iterable[Frame], batch_size: int) -> Iterator[tuple[Frame, Detections]]:
    """Detect in up to ``batch_size`` frames at once, in order.

    Only neighbours of equal size share a forward pass: then none of them is padded for another's sake, and an image's
    detections do not depend on what lies beside it.
    """
    for _, same_size in groupby(frames, key=lambda frame: frame.image.shape):
        batch: list[Frame] = []
        for frame in same_size:
            batch.append(frame)
            if len(batch) == batch_size:
                yield from _detect_batch(detector, batch)
                batch = []
        if batch:
            yield from _detect_batch(detector, batch)


def _detect_batch(detector: Detector, batch: list[Frame]) -> Iterator[tuple[Frame, Detections]]:
    yield from zip(batch, detector.detect([frame.image for frame in batch]), strict=True)


def detection_records(detections: Detections, categories: Categories) -> list[dict[str, Any]]:
    """Return one JSON object per detection, best first.

    Each has ``box`` (xyxy in pixels of the original image, rounded to 1/1000 pixel), ``score`` (rounded to 6 decimals),
    ``label`` (the class's name) and ``category_id`` (its id in the annotation file that the detector learned from).
    """
    rows = zip(detections.boxes.tolist(), detections.scores.tolist(), detections.labels.tolist(), strict=True)
    return [
        {
            "box": [round(value, 3) for value in box],
            "score": round(score, 6),
            "label": categories.names[label],
            "category_id": categories.ids[label],
        }
        for box, score, label in rows
    ]


def to_json(key: dict[str, Any], frame: Frame, records: list[dict[str, Any]]) -> str:
    """Return one image's JSON object in one line: the key, ``width``, ``height`` and ``detections``."""
    height, width = frame.image.shape[:2]
    # In ASCII, because a file name need not be valid Unicode.
    return json.dumps({**key, "width": width, "height": height, "detections": records}, allow_nan=False)


def draw_frame(frame: Frame, detections: Detections, categories: Categories, score_thresh: float, zoom: int) -> Picture:
    """Draw the detections that reach the threshold on a copy of the frame's image."""
    keep = detections.scores >= score_thresh
    boxes, labels, scores = detections.boxes[keep], detections.labels[keep], detections.scores[keep]
    return draw_detections(frame.image, boxes.numpy(), labels.numpy(), scores.numpy(), categories.names, zoom=zoom)


def save_picture(path: Path, picture: Picture) -> None:
    """Write an image file in the format of its extension, whole or not at all; its folder is made.

    Raises:
        UserError: if it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        is_encoded, content = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    except cv2.error:
        is_encoded = False
    if not is_encoded:
        raise UserError(f"{path}: OpenCV cannot write {picture.shape[1]} x {picture.shape[0]} pixels in this format")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content.tobytes())
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):  # where the folder could not be made, there is no file in it either
            temporary.unlink()


class VideoFile:
    """Writes pictures to an MP4 file that appears when it is complete; the first picture gives the size."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp.mp4")
        self._fps = fps
        self._writer: cv2.VideoWriter | None = None

    def add(self, picture: Picture) -> None:
        """Append an [H, W, 3] uint8 RGB picture.

        Raises:
            UserError: if the file cannot be written.
        """
        if self._writer is None:
            size = (picture.shape[1], picture.shape[0])
            codec = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self._temporary), codec, self._fps, size)
            if not self._writer.isOpened():
                raise UserError(f"{self._path}: cannot be written: OpenCV has no MP4 encoder here, or the disk is full")
        self._writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))

    def close(self, *, complete: bool) -> None:
        """Give the file its name, or remove it if it is not complete.

        Raises:
            UserError: if it cannot have its name.
        """
        if self._writer is None:
            return
        self._writer.release()
        try:
            if complete:
                self._temporary.replace(self._path)
        except OSError as error:
            raise UserError(f"{self._path}: cannot be written: {error.strerror}") from error
        finally:
            self._temporary.unlink(missing_ok=True)


@contextmanager
def video_file(path: Path, fps: float) -> Iterator[VideoFile]:
    """Open a :class:`VideoFile`; it is kept only if the block ends without an error."""
    video = VideoFile(path, fps)
    complete = False
    try:
        yield video
        complete = True
    finally:
        video.close(complete=complete)
