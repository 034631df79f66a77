"""``detector fit-anchors`` as a user meets it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from detector.cli.fit_anchors import main
from tests.engine.tiny import make_dataset, write_config

ROOT = Path(__file__).parents[2]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_config(tmp_path, make_dataset(tmp_path / "data"))


@pytest.mark.slow
def test_the_script_runs_from_any_folder(tmp_path: Path, recipe: Path) -> None:
    line = [sys.executable, ROOT / "tools/fit_anchors.py", "--config", recipe, "--no-suggest"]
    result = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("anchors        9 a cell: sizes [16, 32, 64, 128, 256], scales [1, 1.26, 1.587]")


def test_the_report_counts_boxes_and_names_classes(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(recipe), "--no-suggest", "data.short_side=[64]"]) == 0
    printed = capsys.readouterr().out
    num_boxes = len(json.loads((recipe.parent / "data/annotations.json").read_text())["annotations"])
    assert f"{num_boxes} objects in 8 images, resized as in training, not augmented\n" in printed
    for text in ("by class", "green", "by size in the image (COCO's)", "by level of the best anchor", "P3"):
        assert text in printed
    assert "suggestion" not in printed


def test_the_validation_split_can_be_looked_at(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_dataset(recipe.parent / "val", num_images=3, seed=5)
    split = f"data.val={{annotations: {recipe.parent}/val/annotations.json, images: {recipe.parent}/val/images}}"
    assert main(["--config", str(recipe), "--no-suggest", "--split", "val", split]) == 0
    assert " objects in 3 images" in capsys.readouterr().out


def test_anchors_that_do_not_fit_are_replaced_with_a_line_to_paste(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = ["model.anchors.sizes=[70,90,128,256,512]", "model.anchors.aspect_ratios=[6,7]", "data.short_side=[64]"]
    assert main(["--config", str(recipe), *wrong, "--output", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    before, after = next(line for line in printed.splitlines() if line.startswith("boxes with an anchor of")).split()[
        -4::2
    ]
    assert float(before) < float(after)
    pasted = printed.split("on the command line:\n  ")[1].split("\n")[0].replace("'", "").split()
    assert main(["--config", str(recipe), *wrong, *pasted, "--no-suggest"]) == 0
    assert f"0.5: {after} %" in capsys.readouterr().out
    assert (tmp_path / "out/anchors.png").stat().st_size > 10_000
    pictures = sorted((tmp_path / "out/unmatched").iterdir())
    assert pictures
    assert f"and {len(pictures)} pictures of boxes that no anchor fits written to {tmp_path}/out" in printed


def test_an_output_that_is_a_file_is_exit_2_before_the_work(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("mine")
    assert main(["--config", str(recipe), "--output", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr()
    assert f"--output {tmp_path}/out: is a file, expected a folder" in printed.err
    assert printed.out == ""


def test_a_dataset_without_boxes_says_so(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recipe.parent / "data/annotations.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "annotations": []}))
    assert main(["--config", str(recipe)]) == 0
    assert capsys.readouterr().out == f"{path}: there are no boxes to fit anchors to\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "the following arguments are required: --config"),
        (["--config", "retina_demoo"], "Did you mean 'retina_demo'?"),
        (["--config", "retina_demo", "--split", "test"], "invalid choice: 'test'"),
        (["--config", "retina_demo", "model.anchors.sizes=[1,2]"], "model.anchors.sizes"),
        (["--config", "retina_demo", "data.train={annotations: no.json, images: x}"], "no.json"),
        (["--config", "retina_demo", "--num-pictures", "0"], "expected a whole number from 1 on, found 0"),
    ],
)
def test_a_wrong_line_is_exit_2_and_says_why(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_help_needs_no_heavy_library() -> None:
    program = (
        "import sys\nfrom detector.cli.main import main\ncode = main(['fit-anchors', '--help'])\n"
        "heavy = {'torch', 'cv2', 'matplotlib', 'pycocotools'} & set(sys.modules)\n"
        "raise SystemExit(f'imported {heavy}' if heavy else code)"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("usage: detector fit-anchors")
