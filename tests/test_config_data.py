"""Where the data lie: alternatives that replace each other on the command line, and what is said of wrong ones."""

import re
from pathlib import Path
from typing import Any

import pytest

from detector.config import HoldoutConfig, SplitConfig
from detector.config_io import ConfigError, LoadedConfig, dump_config, load_config_with_origins

FILES = "{annotations: t.json, images: t}"
FOLDER = "{path: set, format: voc, split: train}"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(*overrides: str, train: str = FILES, val: str | None = FILES, holdout: str | None = None) -> LoadedConfig:
    """Load a recipe with these sections, from x.yaml."""
    lines = ["output_dir: runs/x", "schedule: {max_steps: 1}", "data:", f"  train: {train}"]
    lines += [f"  {name}: {value}" for name, value in (("val", val), ("holdout", holdout)) if value is not None]
    Path("x.yaml").write_text("\n".join(lines), encoding="utf-8")
    return load_config_with_origins("x.yaml", overrides)


def load_dumped(*overrides: str, **sections: Any) -> LoadedConfig:
    """Load what a run writes of such a recipe: every value, those that are null too."""
    Path("y.yaml").write_text(dump_config(load(**sections).config), encoding="utf-8")
    return load_config_with_origins("y.yaml", overrides)


def error_of(*overrides: str, **sections: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(*overrides, **sections)
    return str(caught.value)


# Alternatives


@pytest.mark.parametrize("loader", [load, load_dumped])
def test_a_path_replaces_the_files_annotations_with_their_folder(loader: Any) -> None:
    loaded = loader("data.val.path=voc", "data.val.split=val")
    assert loaded.config.data.val == SplitConfig(path="voc", split="val")
    assert loaded.config.data.train == SplitConfig(annotations="t.json", images="t")
    assert len(loaded.notes) == 1
    assert re.fullmatch(
        r"data\.val\.annotations: t\.json \([xy]\.yaml:\d+\) gives way to data\.val\.path: voc \(the command line\)",
        loaded.notes[0],
    )
    assert ("data", "val", "images") not in loaded.origins


@pytest.mark.parametrize("loader", [load, load_dumped])
def test_annotations_replace_the_files_path_with_its_format_and_split(loader: Any) -> None:
    loaded = loader("data.train={annotations: a.json, images: a}", train=FOLDER)
    assert loaded.config.data.train == SplitConfig(annotations="a.json", images="a")
    assert len(loaded.notes) == 1
    assert "data.train.path: set (" in loaded.notes[0]


@pytest.mark.parametrize("loader", [load, load_dumped])
def test_a_new_annotation_file_keeps_the_files_folder_and_a_new_path_its_format(loader: Any) -> None:
    loaded = loader("data.train.annotations=small.json", "data.val.path=other", val=FOLDER)
    assert loaded.config.data.train == SplitConfig(annotations="small.json", images="t")
    assert loaded.config.data.val == SplitConfig(path="other", format="voc", split="train")
    assert loaded.notes == ()


@pytest.mark.parametrize("loader", [load, load_dumped])
@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("data.holdout.fraction=0.1", HoldoutConfig(fraction=0.1)),
        ("data.holdout={seed: 3, group: x}", HoldoutConfig(seed=3, group="x")),
        ("data.holdout={}", HoldoutConfig()),
    ],
)
def test_a_held_out_part_replaces_the_validation_set(loader: Any, override: str, expected: HoldoutConfig) -> None:
    loaded = loader(override)
    assert (loaded.config.data.val, loaded.config.data.holdout) == (None, expected)
    assert len(loaded.notes) == 1
    assert loaded.notes[0].startswith("data.val: {annotations: t.json, images: t")
    assert ("data", "val", "images") not in loaded.origins
    assert loaded.config.data.train == SplitConfig(annotations="t.json", images="t")


@pytest.mark.parametrize("loader", [load, load_dumped])
def test_a_validation_set_replaces_the_held_out_part(loader: Any) -> None:
    loaded = loader("data.val.path=v", train=FOLDER, val=None, holdout="{fraction: 0.1, seed: 4}")
    assert (loaded.config.data.val, loaded.config.data.holdout) == (SplitConfig(path="v"), None)
    assert len(loaded.notes) == 1
    assert loaded.notes[0].startswith("data.holdout: {fraction: 0.1, seed: 4")


