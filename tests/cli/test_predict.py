import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from detector.cli.predict import main
from detector.errors import UserError
from detector.structures import Categories, Detections

Picture = npt.NDArray[np.uint8]


class FakeDetector:
    """Finds the bright box of :func:`scene` in every image, and a weak one that covers the whole image."""

    categories = Categories(ids=(3, 18), names=("person", "Köter"))

    def __init__(self) -> None:
        self.batches: list[list[tuple[int, ...]]] = []

    def detect(self, images: Sequence[Picture]) -> list[Detections]:
        assert len({image.shape for image in images}) == 1
        self.batches.append([image.shape for image in images])
        return [self._detect(image) for image in images]

    def _detect(self, image: Picture) -> Detections:
        rows, columns = np.nonzero(image.min(axis=2) > 200)
        if rows.size == 0:
            return Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        whole = [0, 0, image.shape[1], image.shape[0]]
        return Detections(
            boxes=torch.tensor(np.array([found, whole]), dtype=torch.float32),
            scores=torch.tensor([0.875, 0.125]),
            labels=torch.tensor([1, 0]),
        )


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> FakeDetector:
    fake = FakeDetector()
    module = ModuleType("detector.engine.inference")
    module.load_detector = lambda *_, **options: fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "detector.engine.inference", module)
    return fake


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "best.pt"
    path.write_bytes(b"not looked at")
    return path


def scene(height: int = 120, width: int = 160, x: int = 40) -> Picture:
    """A dark image with a bright box at (x, 50, x + 30, 90)."""
    image = np.full((height, width, 3), (80, 60, 30), dtype=np.uint8)
    image[50:90, x : x + 30] = (250, 230, 210)
    return image


def save(path: Path, image: Picture) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1])
    return path


def save_video(path: Path, num_frames: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (160, 120))
    assert writer.isOpened()
    for index in range(num_frames):
        writer.write(scene(x=20 + 10 * index)[..., ::-1].copy())
    writer.release()
    return path


def predict(checkpoint: Path, source: Path, output: Path, *options: str) -> int:
    return main(["--checkpoint", str(checkpoint), "--input", str(source), "--output", str(output), *options])


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_an_image_gives_a_list_of_one_and_its_picture(
    detector: FakeDetector, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = save(tmp_path / "photo.png", scene()), tmp_path / "out"
    before = source.read_bytes()
    assert predict(checkpoint, source, output) == 0
    assert read(output / "predictions.json") == [
        {
            "file": "photo.png",
            "width": 160,
            "height": 120,
            "detections": [
                {"box": [40.0, 50.0, 70.0, 90.0], "score": 0.875, "label": "Köter", "category_id": 18},
                {"box": [0.0, 0.0, 160.0, 120.0], "score": 0.125, "label": "person", "category_id": 3},
            ],
        }
    ]
    assert files(output) == ["photo.png", "predictions.json"]
    assert source.read_bytes() == before
    picture = cv2.imread(str(output / "photo.png"))[..., ::-1]
    assert picture.shape == (120, 160, 3)
    assert (picture != scene()).any()
    np.testing.assert_array_equal(picture[60:80, 50:60], scene()[60:80, 50:60])
    np.testing.assert_array_equal(picture[-1], scene()[-1])  # the weak detection is not drawn
    assert "2 detections in 1 images" in capsys.readouterr().out


def test_the_threshold_chooses_what_is_drawn_and_not_what_is_written(
    detector: FakeDetector, checkpoint: Path, tmp_path: Path
) -> None:
    source = save(tmp_path / "photo.png", scene())
    for threshold in ("0", "0.3", "1"):
        assert predict(checkpoint, source, tmp_path / threshold, "--score-thresh", threshold) == 0
    records = [read(tmp_path / threshold / "predictions.json") for threshold in ("0", "0.3", "1")]
    assert records[0] == records[1] == records[2]
    changed = [(cv2.imread(str(tmp_path / t / "photo.png"))[..., ::-1] != scene()).sum() for t in ("0", "0.3", "1")]
    assert changed[0] > changed[1] > changed[2] == 0


def test_a_folder_keeps_its_subfolders_and_is_read_in_sorted_order(
    detector: FakeDetector, checkpoint: Path, tmp_path: Path
) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    for name in ("b.jpg", "a.PNG", "deep/er/c.webp", ".hidden/d.png", "deep/._c.webp"):
        save(folder / name, scene())
    (folder / "notes.txt").write_text("no image")
    assert predict(checkpoint, folder, output) == 0
    names = ["a.PNG", "b.jpg", "deep/er/c.webp"]
    assert [entry["file"] for entry in read(output / "predictions.json")] == names
    assert files(output) == sorted([*names, "predictions.json"])
    assert files(tmp_path / "in") == sorted([*names, ".hidden/d.png", "deep/._c.webp", "notes.txt"])


def test_only_images_of_equal_size_share_a_batch(detector: FakeDetector, checkpoint: Path, tmp_path: Path) -> None:
    for index, width in enumerate((160, 160, 160, 200, 160)):
        save(tmp_path / "in" / f"{index}.png", scene(width=width))
    assert predict(checkpoint, tmp_path / "in", tmp_path / "out", "--batch-size", "2") == 0
    assert [len(batch) for batch in detector.batches] == [2, 1, 1, 1]
    assert [entry["width"] for entry in read(tmp_path / "out/predictions.json")] == [160, 160, 160, 200, 160]


def test_an_image_without_detections_is_written_with_an_empty_list(
    detector: FakeDetector, checkpoint: Path, tmp_path: Path
) -> None:
    source = save(tmp_path / "dark.png", np.zeros((8, 8, 3), dtype=np.uint8))
    assert predict(checkpoint, source, tmp_path / "out") == 0
    assert read(tmp_path / "out/predictions.json") == [{"file": "dark.png", "width": 8, "height": 8, "detections": []}]
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "out/dark.png")), 0)


