"""``detector show-batch`` as a user meets it."""

import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
import torch

from detector.cli.show_batch import batches_of, main
from detector.config_io import load_config_with_origins
from detector.data.loader import build_eval_loader, build_train_loader
from detector.data.opening import open_split
from detector.data.transforms import build_transforms
from detector.structures import Batch
from tests.engine.tiny import make_dataset, write_config

ROOT = Path(__file__).parents[2]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_config(tmp_path, make_dataset(tmp_path / "data"))


def test_the_batches_are_those_of_training(recipe: Path) -> None:
    loaded = load_config_with_origins(recipe, ["data.images_per_forward=2", "seed=3"])
    data = loaded.config.data
    dataset = open_split(data, 3, "train").dataset
    transforms = build_transforms(data.augment)
    micro_batches = list(islice(build_train_loader(data, dataset, transforms, seed=3, start_step=1), 4))
    for (step, shown), halves in zip(
        islice(batches_of(loaded, dataset, "train", 1), 2), (micro_batches[:2], micro_batches[2:]), strict=True
    ):
        assert step in (1, 2)
        assert shown.image_ids == halves[0].image_ids + halves[1].image_ids
        assert torch.equal(shown.images, torch.cat([half.images for half in halves]))
        boxes = [half.gt_boxes[half.gt_mask] for half in halves]
        assert torch.equal(shown.gt_boxes[shown.gt_mask], torch.cat(boxes))


def test_the_batches_of_the_validation_split_are_those_of_an_evaluation(recipe: Path) -> None:
    loaded = load_config_with_origins(recipe, ["eval.short_side=64", "eval.batch_size=3"])
    dataset = open_split(loaded.config.data, 0, "val").dataset
    shown: list[Batch] = [batch for _, batch in batches_of(loaded, dataset, "val", 0)]
    expected = list(build_eval_loader(loaded.config.data, dataset, short_side=64, batch_size=3))
    assert [batch.image_ids for batch in shown] == [batch.image_ids for batch in expected]
    assert all(torch.equal(a.images, b.images) for a, b in zip(shown, expected, strict=True))


def test_pictures_and_lines_are_written_for_every_image(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["--config", str(recipe), "--output", str(tmp_path / "out"), "--num-batches", "2", "--step", "5"]
    assert main([*line, "data.repeat_thresh=0.9"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [text for text in printed if text.startswith("step")] == [
        "step_00000005: 4 images",
        "step_00000006: 4 images",
    ]
    assert len(printed) == 2 * 5 + 1
    assert all(
        " in 96x96, " in text or " in 64x96, " in text or " in 96x64, " in text for text in printed if ".png" in text
    )
    files = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.jpg"))
    assert len(files) == 2 * 5
    assert files[0] == "step_00000005.jpg"
    assert files[1].startswith("step_00000005/000_")


def test_pictures_of_an_earlier_call_do_not_pass_for_this_ones(recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out" / "step_00000000"
    folder.mkdir(parents=True)
    for name in ("007_of_a_larger_batch.jpg", "my_own.jpg"):
        (folder / name).touch()
    assert main(["--config", str(recipe), "--output", str(tmp_path / "out"), "--num-batches", "1"]) == 0
    names = sorted(path.name for path in folder.iterdir())
    assert [name[:4] for name in names] == ["000_", "001_", "002_", "003_", "my_o"]


@pytest.mark.slow
def test_the_script_runs_from_any_folder(tmp_path: Path, recipe: Path) -> None:
    line = [sys.executable, ROOT / "tools/show_batch.py", "--config", recipe, "--output", "out", "--num-batches", "1"]
    result = subprocess.run([*line, "--split", "val"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out/step_00000000.jpg").is_file()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--config", "retina_demo"], "the following arguments are required: --output"),
        (["--config", "retina_demo", "--output", "x", "--step", "-1"], "found -1"),
        (["--config", "retina_demo", "--output", "x", "--num-batches", "0"], "expected a whole number from 1 on"),
        (["--config", "retina_demo", "--output", "x", "data.train={annotations: no.json, images: x}"], "no.json"),
        (["--config", "retina_demo", "--output", "x", "seeed=1"], "unknown key 'seeed'"),
    ],
)
def test_a_wrong_line_is_exit_2_and_says_why(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_an_output_that_cannot_be_written_is_exit_2(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("mine")
    assert main(["--config", str(recipe), "--output", str(tmp_path / "out")]) == 2
    assert f"--output {tmp_path}/out: is a file, expected a folder" in capsys.readouterr().err
