"""``check-dataset``: exit codes, what is printed, what is written, and that nothing of the user's is touched."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from detector.cli.check_dataset import main
from detector.cli.main import COMMANDS
from detector.config_io import load_config
from tests.inspect.doctor.made_sets import CLEAN, document_of, write_set

FLAWED: dict[str, Any] = {**CLEAN, "d.png": [("cat", 5, 6, 0, 20), ("dog", 70, 10, 25, 30)]}


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def overrides(folder: Path, *, with_val: bool = True) -> list[str]:
    """The demo's recipe with the sets ``train`` and ``val`` of a folder."""
    names = ("train", "val") if with_val else ("train",)
    lines = [
        f"data.{n}.{key}={folder / n}{end}" for n in names for key, end in (("annotations", ".json"), ("images", ""))
    ]
    return ["--config", "retina_demo", *lines, *([] if with_val else ["data.val=null", "data.holdout.fraction=0.5"])]


def make_sets(folder: Path, train: dict[str, Any] = CLEAN, val: dict[str, Any] = CLEAN) -> None:
    write_set(folder, document_of(train))
    write_set(folder, document_of(val), "val")


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_is_a_command() -> None:
    assert "check-dataset" in COMMANDS


def test_a_clean_set_exits_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_sets(tmp_path)
    assert main(overrides(tmp_path)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"train  {tmp_path}/train.json (COCO): 3 images, 4 boxes, 2 classes"
    assert lines[1] == f"val    {tmp_path}/val.json (COCO): 3 images, 4 boxes, 2 classes"
    assert lines[3] == "nothing found: the dataset is as it should be"
    assert re.fullmatch(r"checked in [\d.]+ s; 6 images decoded", lines[4])


def test_warnings_exit_with_0_and_name_file_id_and_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_sets(tmp_path, FLAWED)
    assert main(overrides(tmp_path)) == 0
    printed = capsys.readouterr().out
    assert "warning: train: 1 of 6 boxes without area; training drops them [degenerate-boxes]" in printed
    assert "    annotations[4] (id 105, image id 4) of d.png: 'cat' at (5, 6), 0 x 20 px\n" in printed
    assert "    remedy: draw them anew or remove them; --fix removes them\n" in printed
    assert "\n2 warnings\n" in printed


def test_errors_exit_with_2_after_the_whole_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_sets(tmp_path, FLAWED)
    (tmp_path / "val/b.png").unlink()
    assert main(overrides(tmp_path)) == 2
    output = capsys.readouterr()
    assert "error: val: 1 of 3 images missing" in output.out
    assert "\n1 error, 2 warnings\n" in output.out
    assert output.err == ""


def test_a_dataset_that_cannot_be_read_is_an_error_beside_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_sets(tmp_path, FLAWED)
    (tmp_path / "val.json").write_text("{")
    assert main([*overrides(tmp_path), "--json", str(tmp_path / "report.json")]) == 2
    printed = capsys.readouterr().out
    assert f"error: val: {tmp_path}/val.json:1:2: the annotation file is no valid JSON" in printed
    assert "warning: train: 1 of 6 boxes without area" in printed
    findings = json.loads((tmp_path / "report.json").read_text())["findings"]
    assert [finding["check"] for finding in findings] == ["unreadable-dataset", "degenerate-boxes", "leaving-boxes"]


def test_a_held_out_part_is_checked_as_val(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_sets(tmp_path)
    assert main(overrides(tmp_path, with_val=False)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"train  {tmp_path}/train.json (COCO): 1 images")
    assert lines[1].startswith(f"val    {tmp_path}/train.json (COCO): 2 images")


def test_classes_of_the_configuration_are_applied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_sets(tmp_path)
    assert main([*overrides(tmp_path), "data.classes=[dog]"]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("3 images, 2 boxes, 1 classes")
    assert main([*overrides(tmp_path), "data.classes=[hen]"]) == 2
    assert "has no class 'hen'; it has cat, dog" in capsys.readouterr().err


def test_a_bare_dataset_is_checked_on_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_sets(tmp_path, FLAWED)
    assert main(["--data", str(tmp_path / "train.json"), "--images", str(tmp_path / "train")]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("data  ")
    assert "warning: data: 1 of 6 boxes without area" in printed


def write_voc(folder: Path) -> None:
    """Three VOC images of 80 x 60 in two image sets; val calls its class by another name."""
    write_set(folder, document_of(CLEAN), "JPEGImages")
    for name in ("Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    for stem, label, box in (
        ("a", "cell", (5, 6, 30, 20)),
        ("b", "cell", (9, 9, 9, 30)),
        ("c", "Cell", (1, 1, 20, 20)),
    ):
        corners = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
        (folder / f"Annotations/{stem}.xml").write_text(
            f"<annotation><filename>{stem}.png</filename><size><width>80</width><height>60</height></size>"
            f"<object><name>{label}</name><bndbox>{corners}</bndbox></object></annotation>"
        )
    (folder / "ImageSets/Main/train.txt").write_text("a\nb\n")
    (folder / "ImageSets/Main/val.txt").write_text("c\n")


def test_splits_of_a_bare_dataset_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_voc(tmp_path)
    assert main(["--data", str(tmp_path), "--split", "train", "--split", "val", "--max-examples", "1"]) == 2
    printed = capsys.readouterr().out
    assert "error: train and val: classes of val that train does not have: 'Cell' [unknown-classes]" in printed
    assert "'Cell', 1 boxes; did you mean 'cell'?: Annotations/c.xml, object 1" in printed
    assert "Annotations/b.xml, object 1: 'cell' at (8, 8), 0 x 22 px" in printed


def test_quick_decodes_nothing_but_finds_missing_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_sets(tmp_path, FLAWED)
    (tmp_path / "train/a.png").write_bytes(b"")
    (tmp_path / "train/c.png").unlink()
    monkeypatch.setattr("detector.inspect.doctor.image_facts.decode_image", lambda path: pytest.fail(f"read {path}"))
    assert main([*overrides(tmp_path), "--quick"]) == 2
    printed = capsys.readouterr().out
    assert "c.png (image id 3)" in printed
    assert "a.png (image id 1)" not in printed
    assert "no image was decoded" in printed


def test_a_second_check_knows_the_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_sets(tmp_path)
    main(overrides(tmp_path))
    capsys.readouterr()
    main(overrides(tmp_path))
    assert "; 0 images decoded, 6 known from an earlier check" in capsys.readouterr().out


def test_the_page_and_the_json_are_written(tmp_path: Path) -> None:
    make_sets(tmp_path, FLAWED)
    page, report = tmp_path / "page.html", tmp_path / "report.json"
    assert main([*overrides(tmp_path), "--html", str(page), "--json", str(report)]) == 0
    assert "of d.png" in page.read_text()
    assert [finding["severity"] for finding in json.loads(report.read_text())["findings"]] == ["warning", "warning"]


def test_a_mended_copy_of_both_splits_is_clean_and_the_datasets_are_untouched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_sets(tmp_path, FLAWED, FLAWED)
    (tmp_path / "val/b.png").write_bytes(b"")
    before = files_below(tmp_path)
    bad = tmp_path / "bad.txt"
    arguments = [*overrides(tmp_path), "--fix", str(tmp_path / "out.json"), "--quarantine", str(bad)]
    assert main(arguments) == 2  # what was checked has the error still
    printed = capsys.readouterr().out
    after = files_below(tmp_path)
    assert {name: after[name] for name in before} == before
    assert sorted(after.keys() - before.keys()) == ["bad.txt", "out.json", "out.log", "out.val.json", "out.val.log"]
    assert bad.read_text() == f"{tmp_path}/val/b.png\tthe image file is empty (0 bytes)\n"
    assert "changes: 2, see" in printed
    assert "changes: 3, see" in printed
    lines = [line.split() for line in printed.splitlines() if line.startswith("  data.")]
    assert main(["--config", "retina_demo", *(override for line in lines for override in line)]) == 0
    assert main(arguments) == 2  # again, over what it wrote itself


@pytest.mark.parametrize(("folder", "name"), [("2012", "2013"), ("a: b", "x #1.json"), ("plain", "two words.json")])
def test_the_words_that_read_a_mended_copy_mean_the_files_that_were_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make_sets(tmp_path, FLAWED)
    (tmp_path / "train").rename(tmp_path / folder)
    main(["--data", "train.json", "--images", folder, "--fix", name])
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("  ") and "data.train" in line)
    train = load_config("retina_demo", [*shlex.split(line), "data.train.annotations=null"]).data.train
    assert (train.path, train.images) == (name, folder)


def test_a_held_out_part_is_mended_with_its_dataset(tmp_path: Path) -> None:
    make_sets(tmp_path, FLAWED)
    main([*overrides(tmp_path, with_val=False), "--fix", str(tmp_path / "out.json")])
    assert len(json.loads((tmp_path / "out.json").read_text())["images"]) == 4
    assert not (tmp_path / "out.val.json").exists()


def test_a_mended_voc_dataset_has_one_list_of_classes(tmp_path: Path) -> None:
    write_voc(tmp_path / "set")
    arguments = ["--data", str(tmp_path / "set"), "--split", "train", "--split", "val"]
    main([*arguments, "--fix", str(tmp_path / "out.json")])
    documents = [json.loads((tmp_path / name).read_text()) for name in ("out.json", "out.val.json")]
    assert (
        documents[0]["categories"]
        == documents[1]["categories"]
        == [
            {"id": 1, "name": "Cell"},
            {"id": 2, "name": "cell"},
        ]
    )
    assert [len(document["annotations"]) for document in documents] == [1, 1]


@pytest.mark.parametrize(
    ("option", "target", "message"),
    [
        ("--fix", "train.json", r"train.json: exists already and is not from an earlier --fix \(there is no train.log"),
        ("--html", "val.json", r"val.json: is part of what is checked and is never written to"),
        ("--json", "train/a.png", r"a.png: is part of what is checked and is never written to"),
        ("--quarantine", "nowhere/list.txt", r"list.txt: cannot be written: the folder .*nowhere does not exist"),
    ],
)
def test_nothing_of_the_users_is_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, target: str, message: str
) -> None:
    make_sets(tmp_path, FLAWED)
    before = files_below(tmp_path)
    assert main([*overrides(tmp_path), option, str(tmp_path / target)]) == 2
    output = capsys.readouterr()
    assert re.search(message, output.err)
    assert output.out == ""
    assert files_below(tmp_path) == before


def test_a_file_inside_a_dataset_folder_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_voc(tmp_path)
    target = tmp_path / "ImageSets/Main/train.txt"
    assert main(["--data", str(tmp_path), "--split", "train", "--quarantine", str(target)]) == 2
    assert "is part of what is checked" in capsys.readouterr().err
    assert target.read_text() == "a\nb\n"


def test_two_outputs_of_one_name_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_sets(tmp_path)
    same = str(tmp_path / "out.txt")
    assert main([*overrides(tmp_path), "--html", same, "--json", same]) == 2
    assert "out.txt: would be written twice" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either --config FILE or --data PATH"),
        (["--config", "retina_demo", "--data", "x"], "give either --config FILE or --data PATH"),
        (
            ["--config", "retina_demo", "--split", "val"],
            r"--split: goes with --data; with --config use data.train.split",
        ),
        (["--data", "x", "seed=1"], "seed=1: values of a configuration go with --config"),
        (["--data", "x", "--quick", "--fix", "y"], "--fix and --quarantine need to look into the images"),
        (["--config", "retina_demo", "data.trian.path=x"], r"unknown key 'data.trian.path'"),
    ],
)
def test_a_wrong_command_line_is_told(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert main(arguments) == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_dataset_that_is_not_there_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path / "nowhere"), "--fix", str(tmp_path / "out.json")]) == 2
    output = capsys.readouterr()
    assert "nowhere: no such file or folder" in output.out
    assert "--fix: nothing is written, because data cannot be read" in output.err


def test_mixed_up_boxes_are_an_error_and_not_mended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corners = {f"{i}.png": [("cat", 30 + i % 3, 25, 70, 55), ("dog", 40, 30, 78, 58)] for i in range(6)}
    make_sets(tmp_path, corners)
    assert main([*overrides(tmp_path), "--fix", str(tmp_path / "out.json")]) == 2
    output = capsys.readouterr()
    assert "the boxes look like (x1, y1, x2, y2), where COCO has (x, y, width, height) [mixed-up-boxes]" in output.out
    assert "clipping would destroy them" in output.err
    assert not (tmp_path / "out.json").exists()
