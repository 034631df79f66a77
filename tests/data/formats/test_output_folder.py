"""The folder of a conversion: whole or absent, and never in place of somebody's files."""

import os
import re
import shutil
from pathlib import Path

import pytest

from detector.data.formats.conversion import convert
from detector.data.formats.output_folder import new_folder
from detector.data.formats.reading import DatasetSource
from detector.errors import UserError
from tests.data.formats.files import write, write_voc


def source(tmp_path: Path, *names: str) -> DatasetSource:
    return DatasetSource(write_voc(tmp_path / "in", *(names or ("a",))))


def test_an_empty_folder_may_be_filled_and_parents_are_made(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    convert(source(tmp_path), "csv", tmp_path / "empty")
    convert(source(tmp_path), "csv", tmp_path / "new/deeper")
    assert (tmp_path / "empty/train.csv").is_file()
    assert (tmp_path / "new/deeper/train.csv").is_file()
    assert os.listdir(tmp_path / "new") == ["deeper"]  # noqa: PTH208 (hidden files too)


def test_a_folder_with_files_is_never_touched(tmp_path: Path) -> None:
    precious = write(tmp_path / "out/precious.txt", "mine")
    with pytest.raises(
        UserError, match=r"out: the folder is not empty; choose another one, or replace a conversion by"
    ):
        convert(source(tmp_path), "csv", tmp_path / "out")
    with pytest.raises(UserError, match=r"out: the folder holds files that no conversion wrote"):
        convert(source(tmp_path), "csv", tmp_path / "out", overwrite=True)
    assert os.listdir(tmp_path / "out") == ["precious.txt"]  # noqa: PTH208
    assert precious.read_text() == "mine"


def test_a_conversion_is_replaced_as_a_whole_when_asked(tmp_path: Path) -> None:
    convert(source(tmp_path), "csv", tmp_path / "out")
    with pytest.raises(UserError, match="the folder is not empty"):
        convert(source(tmp_path), "voc", tmp_path / "out")
    convert(source(tmp_path), "voc", tmp_path / "out", overwrite=True)
    names = os.listdir(tmp_path / "out")  # noqa: PTH208
    assert sorted(names) == [".converted.json", "Annotations", "ImageSets", "JPEGImages"]
    assert sorted(os.listdir(tmp_path)) == ["in", "out"]  # noqa: PTH208


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "my models/a.pt"])
def test_a_conversion_that_the_user_added_files_to_is_never_touched(tmp_path: Path, name: str) -> None:
    convert(source(tmp_path), "csv", tmp_path / "out")
    precious = write(tmp_path / "out" / name, "mine")
    top = re.escape(name.split("/")[0])
    with pytest.raises(UserError, match=rf"out: the folder holds files that no conversion wrote \({top}\); choose ano"):
        convert(source(tmp_path), "voc", tmp_path / "out", overwrite=True)
    assert precious.read_text() == "mine"
    assert (tmp_path / "out/train.csv").is_file()


@pytest.mark.parametrize("mark", ["{}", "no JSON", "[]", '{"entries": 3}'])
def test_a_mark_that_is_not_a_conversions_counts_for_nothing(tmp_path: Path, mark: str) -> None:
    write(tmp_path / "out/.converted.json", mark)
    write(tmp_path / "out/train.csv", "mine")
    with pytest.raises(UserError, match=r"that no conversion wrote \(\.converted\.json, train\.csv\)"):
        convert(source(tmp_path), "voc", tmp_path / "out", overwrite=True)


def test_an_interruption_while_folders_change_places_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(source(tmp_path), "csv", tmp_path / "out")
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert(source(tmp_path), "voc", tmp_path / "out", overwrite=True)
    assert (tmp_path / "out/train.csv").is_file()
    assert sorted(os.listdir(tmp_path)) == ["in", "out"]  # noqa: PTH208


def test_an_old_folder_that_cannot_be_put_back_stays_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(source(tmp_path), "csv", tmp_path / "out")
    rename = Path.rename

    def broken(self: Path, target: Path) -> Path:
        if target.name == "out":
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", broken)
    with pytest.raises(UserError, match="out: cannot be written: Input/output error"):
        convert(source(tmp_path), "voc", tmp_path / "out", overwrite=True)
    assert len(list(tmp_path.glob(".out.*.tmp/old/train.csv"))) == 1


def test_a_folder_that_cannot_be_removed_does_not_hide_what_went_wrong(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        shutil.rmtree(folder.parent)
        raise UserError("the real error")

    with pytest.raises(UserError, match="the real error"), new_folder(tmp_path / "out", {}) as folder:
        fail(folder)


def test_a_conversion_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    convert(source(tmp_path), "csv", tmp_path / "out")
    before = (tmp_path / "out/train.csv").read_bytes()
    broken = source(tmp_path, "a", "b")
    (tmp_path / "in/JPEGImages/b.jpg").unlink()
    with pytest.raises(UserError, match="the image is missing"):
        convert(broken, "csv", tmp_path / "out", overwrite=True)
    assert (tmp_path / "out/train.csv").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["in", "out"]  # noqa: PTH208


def test_what_is_read_cannot_be_replaced(tmp_path: Path) -> None:
    convert(source(tmp_path), "csv", tmp_path / "one")
    (tmp_path / "alias").symlink_to(tmp_path / "one")
    for path in ("one", "one/train.csv", "alias"):
        with pytest.raises(UserError, match=r"one: cannot be replaced, as .* in it is read"):
            convert(DatasetSource(tmp_path / path), "voc", tmp_path / "one", overwrite=True)
    write(tmp_path / "apart/train.csv", "a.jpg,1,2,3,4,x")
    with pytest.raises(UserError, match=r"one: cannot be replaced"):
        convert(
            DatasetSource(tmp_path / "apart", tmp_path / "one/images/train"), "voc", tmp_path / "one", overwrite=True
        )


def test_a_link_or_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    write(tmp_path / "file")
    for name, kind in (("link", "link"), ("file", "file")):
        with pytest.raises(UserError, match=rf"{name}: is a {kind}, expected a folder to make"):
            convert(source(tmp_path), "csv", tmp_path / name, overwrite=True)
    with pytest.raises(UserError, match=r"file/out: cannot be made: File exists"):
        convert(source(tmp_path), "csv", tmp_path / "file/out")


def test_an_error_of_the_system_is_told_plainly(tmp_path: Path) -> None:
    long_name = f"{'x' * 300}.txt"
    message = r"x+\.txt: cannot be written: File name too long"
    with pytest.raises(UserError, match=message), new_folder(tmp_path / "out", {}) as folder:
        write(folder / long_name)
    assert os.listdir(tmp_path) == []  # noqa: PTH208
