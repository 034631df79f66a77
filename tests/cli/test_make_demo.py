"""``detector make-demo`` as a user meets it."""

from pathlib import Path

import pytest

from detector.cli.make_demo import main


def test_the_command_prints_the_counts_and_the_anchor_ratio_and_repeats_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["--output", str(tmp_path / "demo"), "--num-train", "8", "--num-val", "2", "--seed", "5"]
    assert main(line) == 0
    first = capsys.readouterr().out
    assert "train: 8 images" in first
    assert "longer side under 24 px" in first
    assert "foreground : background anchors = " in first
    assert main(line) == 0
    assert capsys.readouterr().out == first.replace("written", "already there, nothing written", 1)


def test_a_folder_with_other_files_is_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["--output", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert str(tmp_path) in error
    assert "expected an empty or a new folder" in error
