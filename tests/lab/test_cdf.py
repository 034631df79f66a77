"""The loss profile of a checkpoint: what is written, and what a user who gives something wrong reads."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from detector.engine.evaluate import evaluate_checkpoint
from detector.engine.train import train
from detector.errors import UserError
from detector.lab.cdf import format_loss_profile, loss_cdf
from tests.engine.tiny import make_dataset, read_rows, tiny_config


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps."""
    folder = tmp_path_factory.mktemp("tiny")
    config, origins = tiny_config(folder, "schedule.max_steps=2", "eval.num_pictures=0", "eval.loss_profile_every=1")
    train(config, origins)
    return Path(config.output_dir)


@pytest.fixture
def checkpoint(run_folder: Path) -> Path:
    return run_folder / "checkpoints/last.pt"


def test_figures_and_numbers_of_a_checkpoint_are_those_of_its_run(
    checkpoint: Path, run_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "new/folder"
    profile = loss_cdf(checkpoint, output=output)
    assert sorted(path.name for path in output.iterdir()) == ["loss_cdf.png", "loss_profile.json", "p_t.png"]
    for name in ("loss_cdf.png", "p_t.png"):
        picture = cv2.imread(str(output / name))
        assert picture is not None
        assert picture.shape == (420, 1000, 3)
        assert np.unique(picture).size > 50
    content = json.loads((output / "loss_profile.json").read_text())
    assert content == profile.to_json()
    (row,) = read_rows(run_folder, "eval")
    assert content["num_foreground"] == row["loss_profile"]["num_foreground"]
    assert content["p_t_foreground"] == row["loss_profile"]["p_t_foreground"]
    for ours, logged in zip(content["by_gamma"], row["loss_profile"]["by_gamma"], strict=True):
        assert ours["fg_share"] == pytest.approx(logged["fg_share"], rel=1e-4)


def test_the_same_checkpoint_gives_the_same_bytes(checkpoint: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        loss_cdf(checkpoint, output=tmp_path / name, num_images=2)
    for file in ("loss_cdf.png", "p_t.png", "loss_profile.json"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


def test_images_gammas_and_overrides_are_those_asked_for(checkpoint: Path, tmp_path: Path) -> None:
    told: list[int] = []

    @contextmanager
    def progress(_description: str, total: int) -> Iterator[Callable[[int], None]]:
        told.append(total)
        yield told.append

    profile = loss_cdf(
        checkpoint,
        output=tmp_path,
        gammas=(4.0,),
        num_images=3,
        overrides=["loss.cls.gamma=1.5", "eval.short_side=64"],
        progress=progress,
    )
    assert profile.gammas == (1.5, 4.0)
    assert profile.run_gamma == 1.5
    assert profile.num_images == 3
    assert told == [3, 1, 1, 1]


def test_another_dataset_may_be_profiled(checkpoint: Path, tmp_path: Path) -> None:
    other = make_dataset(tmp_path / "other", num_images=3, seed=5)
    profile = loss_cdf(
        checkpoint, annotations=other / "annotations.json", images=other / "images", output=tmp_path / "out"
    )
    assert profile.num_images == 3


def test_a_dataset_without_objects_has_figures_and_a_table(checkpoint: Path, tmp_path: Path) -> None:
    empty = make_dataset(tmp_path / "empty", num_images=1)  # the last image of that dataset has no object
    profile = loss_cdf(
        checkpoint, annotations=empty / "annotations.json", images=empty / "images", output=tmp_path / "out"
    )
    assert profile.num_anchors("foreground") == 0
    content = json.loads((tmp_path / "out/loss_profile.json").read_text())
    assert content["by_gamma"][0]["foreground_held_by_hardest"]["0.2"] is None
    assert "0 foreground (fg)" in format_loss_profile(profile)
    assert " -  " in format_loss_profile(profile)


def test_the_table_has_a_row_per_gamma_and_marks_the_run_s(checkpoint: Path, tmp_path: Path) -> None:
    profile = loss_cdf(checkpoint, output=tmp_path, num_images=2)
    lines = format_loss_profile(profile).splitlines()
    assert [line.split()[0] for line in lines[2:6]] == ["0", "0.5", "1", "2"]
    assert [" * " in line for line in lines[2:6]] == [False, False, False, True]
    assert f"{profile.foreground_loss_share(0.0):.2%}" in lines[2]
    assert f"{profile.hardest_share(2.0, 'background', 0.001):.2%}" in lines[5]
    assert lines[6].endswith("anchors of 2 images; *: the gamma it was trained with")


def test_an_output_that_is_a_file_is_refused_before_the_work(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match="file: cannot be made a folder: File exists"):
        loss_cdf(checkpoint, output=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"


def test_a_dataset_of_other_classes_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    other = make_dataset(tmp_path / "other", num_images=2)
    content = json.loads((other / "annotations.json").read_text())
    content["categories"][0]["name"] = "blue"
    (other / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="other classes than those of the network"):
        loss_cdf(checkpoint, annotations=other / "annotations.json", images=other / "images", output=tmp_path / "out")


def test_what_is_no_checkpoint_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing\.pt"):
        loss_cdf(tmp_path / "missing.pt", output=tmp_path)
    copy = tmp_path / "copy.pt"
    shutil.copy(checkpoint, copy)
    with pytest.raises(UserError, match="--weights ema"):
        loss_cdf(copy, weights="ema", output=tmp_path)


def test_evaluating_a_checkpoint_gives_the_split_too(checkpoint: Path) -> None:
    result = evaluate_checkpoint(checkpoint)
    assert result.split["fg_share"] == pytest.approx(result.losses["loss_cls_fg"] / result.losses["loss_cls"])