def test_no_pictures_writes_only_the_detections(detector: FakeDetector, checkpoint: Path, tmp_path: Path) -> None:
    source = save(tmp_path / "photo.png", scene())
    assert predict(checkpoint, source, tmp_path / "out", "--no-pictures") == 0
    assert files(tmp_path / "out") == ["predictions.json"]


def test_zoom_enlarges_the_picture_and_leaves_the_boxes(
    detector: FakeDetector, checkpoint: Path, tmp_path: Path
) -> None:
    source = save(tmp_path / "photo.png", scene())
    assert predict(checkpoint, source, tmp_path / "out", "--zoom", "2") == 0
    assert cv2.imread(str(tmp_path / "out/photo.png")).shape == (240, 320, 3)
    assert read(tmp_path / "out/predictions.json")[0]["detections"][0]["box"] == [40.0, 50.0, 70.0, 90.0]


def test_an_output_folder_inside_the_input_does_not_become_input(
    detector: FakeDetector, checkpoint: Path, tmp_path: Path
) -> None:
    save(tmp_path / "in/a.png", scene())
    for _ in range(2):
        assert predict(checkpoint, tmp_path / "in", tmp_path / "in/out") == 0
    assert files(tmp_path / "in") == ["a.png", "out/a.png", "out/predictions.json"]


