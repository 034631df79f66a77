"""``detector convert-dataset`` as a user runs it."""

import shlex
from pathlib import Path

import pytest

from detector.cli.convert_dataset import main
from detector.config import SplitConfig
from detector.config_io import load_config
from detector.data.formats.reading import build_source, read_dataset
from tests.data.formats.files import write, write_image, write_voc


def test_a_dataset_is_converted_and_the_line_to_train_with_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_voc(tmp_path / "my set", *"abcdefghij")
    out = tmp_path / "new set"
    assert main([str(folder), "--to", "yolo", "--output", str(out), "--holdout", "0.2", "--seed", "3"]) == 0
    text = capsys.readouterr().out
    assert f"voc -> yolo: {out}, read back and compared" in text
    assert "1 classes: cat" in text
    assert "train: 8 images, 8 boxes" in text
    assert "val: 2 images, 2 boxes" in text
    words = dict(word.split("=", 1) for word in shlex.split(text.splitlines()[-1]))
    for key, count in (("train", 8), ("val", 2)):
        split = SplitConfig(path=words[f"data.{key}.path"], split=words[f"data.{key}.split"])
        assert read_dataset(build_source(split)).num_images == count


@pytest.mark.parametrize(
    "name", ["2012", "a: b", "x #1", "1e3", "no", "it's", "[a]", 'a "b"', "plain", "two words", "é", "k=v", "~"]
)
def test_the_line_to_train_with_reads_as_the_names_that_were_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_voc(tmp_path / "in", "a", "b")
    write(folder / f"ImageSets/Main/{name}.txt", "a\nb")
    assert main([str(folder), "--to", "coco", "--output", name, "--split", name]) == 0
    words = shlex.split(capsys.readouterr().out.splitlines()[-1])
    train = load_config("retina_demo", [*words, "data.train.annotations=null", "data.val=null"]).data.train
    assert (train.path, train.split) == (name, name)
    if name in ("plain", "two words", "é", "it's"):
        assert f"data.train.path={name}" in words


def test_splits_keep_their_names_and_one_alone_is_held_out_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_voc(tmp_path / "in", "a", "b", "c")
    for split in ("trainval", "test"):
        write(folder / f"ImageSets/Main/{split}.txt", "a\nb" if split == "trainval" else "c")
    line = [str(folder), "--to", "csv", "--output"]
    assert main([*line, str(tmp_path / "two"), "--split", "test", "--split", "trainval"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert "data.train.split=trainval" in last
    assert "data.val.split=test" in last
    assert main([*line, str(tmp_path / "one"), "--split", "test", "--copy-images"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith("data.train.split=test data.holdout.fraction=0.2")
    assert not (tmp_path / "one/images/test/c.jpg").is_symlink()


def test_what_is_left_out_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_voc(tmp_path / "in", "a", "b")
    file = folder / "Annotations/b.xml"
    file.write_text(file.read_text().replace("</name>", "</name><difficult>1</difficult>"))
    assert main([str(folder), "--to", "csv", "--output", str(tmp_path / "csv")]) == 0
    text = capsys.readouterr().out
    assert "train: 2 images (1 without boxes), 1 boxes\n  left out: 1 ignore regions" in text
    assert main([str(folder), "--to", "coco", "--output", str(tmp_path / "coco")]) == 0
    assert "train: 2 images, 1 boxes, 1 ignore regions" in capsys.readouterr().out


def test_names_of_strangers_do_not_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "in"
    write_image(folder / "images/a.jpg")
    write(folder / "labels/a.txt", "0 .5 .5 .1 .1")
    write(folder / "data.yaml", 'train: images\nnames: ["\\e[2Jcat\\n", "\\x9b1m"]')
    assert main([str(folder), "--to", "coco", "--output", str(tmp_path / "out")]) == 0
    assert "2 classes: \\x1b[2Jcat\n, \\x9b1m" in capsys.readouterr().out
    write(folder / "data.yaml", 'train: "\\e[2J"\nnames: [a]')
    assert main([str(folder), "--to", "coco", "--output", str(tmp_path / "out")]) == 2
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none", "--to", "voc"], "error: none: no such file or folder"),
        (["{in}", "--to", "pdf"], "argument --to: invalid choice: 'pdf'"),
        (["{in}", "--to", "voc", "--split", "none"], "no split 'none'"),
        (["{in}", "--to", "voc", "--holdout", "1"], "expected a number between 0 and 1, found 1"),
        (["{in}", "--to", "voc", "--seed", "1"], "give --holdout too, such as --holdout 0.2"),
        (["{in}", "--to", "voc", "--holdout", ".2", "--seed", "-1"], "expected a whole number from 0 on, found -1"),
        (["{in}", "--to", "voc", "--holdout", ".2", "--group-by", "("], "'(' is no regular expression"),
        (["{in}", "--to", "voc", "--holdout", ".2"], "no part of it can be held out: it has one image"),
        (["{in}", "--to", "voc", "--format", "csv"], "looked for one CSV file"),
    ],
)
def test_a_wrong_line_exits_with_2_and_a_plain_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    folder = write_voc(tmp_path / "in", "a")
    line = [word.replace("{in}", str(folder)) for word in arguments]
    assert main([*line, "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()
