"""From ``data`` of a configuration to the images to learn from and to be scored on, and what these are scored by."""

import contextlib
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detector.config import DataConfig, HoldoutConfig, SplitConfig
from detector.data.opening import OpenSplit, open_train_and_val, open_val
from detector.errors import UserError
from detector.evaluation.coco import METRICS, score
from detector.evaluation.ground_truth import ground_truth_of, load_ground_truth
from detector.evaluation.results import CocoResults
from detector.structures import Categories
from tests.data.contents import random_coco
from tests.data.formats.files import voc_object, voc_xml, write, write_image


def write_coco(folder: Path, name: str, document: dict[str, Any]) -> SplitConfig:
    """Write an annotation file; its images are not needed, but their folder is."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return SplitConfig(annotations=str(path), images=str(folder / "images"))


def write_voc_split(folder: Path, split: str, images: dict[str, list[str]]) -> SplitConfig:
    """Write images with one box of each of their classes; a class in capitals is difficult."""
    for name, classes in images.items():
        flags = ["<difficult>1</difficult>" if found.isupper() else "" for found in classes]
        objects = [voc_object(found.lower(), extra=flag) for found, flag in zip(classes, flags, strict=True)]
        write(folder / "Annotations" / f"{name}.xml", voc_xml(*objects))
        write_image(folder / "JPEGImages" / f"{name}.jpg")
    write(folder / "ImageSets/Main" / f"{split}.txt", "\n".join(images))
    return SplitConfig(path=str(folder), split=split)


def held_out(train: SplitConfig, **changes: Any) -> DataConfig:
    return DataConfig(**{"train": train, "holdout": HoldoutConfig(fraction=0.4, seed=2), **changes})


def ids_of(split: OpenSplit) -> list[int]:
    return split.content.image_ids.tolist()  # type: ignore[no-any-return]


def boxes_by_image(split: OpenSplit) -> Counter[tuple[int, str]]:
    content = split.content
    names = [content.categories.names[label] for label in content.labels]
    return Counter(zip(content.image_ids[content.image_index].tolist(), names, strict=True))


# Parts


def test_learning_and_scoring_share_no_image_and_leave_none_out(tmp_path: Path) -> None:
    document = random_coco(0, num_images=20)
    train, val = open_train_and_val(held_out(write_coco(tmp_path, "all", document)), seed=0)
    assert sorted(ids_of(train) + ids_of(val)) == sorted(image["id"] for image in document["images"])
    assert len(val.dataset) == 8
    assert train.dataset.table.image_ids.tolist() == ids_of(train)
    total = Counter(entry["image_id"] for entry in document["annotations"])
    for split in (train, val):
        assert Counter(split.content.image_ids[split.content.image_index].tolist()) == {
            i: total[i] for i in ids_of(split) if total[i]
        }


def test_what_is_held_out_depends_on_its_own_seed_alone(tmp_path: Path) -> None:
    source = write_coco(tmp_path, "all", random_coco(0, num_images=30))
    parts = [ids_of(open_train_and_val(held_out(source, fraction=0.5), seed=seed)[1]) for seed in (0, 0, 1)]
    assert parts[0] == parts[1] == parts[2]
    assert ids_of(open_val(held_out(source, fraction=0.1, empty_images="drop"), Categories((), ()))) == parts[0]
    other = held_out(source, holdout=HoldoutConfig(fraction=0.4, seed=3))
    assert ids_of(open_train_and_val(other, seed=0)[1]) != parts[0]


def test_the_part_to_learn_from_is_drawn_by_the_seed_of_the_run(tmp_path: Path) -> None:
    data = held_out(write_coco(tmp_path, "all", random_coco(0, num_images=40)), fraction=0.5)
    parts = [ids_of(open_train_and_val(data, seed=seed)[0]) for seed in (0, 0, 1)]
    assert len(parts[0]) == 12  # 40 - 16 held out, and half of the rest
    assert parts[0] == parts[1]
    assert parts[0] != parts[2]


def test_groups_stay_on_one_side(tmp_path: Path) -> None:
    document = random_coco(0, num_images=30)
    for number, image in enumerate(document["images"]):
        image["file_name"] = f"patient{number % 7}_{number}.png"
    rule = HoldoutConfig(fraction=0.3, group="^(patient[0-9]+)_")
    train, val = open_train_and_val(held_out(write_coco(tmp_path, "all", document), holdout=rule), seed=0)
    groups = [{name.partition("_")[0] for name in split.content.file_names} for split in (train, val)]
    assert groups[0].isdisjoint(groups[1])
    assert len(groups[0] | groups[1]) == 7


def test_only_the_images_to_learn_from_are_chosen_by_whether_they_have_boxes(tmp_path: Path) -> None:
    document = random_coco(0, num_images=20)
    empty = {image["id"] for image in document["images"]} - {entry["image_id"] for entry in document["annotations"]}
    assert len(empty) > 2
    train, val = open_train_and_val(held_out(write_coco(tmp_path, "all", document), empty_images="drop"), seed=0)
    assert empty.isdisjoint(ids_of(train))
    assert not empty.isdisjoint(ids_of(val))
    assert len(val.dataset) == 8


def test_images_with_crowds_only_are_kept_and_images_of_other_classes_only_are_dropped(tmp_path: Path) -> None:
    document = random_coco(0, num_images=3)
    ids = [image["id"] for image in document["images"]]
    box = {"bbox": [1, 1, 20, 20], "category_id": 5}
    document["annotations"] = [
        {**box, "image_id": ids[0], "iscrowd": 1},
        {**box, "image_id": ids[1], "category_id": 2},
        {**box, "image_id": ids[2]},
    ]
    source = write_coco(tmp_path, "all", document)
    data = DataConfig(train=source, val=source, empty_images="drop", classes=("class 5",))
    train, val = open_train_and_val(data, seed=0)
    assert ids_of(train) == [ids[0], ids[2]]
    assert ids_of(val) == ids
    assert train.dataset.table.ignore.tolist() == [True, False]


def test_nothing_left_to_learn_from_is_an_error_with_the_key(tmp_path: Path) -> None:
    document = random_coco(0)
    document["annotations"] = [entry for entry in document["annotations"] if entry["category_id"] != 5]
    source = write_coco(tmp_path, "all", document)
    for value in ("drop", 0.3):
        data = DataConfig(train=source, val=source, empty_images=value, classes=("class 5",))
        with pytest.raises(
            UserError,
            match=rf"^data\.empty_images: {value} leaves no image of {tmp_path}/all\.json, as none .* has a box",
        ):
            open_train_and_val(data, seed=0)


# Classes


def test_chosen_classes_are_learnt_and_scored_alone(tmp_path: Path) -> None:
    document = random_coco(3)
    source = write_coco(tmp_path, "all", document)
    data = DataConfig(train=source, val=source, classes=("class 11", "class 2"))
    train, val = open_train_and_val(data, seed=0)
    for split in (train, val):
        assert split.dataset.categories == Categories((2, 11), ("class 2", "class 11"))
        assert len(split.dataset) == len(document["images"])
        assert split.coco_file is None
    ground_truth = ground_truth_of(val)
    expected = [entry["bbox"] for entry in document["annotations"] if entry["category_id"] in (2, 11)]
    assert [entry["bbox"] for entry in ground_truth.dataset["annotations"]] == expected
    assert sorted(ground_truth.cats) == [2, 11]


def test_an_unknown_class_is_named_by_its_key(tmp_path: Path) -> None:
    data = held_out(write_coco(tmp_path, "all", random_coco(0)), classes=("class 5", "class 6"))
    with pytest.raises(
        UserError, match=r"^data\.classes: .*all\.json has no class 'class 6'; it has class 2, class 5,"
    ):
        open_train_and_val(data, seed=0)


def test_images_to_be_scored_on_have_the_classes_of_those_learnt_from_where_a_format_lists_none(
    tmp_path: Path,
) -> None:
    train = write_voc_split(tmp_path, "train", {"a": ["dog", "ant"], "b": ["eel"]})
    val = write_voc_split(tmp_path, "val", {"c": ["eel", "DOG"], "d": []})
    data = DataConfig(train=train, val=val)
    splits = open_train_and_val(data, seed=0)
    classes = Categories((1, 2, 3), ("ant", "dog", "eel"))
    assert [split.dataset.categories for split in splits] == [classes, classes]
    assert splits[1].content.labels.tolist() == [2, 1]
    alone = open_val(data, classes)
    assert alone.content.labels.tolist() == [2, 1]
    assert alone.coco_file is None
    entries = ground_truth_of(alone).dataset["annotations"]
    assert [(entry["category_id"], entry["iscrowd"], entry["id"]) for entry in entries] == [(3, 0, 1), (2, 1, 2)]


def test_a_class_to_be_scored_on_that_was_not_learnt_is_an_error(tmp_path: Path) -> None:
    train = write_voc_split(tmp_path, "train", {"a": ["dog"]})
    val = write_voc_split(tmp_path, "val", {"c": ["dog", "dogs"]})
    with pytest.raises(
        UserError,
        match=rf"^{tmp_path}: Annotations/c\.xml, object 2: unknown class 'dogs' \(1 such boxes\), expected one of "
        r"dog; did you mean 'dog'\?$",
    ):
        open_train_and_val(DataConfig(train=train, val=val), seed=0)


def test_a_held_out_part_has_all_classes_of_the_dataset(tmp_path: Path) -> None:
    source = write_voc_split(tmp_path, "train", {name: [name * 3] for name in "abcdefgh"})
    splits = open_train_and_val(held_out(source), seed=0)
    names = tuple(letter * 3 for letter in "abcdefgh")
    assert [split.dataset.categories for split in splits] == [Categories(tuple(range(1, 9)), names)] * 2
    found = boxes_by_image(splits[0]) + boxes_by_image(splits[1])
    assert found == Counter({(i + 1, name): 1 for i, name in enumerate(names)})


# What is scored by


@pytest.mark.parametrize("seed", range(5))
def test_the_ground_truth_of_a_whole_coco_file_is_the_same_from_its_content(tmp_path: Path, seed: int) -> None:
    source = write_coco(tmp_path, "all", random_coco(seed))
    _, val = open_train_and_val(DataConfig(train=source, val=source), seed=0)
    assert val.coco_file == tmp_path / "all.json"
    assert val.coco_file is not None
    expected = load_ground_truth(val.coco_file)
    assert ground_truth_of(val).dataset == expected.dataset
    by_content = ground_truth_of(OpenSplit(val.content, val.dataset, None))
    assert by_content.anns == expected.anns
    assert by_content.imgs == expected.imgs
    assert by_content.cats == expected.cats


def random_results(document: dict[str, Any], seed: int) -> list[dict[str, Any]]:
    """Shifted copies of the objects with random scores, and as many boxes anywhere."""
    rng = np.random.default_rng(seed)
    near = [
        {**entry, "bbox": (np.array(entry["bbox"]) + rng.normal(0, 2, 4)).clip(0.5).tolist()}
        for entry in document["annotations"]
    ]
    anywhere = [{**entry, "bbox": rng.uniform(1, 40, 4).tolist()} for entry in document["annotations"]]
    keys = ("image_id", "category_id", "bbox")
    return [{**{key: entry[key] for key in keys}, "score": float(rng.random())} for entry in near + anywhere]


def test_a_held_out_part_is_scored_as_pycocotools_scores_a_file_of_it(tmp_path: Path) -> None:
    document = random_coco(1, num_images=40, with_gaps=False)
    _, val = open_train_and_val(held_out(write_coco(tmp_path, "all", document)), seed=0)
    ids = set(ids_of(val))
    part = {
        "images": [image for image in document["images"] if image["id"] in ids],
        "annotations": [entry for entry in document["annotations"] if entry["image_id"] in ids],
        "categories": document["categories"],
    }
    assert any(entry["iscrowd"] for entry in part["annotations"])
    (tmp_path / "part.json").write_text(json.dumps(part), encoding="utf-8")
    results = random_results(part, seed=0)
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO(tmp_path / "part.json")
        evaluator = COCOeval(reference, reference.loadRes(results), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    metrics = score(ground_truth_of(val), CocoResults.from_entries(results)).metrics
    assert metrics == dict(zip(METRICS, evaluator.stats.tolist(), strict=True))
    assert 0.05 < metrics["AP"] < 0.95
