"""Everything a user can get wrong ends with exit 2, a message that names it, no traceback and no half-made run."""

import errno
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from detector.cli.evaluate import main as evaluate
from detector.cli.predict import main as predict
from detector.cli.train import main as train
from tests.engine.tiny import make_dataset, read_rows, write_config

ROOT = Path(__file__).parents[2]
Break = Callable[[Path], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a data set for training in ``data``, one for validation in ``val`` and the recipe."""
    make_dataset(tmp_path / "data")
    shutil.copytree(tmp_path / "data", tmp_path / "val")
    recipe = write_config(tmp_path, tmp_path / "data")
    text = recipe.read_text().replace(f"val: {{annotations: {tmp_path}/data", f"val: {{annotations: {tmp_path}/val")
    text = text.replace(f"{tmp_path}/data/val_images}}\n  short", f"{tmp_path}/val/images}}\n  short")
    recipe.write_text(text.replace("max_steps: 4", "max_steps: 1"))
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set, its recipe and a finished run, which tests must not change."""
    folder = tmp_path_factory.mktemp("trained")
    recipe = write_config(folder, make_dataset(folder / "data"))
    assert train(["--config", str(recipe), "schedule.max_steps=1"]) == 0
    return folder


def message_of(capsys: pytest.CaptureFixture[str], code: int) -> str:
    """Return the message of a command that has ended with ``code``, which must be that of a user's error."""
    printed = capsys.readouterr()
    assert code == 2, printed.err
    assert printed.err.startswith("error: ")
    assert "Traceback" not in printed.out + printed.err
    assert len(printed.err.splitlines()) < 10
    return printed.err


def edit(change: Callable[[dict[str, Any]], object], file: str = "data/annotations.json") -> Break:
    def apply(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        change(content)
        (folder / file).write_text(json.dumps(content))

    return apply


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty_folder(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


INPUTS: dict[str, tuple[Break, tuple[str, ...]]] = {
    "config missing": (lambda f: (f / "tiny.yaml").unlink(), ("tiny.yaml", "no such file")),
    "config folder": (lambda f: replace_by_folder(f / "tiny.yaml"), ("tiny.yaml", "found a directory")),
    "config empty": (lambda f: (f / "tiny.yaml").write_text(""), ("tiny.yaml", "the file is empty")),
    "config no yaml": (lambda f: (f / "tiny.yaml").write_text("a: [1"), ("tiny.yaml:1", "not valid YAML")),
    "annotations missing": (
        lambda f: (f / "data/annotations.json").unlink(), ("data/annotations.json", "no such file")
    ),
    "annotations folder": (
        lambda f: replace_by_folder(f / "data/annotations.json"), ("data/annotations.json", "is a folder")
    ),
    "annotations empty": (
        lambda f: (f / "val/annotations.json").write_text(""), ("val/annotations.json", "is empty")
    ),
    "annotations cut": (lambda f: cut(f / "data/annotations.json"), ("data/annotations.json:1:", "no valid JSON")),
    "annotations of results": (
        lambda f: (f / "data/annotations.json").write_text("[]"), ("data/annotations.json", "expected an object")
    ),
    "no images": (
        edit(lambda c: c.update(images=[], annotations=[])), ("data/annotations.json", "'images' is an empty list")
    ),
    "unknown category": (
        edit(lambda c: c["annotations"][3].update(category_id=99)), ("annotations[3] (id 4", "category_id", "99")
    ),
    "unknown image": (edit(lambda c: c["annotations"][3].update(image_id=99)), ("annotations[3] (id 4", "image_id")),
    "image id twice": (edit(lambda c: c["images"][1].update(id=100)), ("images[1]", "100", "a value of its own")),
    "box of three": (
        edit(lambda c: c["annotations"][0].update(bbox=[1, 2, 3])), ("annotations[0]", "bbox", "[1, 2, 3]")
    ),
    "box no number, to be scored": (
        edit(lambda c: c["annotations"][0].update(bbox=[1, 2, float("nan"), 3]), "val/annotations.json"),
        ("val/annotations.json", "annotations[0] (id 1", "bbox", "finite numbers"),
    ),
    "category name no text": (
        edit(lambda c: c["categories"][1].update(name="\ud800")), ("categories[1] (id 30)", "'name'")
    ),
    "other categories in validation": (
        edit(lambda c: c["categories"][1].update(name="blue"), "val/annotations.json"),
        ("val/annotations.json", "category id 30", "'blue'", "'green'"),
    ),
    "category missing in validation": (
        edit(lambda c: c.update(categories=c["categories"][:1], annotations=[]), "val/annotations.json"),
        ("val/annotations.json", "category id 30", "missing", "'green'"),
    ),
    "image folder missing": (lambda f: shutil.rmtree(f / "data/images"), ("data/images", "does not exist")),
    "image folder empty": (lambda f: empty_folder(f / "val/images"), ("val/images", "the image folder is empty")),
    "image missing": (lambda f: (f / "data/images/2.png").unlink(), ("data/images", "2.png", "1 of the 8")),
    "image folder instead of a file": (
        lambda f: replace_by_folder(f / "data/images/2.png"), ("data/images", "2.png")
    ),
    "image empty": (lambda f: (f / "data/images/2.png").write_bytes(b""), ("image id 102", "2.png", "empty")),
    "image cut": (lambda f: cut(f / "data/images/2.png"), ("image id 102", "2.png", "cut short")),
    "image no image": (lambda f: (f / "val/images/2.png").write_text("x"), ("image id 102", "val/images/2.png")),
    "image of another size": (
        edit(lambda c: c["images"][2].update(width=50)), ("image id 102", "2.png", "72 x 96", "72 x 50")
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", INPUTS)
def test_a_wrong_input_is_named_and_leaves_nothing_behind(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    break_input, expected = INPUTS[name]
    break_input(folder)
    message = message_of(capsys, train(["--config", str(folder / "tiny.yaml")]))
    assert [text for text in expected if text not in message] == []
    assert not (folder / "run").exists()


LINES = {
    ("optimizer.learning_rate=1",): ("optimizer.learning_rate", "optimizer.lr"),
    ("data.augment=[{name: HorizontalFlop}]",): ("data.augment[0]", "HorizontalFlop", "HorizontalFlip"),
    ("data.augment=[{name: RandomCrop, height: 99, width: 99}]",): ("RandomCrop", "image id"),
    ("data.buckets=[[64, 64]]", "eval.short_side=32"): ("data.buckets", "64x64"),
    ("model.backbone.weights=missing.pth",): ("model.backbone.weights", "missing.pth"),
    ("device=cuda", "precision=fp16"): ("cuda",),
    ("--init-from", "missing.pt"): ("missing.pt: no such checkpoint file",),
    ("--init-from", "."): ("is a folder",),
    ("--resume", "missing.pt"): ("missing.pt: no such checkpoint file",),
    ("--resume", "--overwrite"): ("--resume", "--overwrite"),
    ("output_dir=/dev/null/run",): ("output_dir: /dev/null/run",),
    ('output_dir="a\\0b"',): ("output_dir",),
    ('data.train.annotations="a\\0b"',): ("no such file",),
}


@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_a_wrong_line_is_explained_and_works_once_it_is_mended(
    folder: Path, capsys: pytest.CaptureFixture[str], line: tuple[str, ...]
) -> None:
    if "device=cuda" in line and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    message = message_of(capsys, train(["--config", str(folder / "tiny.yaml"), *line]))
    assert [text for text in LINES[line] if text not in message] == []
    assert not (folder / "run").exists() or list((folder / "run").iterdir()) == []


def test_after_an_error_at_the_first_step_the_mended_line_works(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["--config", str(folder / "tiny.yaml")]
    message_of(capsys, train([*line, "data.augment=[{name: RandomCrop, height: 99, width: 99}]"]))
    assert train(line) == 0


def test_an_error_leaves_the_run_that_was_to_be_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["--config", str(folder / "tiny.yaml")]
    assert train(line) == 0
    before = (folder / "run/metrics.jsonl").read_bytes()
    (folder / "val/annotations.json").write_text("{}")
    capsys.readouterr()
    assert "'images'" in message_of(capsys, train([*line, "--overwrite"]))
    assert (folder / "run/metrics.jsonl").read_bytes() == before
    assert (folder / "run/checkpoints/last.pt").is_file()


@pytest.fixture
def unsampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the start-up check look at no image, as if the broken one were not in its sample."""
    from detector.engine import run_data

    check = run_data.check_decodable
    monkeypatch.setattr(run_data, "check_decodable", lambda dataset, **options: check(dataset, num_images=0, **options))


@pytest.mark.usefixtures("unsampled")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_image_unreadable_in_the_middle_of_training_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], num_workers: int
) -> None:
    cut(folder / "data/images/2.png")
    line = ["--config", str(folder / "tiny.yaml"), "schedule.max_steps=6", f"data.num_workers={num_workers}"]
    message = message_of(capsys, train(line))
    assert "image id 102" in message
    assert "2.png" in message


@pytest.mark.usefixtures("unsampled")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_unreadable_image_is_skipped_on_request_and_named_once(
    folder: Path, caplog: pytest.LogCaptureFixture, num_workers: int
) -> None:
    cut(folder / "data/images/2.png")
    line = ["--config", str(folder / "tiny.yaml"), "schedule.max_steps=5", "eval.every=5"]
    with caplog.at_level(logging.WARNING):
        assert train([*line, "data.on_unreadable=skip", f"data.num_workers={num_workers}"]) == 0
    (record,) = [record.getMessage() for record in caplog.records if "2.png" in record.getMessage()]
    assert "image id 102" in record
    assert [row["step"] for row in read_rows(folder / "run", "train")] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("cache", ["none", pytest.param("ram", marks=pytest.mark.slow)])
def test_a_run_that_skips_images_goes_on_after_one_has_vanished(
    folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, cache: str
) -> None:
    line = ["--config", str(folder / "tiny.yaml"), "data.on_unreadable=skip", f"data.cache={cache}", "eval.every=5"]
    assert train([*line, "schedule.max_steps=1"]) == 0
    (folder / "data/images/2.png").unlink()
    assert "image files are there" in capsys.readouterr().out
    assert train([*line, "schedule.max_steps=5", "--resume"]) == 0
    assert "image files are missing: 2.png" in capsys.readouterr().out
    assert "2.png: cannot read the image: No such file" in caplog.text
    assert [row["step"] for row in read_rows(folder / "run", "train")] == [1, 2, 3, 4, 5]


@pytest.mark.usefixtures("unsampled")
def test_skipping_is_for_training_never_for_scores(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut(folder / "val/images/2.png")
    message = message_of(capsys, train(["--config", str(folder / "tiny.yaml"), "data.on_unreadable=skip"]))
    assert "val/images/2.png" in message


def test_boxes_without_area_or_outside_are_counted_once_with_their_images(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoil(content: dict[str, Any]) -> None:
        content["annotations"][0]["bbox"] = [10, 10, 0, 5]
        content["annotations"][1]["bbox"] = [500, 500, 5, 5]
        content["annotations"][2]["bbox"] = [-10, -10, 40, 40]

    edit(spoil)(folder)
    ids = [entry["image_id"] for entry in json.loads((folder / "data/annotations.json").read_text())["annotations"]]
    assert train(["--config", str(folder / "tiny.yaml")]) == 0
    printed = capsys.readouterr().out
    assert printed.count("boxes for training") == 1
    assert f"1 without area dropped (image id {ids[0]})" in printed
    assert f"1 outside the image dropped (image id {ids[1]})" in printed
    assert f"1 clipped to the image (image id {ids[2]})" in printed


def test_a_first_batch_from_which_theory_expects_no_loss_is_no_error(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("data", "val"):
        edit(lambda content: content.update(annotations=[]), f"{name}/annotations.json")(folder)
    assert train(["--config", str(folder / "tiny.yaml"), "loss.cls.alpha=1.0"]) == 0
    assert "theory gives 0.000: as it should be" in capsys.readouterr().out


def test_a_dataset_without_any_box_trains_and_scores_minus_one(folder: Path) -> None:
    for name in ("data", "val"):
        edit(lambda content: content.update(annotations=[]), f"{name}/annotations.json")(folder)
    assert train(["--config", str(folder / "tiny.yaml")]) == 0
    assert read_rows(folder / "run", "eval")[0]["AP"] == -1
    assert read_rows(folder / "run", "train")[0]["loss_cls_bg"] > 0


CHECKPOINTS: dict[str, tuple[Break, tuple[str, ...]]] = {
    "missing": (lambda path: path.unlink(), ("no such",)),
    "folder": (replace_by_folder, ("is a folder",)),
    "empty": (lambda path: path.write_bytes(b""), ("empty",)),
    "cut": (cut, ("damaged", "SHA-256")),
    "no checkpoint": (lambda path: path.write_text("hello"), ("SHA-256",)),
    "other file": (lambda path: (path.with_suffix(".pt.sha256").unlink(), path.write_text("hello")), ("readable",)),
    "checksum no text": (lambda path: path.with_suffix(".pt.sha256").write_bytes(b"\xff\xfe"), ("SHA-256",)),
    "checksum empty": (lambda path: path.with_suffix(".pt.sha256").write_bytes(b""), ("SHA-256", "nothing")),
    "state dict": (
        lambda path: (path.with_suffix(".pt.sha256").unlink(), torch.save({"weight": torch.zeros(2)}, path)),
        ("not a checkpoint of this program",),
    ),
    "of code": (
        lambda path: (path.with_suffix(".pt.sha256").unlink(), torch.save({"format": Path("x")}, path)),
        ("not a readable checkpoint",),
    ),
}


@pytest.fixture
def checkpoint(trained: Path, tmp_path: Path) -> Path:
    """A copy of a checkpoint with its checksum."""
    for name in ("last.pt", "last.pt.sha256"):
        shutil.copy(trained / "run/checkpoints" / name, tmp_path / name)
    return tmp_path / "last.pt"


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_wrong_checkpoint_is_named_by_every_command(
    trained: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    break_checkpoint, expected = CHECKPOINTS[name]
    break_checkpoint(checkpoint)
    output = checkpoint.parent / "out"
    recipe = ["--config", str(trained / "tiny.yaml"), f"output_dir={output}"]
    file = str(checkpoint)
    image = ["--input", str(trained / "data/images/0.png"), "--output", str(output)]
    for code in (
        lambda: evaluate(["--checkpoint", file]),
        lambda: train([*recipe, "--init-from", file]),
        lambda: train([*recipe, "--resume", file]),
        lambda: predict(["--checkpoint", file, *image]),
    ):
        message = message_of(capsys, code())
        assert file in message
        assert [text for text in expected if text not in message] == []
        assert not output.exists() or list(output.iterdir()) == []


OTHER_RUNS = {
    ("model.fpn.channels=24",): ("model.fpn.channels", "--init-from"),
    ("model.backbone.name=resnet34",): ("model.backbone.name", "--init-from"),
    ("ema.decay=0.9",): ("ema.decay",),
    ("optimizer.name=adamw",): ("optimizer.name", "--init-from"),
    ("optimizer.decay_norm_and_bias=false",): ("optimizer.decay_norm_and_bias", "--init-from"),
    ("--allow-changes", "model.fpn.channels=24"): ("do not fit the network",),
    ("--allow-changes", "optimizer.decay_norm_and_bias=false"): ("optimiser",),
}


@pytest.mark.parametrize("overrides", OTHER_RUNS, ids=" ".join)
def test_a_checkpoint_of_another_recipe_is_not_resumed(
    trained: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], overrides: tuple[str, ...]
) -> None:
    output = checkpoint.parent / "out"
    line = ["--config", str(trained / "tiny.yaml"), f"output_dir={output}", "--resume", str(checkpoint)]
    message = message_of(capsys, train([*line, *overrides]))
    assert str(checkpoint) in message
    assert [text for text in OTHER_RUNS[overrides] if text not in message] == []
    assert not output.exists()


def test_a_checkpoint_of_other_classes_is_not_resumed(
    folder: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("data", "val"):
        edit(lambda content: content["categories"][1].update(name="blue"), f"{name}/annotations.json")(folder)
    message = message_of(capsys, train(["--config", str(folder / "tiny.yaml"), "--resume", str(checkpoint)]))
    assert [text for text in (str(checkpoint), "green", "blue", "--init-from") if text not in message] == []


def test_evaluate_names_what_does_not_fit_the_checkpoint(
    folder: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = ["--checkpoint", str(checkpoint)]
    assert "--weights ema" in message_of(capsys, evaluate([*file, "--weights", "ema"]))
    assert "do not fit the network" in message_of(capsys, evaluate([*file, "model.fpn.channels=24"]))
    assert "eval.nms" in message_of(capsys, evaluate([*file, "eval.nms=0.5"]))
    given = ["--annotations", str(folder / "val/annotations.json"), "--images", str(folder / "val/images")]
    edit(lambda content: content["categories"][0].update(id=8), "val/annotations.json")(folder)
    edit(lambda content: content.update(annotations=[]), "val/annotations.json")(folder)
    assert "category id 7 is missing there" in message_of(capsys, evaluate([*file, *given]))
    cut(folder / "data/images/1.png")
    given = ["--annotations", str(folder / "data/annotations.json"), "--images", str(folder / "data/images")]
    for workers in (0, 2):
        message = message_of(capsys, evaluate([*file, *given, f"data.num_workers={workers}"]))
        assert "image id 101" in message


@pytest.fixture
def powerless(folder: Path) -> Iterator[list[str]]:
    """Start of a command line to which permissions apply, also where the tests are run by root."""
    prefix: list[str] = []
    if os.geteuid() == 0:
        prefix = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
        if shutil.which("setpriv") is None or subprocess.run([*prefix, "true"], check=False).returncode != 0:
            pytest.skip("root may read everything, and setpriv cannot change that")
    yield [*prefix, sys.executable]
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o700)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("closed", "expected"),
    [
        ("data/annotations.json", "data/annotations.json"),
        ("val", "val/annotations.json"),
        ("run", "output_dir"),
    ],
)
def test_what_may_not_be_read_or_written_is_named(
    folder: Path, powerless: list[str], trained: Path, closed: str, expected: str
) -> None:
    (folder / "run").mkdir()
    for name in ("last.pt", "last.pt.sha256"):
        shutil.copy(trained / "run/checkpoints" / name, folder / name)
    (folder / closed).chmod(0o500 if closed == "run" else 0)
    line = [*powerless, str(ROOT / "tools/train.py"), "--config", "tiny.yaml", "--init-from", "last.pt"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 2, result.stderr
    assert expected in result.stderr
    assert "Permission denied" in result.stderr or "may write to" in result.stderr
    assert "Traceback" not in result.stderr
    assert list((folder / "run").iterdir()) == []


def test_a_last_checkpoint_that_finds_no_room_is_named_and_leaves_nothing_half_written(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("detector.engine.checkpoint_files.torch.save", no_room)
    message = message_of(capsys, train(["--config", str(folder / "tiny.yaml")]))
    assert "the checkpoint cannot be written: No space left on device" in message
    assert list((folder / "run/checkpoints").iterdir()) == []