@pytest.mark.parametrize("loader", [load, load_dumped])
def test_values_of_the_alternative_in_force_replace_nothing(loader: Any) -> None:
    loaded = loader("data.holdout.seed=7", val=None, holdout="{fraction: 0.1}")
    assert loaded.config.data.holdout == HoldoutConfig(fraction=0.1, seed=7)
    loaded = loader("data.val.images=w", "data.train.path=null", "data.holdout=null")
    assert loaded.config.data.val == SplitConfig(annotations="t.json", images="w")
    assert loaded.notes == ()


def test_an_empty_section_on_the_command_line_leaves_the_files_keys() -> None:
    loaded = load("data.holdout={}", "data={}", val=None, holdout="{fraction: 0.1}")
    assert loaded.config.data.holdout == HoldoutConfig(fraction=0.1)


@pytest.mark.parametrize("section", [FILES, FOLDER])
def test_a_dumped_recipe_is_the_same_recipe(section: str) -> None:
    for parts in ({"val": section}, {"val": None, "holdout": "{group: '^a'}"}):
        assert load_dumped(train=section, **parts).config == load(train=section, **parts).config


# Errors


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (
            "{path: p, annotations: a, images: i}",
            "data.train (from x.yaml:4): exactly one of data.train.annotations and data.train.path is needed, both are "
            "set (data.train.annotations from x.yaml:4, data.train.path from x.yaml:4)",
        ),
        (
            "{split: train}",
            "data.train (from x.yaml:4): exactly one of data.train.path and data.train.annotations is needed, neither "
            "is set; data.train.path names the folder or file of a dataset in any format",
        ),
        (
            "{annotations: a}",
            "data.train.images (default): the folder of the images is needed beside data.train.annotations "
            "(data.train.annotations from x.yaml:4)",
        ),
        (
            "{annotations: a, images: i, format: yolo}",
            "data.train.format (from x.yaml:4): yolo does not go with data.train.annotations, a COCO file; use "
            "data.train.path (data.train.annotations from x.yaml:4)",
        ),
        (
            "{annotations: a, images: i, split: test}",
            "data.train.split (from x.yaml:4): test does not go with data.train.annotations, one whole file; use "
            "data.train.path (data.train.annotations from x.yaml:4)",
        ),
        (
            "{path: ''}",
            "data.train.path (from x.yaml:4): expected a string that is not empty or null, found the string ",
        ),
    ],
)
def test_a_wrong_split_is_named_by_its_full_key_and_origin(train: str, message: str) -> None:
    assert error_of(train=train).startswith(message)


def test_the_errors_of_several_splits_stand_together_with_their_origins() -> None:
    message = error_of("data.val.format=voc", "data.train.annotations=null")
    assert "\n- data.val.format (from the command line): voc does not go with data.val.annotations" in message
    assert "\n- data.train (from x.yaml:4): exactly one of " in message


def test_an_expression_that_is_none_is_named_with_the_reason() -> None:
    assert error_of("data.holdout.group='(a .path'") == (
        "data.holdout.group (from the command line): '(a .path' is no regular expression: missing ), unterminated "
        "subpattern at position 0"
    )


def test_one_of_validation_set_and_held_out_part_is_needed() -> None:
    assert error_of(val=None).startswith(
        "data (from x.yaml:3): exactly one of data.val and data.holdout is needed, neither is set; without a validation"
    )
    message = error_of("data.val.path=v", "data.holdout.fraction=0.1")
    assert "exactly one of data.val and data.holdout is needed, both are set" in message
    assert "data.holdout.fraction from the command line" in message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "data.holdout.fraction=1",
            "data.holdout.fraction (from the command line): expected a number above 0 and below 1",
        ),
        (
            "data.fraction=0",
            "data.fraction (from the command line): expected a number above 0 and of at most 1, found 0",
        ),
        (
            "data.classes=[]",
            "data.classes (from the command line): expected a list of at least one value, each a string",
        ),
        (
            "data.empty_images=1",
            "data.empty_images (from the command line): expected keep or drop or a number of at least ",
        ),
        (
            "data.repeat_thresh=1",
            "data.repeat_thresh (from the command line): expected a number above 0 and below 1 or ",
        ),
    ],
)
def test_values_out_of_range_say_what_is_expected(override: str, message: str) -> None:
    assert error_of(override).startswith(message)