def test_a_video_gives_a_line_per_frame_and_a_video(
    detector: FakeDetector, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = save_video(tmp_path / "clip.avi", 5), tmp_path / "out"
    assert predict(checkpoint, source, output, "--batch-size", "2") == 0
    lines = [json.loads(line) for line in (output / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["frame"] for line in lines] == [0, 1, 2, 3, 4]
    assert {line["file"] for line in lines} == {"clip.avi"}
    lefts = [line["detections"][0]["box"][0] for line in lines]
    np.testing.assert_allclose(lefts, [20, 30, 40, 50, 60], atol=2)  # the codec is lossy
    assert files(output) == ["clip.mp4", "predictions.jsonl"]
    capture = cv2.VideoCapture(str(output / "clip.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    drawn = []
    while (frame := capture.read())[0]:
        drawn.append(frame[1])
    capture.release()
    assert [frame.shape for frame in drawn] == [(120, 160, 3)] * 5
    assert np.abs(drawn[2].astype(int) - scene(x=40)).max() > 80
    assert "10 detections in 5 frames" in capsys.readouterr().out


def test_a_video_without_pictures_writes_only_the_lines(
    detector: FakeDetector, checkpoint: Path, tmp_path: Path
) -> None:
    source = save_video(tmp_path / "clip.avi", 2)
    assert predict(checkpoint, source, tmp_path / "out", "--no-pictures") == 0
    assert files(tmp_path / "out") == ["predictions.jsonl"]


def test_a_video_that_is_not_finished_leaves_nothing_behind(
    detector: FakeDetector, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_later(images: Sequence[Picture]) -> list[Detections]:
        if len(detector.batches) == 2:
            raise UserError("out of memory")
        return FakeDetector.detect(detector, images)

    monkeypatch.setattr(detector, "detect", fail_later)
    source = save_video(tmp_path / "clip.avi", 5)
    assert predict(checkpoint, source, tmp_path / "out", "--batch-size", "1") == 2
    assert len(detector.batches) == 2
    assert files(tmp_path / "out") == []


def test_an_unreadable_image_stops_the_command_and_is_named(
    detector: FakeDetector, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "in/a.png", scene())
    (tmp_path / "in/b.png").write_bytes(b"no image")
    assert predict(checkpoint, tmp_path / "in", tmp_path / "out") == 2
    message = capsys.readouterr().err
    assert "b.png" in message
    assert "--on-unreadable skip" in message
    assert "Traceback" not in message
    assert not (tmp_path / "out/predictions.json").exists()
    assert not [name for name in files(tmp_path / "out") if "tmp" in name]


def test_an_unreadable_image_is_named_and_skipped_on_request(
    detector: FakeDetector, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "c.png"):
        save(tmp_path / "in" / name, scene())
    (tmp_path / "in/b.png").write_bytes(b"no image")
    assert predict(checkpoint, tmp_path / "in", tmp_path / "out", "--on-unreadable", "skip") == 0
    assert [entry["file"] for entry in read(tmp_path / "out/predictions.json")] == ["a.png", "c.png"]
    printed = capsys.readouterr().out
    assert "b.png" in printed
    assert "1 of 3 images could not be read" in printed


def test_if_no_image_can_be_read_skipping_does_not_help(
    detector: FakeDetector, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/b.png").write_bytes(b"")
    assert predict(checkpoint, tmp_path / "in", tmp_path / "out", "--on-unreadable", "skip") == 2
    assert "none of its 1 images can be read" in capsys.readouterr().err


def broken_inputs(folder: Path) -> dict[str, Path]:
    """Inputs that cannot be used, by a piece of the message that says so."""
    (folder / "empty").mkdir()
    (folder / "table.csv").write_text("a,b")
    (folder / "clip.mp4").write_bytes(b"no video" * 100)
    (folder / "void.avi").write_bytes(b"")
    return {
        "no such file or folder": folder / "missing.png",
        "no image in this folder": folder / "empty",
        "the extension '.csv' is not supported; images: .bmp .jpeg": folder / "table.csv",
        "not a video that OpenCV can read": folder / "clip.mp4",
        "void.avi: not a video": folder / "void.avi",
    }


@pytest.mark.parametrize("index", range(5))
def test_inputs_that_cannot_be_used_end_with_2_and_a_plain_message(
    index: int, detector: FakeDetector, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message, path = list(broken_inputs(tmp_path).items())[index]
    assert predict(checkpoint, path, tmp_path / "out") == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert path.name in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "out").exists() or files(tmp_path / "out") == []


def test_the_folder_of_the_input_is_no_output(
    detector: FakeDetector, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = save(tmp_path / "in/a.png", scene())
    before = source.read_bytes()
    (tmp_path / "link").symlink_to(tmp_path / "in")
    for given, output in ((source, source.parent), (source.parent, source.parent), (source, tmp_path / "link")):
        assert predict(checkpoint, given, output) == 2
        assert "is the folder of the input" in capsys.readouterr().err
    assert source.read_bytes() == before
    assert files(tmp_path / "in") == ["a.png"]


def test_a_picture_never_replaces_another_input(
    detector: FakeDetector, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "in/a.png", scene())
    save(tmp_path / "in/in/a.png", scene())  # its picture in the output folder would be in/a.png
    assert predict(checkpoint, tmp_path / "in", tmp_path) == 2
    assert "is one of the inputs and would be replaced" in capsys.readouterr().err


def test_an_output_that_is_a_file_is_refused(
    detector: FakeDetector, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = save(tmp_path / "in/a.png", scene())
    for output in (checkpoint, checkpoint / "below"):
        assert predict(checkpoint, source, output) == 2
        assert f"--output {output}: " in capsys.readouterr().err


def test_a_missing_checkpoint_is_told_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = save(tmp_path / "a.png", scene())
    assert predict(tmp_path / "missing.pt", source, tmp_path / "out") == 2
    assert "missing.pt: no such file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--score-thresh", "1.5", "expected a number from 0 to 1, found 1.5"),
        ("--score-thresh", "nan", "expected a number from 0 to 1, found nan"),
        ("--batch-size", "0", "expected 1 or more, found 0"),
        ("--device", "tpu", "invalid choice"),
    ],
)
def test_wrong_option_values_end_with_2(
    option: str, value: str, message: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(checkpoint, tmp_path, tmp_path / "out", option, value) == 2
    assert message in capsys.readouterr().err


def test_the_options_reach_the_loader(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []

    def load_detector(path: Path, **options: str) -> FakeDetector:
        calls.append((path, options))
        return FakeDetector()

    monkeypatch.setitem(sys.modules, "detector.engine.inference", SimpleNamespace(load_detector=load_detector))
    source = save(tmp_path / "a.png", scene())
    options = ("--device", "cpu", "--precision", "fp32", "--weights", "raw")
    assert predict(checkpoint, source, tmp_path / "out", *options) == 0
    assert calls == [(checkpoint, {"device": "cpu", "precision": "fp32", "weights": "raw"})]
