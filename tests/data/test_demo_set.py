"""The generated set: reproducible, not trivial, and annotated to the pixel."""

import json
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from pycocotools.coco import COCO

from detector.data.demo_set import DemoReport, draw_demo_scene, format_report, make_demo_set
from detector.data.demo_set.coco_writer import coco_annotation, run_lengths
from detector.data.demo_set.scenes import CLASS_NAMES, CLASSES, Scene, SceneObject, object_size, object_stencil
from detector.data.demo_set.shapes import cross, disc, square, star, triangle, unit_area
from detector.data.demo_set.textures import paint, random_fill
from detector.errors import UserError

PAIRS = (("square", "triangle"), ("striped_disc", "checkered_disc"))
NUM_SCENES = 120


def all_bytes(folder: Path) -> dict[str, bytes]:
    """Contents of every file below a folder, by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_demo_scene(0, "train", index) for index in range(NUM_SCENES)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoReport:
    return make_demo_set(tmp_path_factory.mktemp("demo") / "set", seed=3, num_train=24, num_val=6)


def load_coco(path: Path, capsys: pytest.CaptureFixture[str]) -> COCO:
    coco = COCO(str(path))
    capsys.readouterr()
    return coco


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(demo: DemoReport, tmp_path: Path) -> None:
    np.random.seed(123)  # noqa: NPY002  (numpy's global state must not matter)
    make_demo_set(tmp_path / "again", seed=3, num_train=24, num_val=6)
    make_demo_set(tmp_path / "other", seed=4, num_train=24, num_val=6)
    first, again, other = (all_bytes(path) for path in (demo.output_dir, tmp_path / "again", tmp_path / "other"))
    assert again == first
    assert other.keys() == first.keys()
    assert not any(other[name] == first[name] for name in first)


def test_an_image_depends_on_neither_the_number_of_images_nor_the_order_of_drawing(
    demo: DemoReport, tmp_path: Path
) -> None:
    make_demo_set(tmp_path, seed=3, num_train=5, num_val=1)
    whole, part = all_bytes(demo.output_dir), all_bytes(tmp_path)
    images = [name for name in part if name.endswith(".jpg")]
    assert len(images) == 6
    assert all(part[name] == whole[name] for name in images)
    np.testing.assert_array_equal(draw_demo_scene(3, "val", 5).image, draw_demo_scene(3, "val", 5).image)


def test_splits_share_no_image(demo: DemoReport) -> None:
    contents = [content for name, content in all_bytes(demo.output_dir).items() if name.endswith(".jpg")]
    assert len(contents) == len(set(contents)) == 30


def test_scenes_have_varied_sizes_between_192_and_256_pixels_in_both_orientations(scenes: list[Scene]) -> None:
    sizes = np.array([scene.image.shape[:2] for scene in scenes])
    assert sizes.min() >= 192
    assert sizes.max() <= 256
    assert len(np.unique(sizes, axis=0)) > NUM_SCENES / 2
    landscape = (sizes[:, 1] > sizes[:, 0]).mean()
    assert 0.4 < landscape < 0.8


def test_enough_objects_are_small_and_enough_are_partly_hidden(scenes: list[Scene]) -> None:
    objects = [item for scene in scenes for item in scene.objects if not item.is_crowd]
    longer_sides = [max(np.ptp(axis) + 1 for axis in np.nonzero(item.visible)) for item in objects]
    visible = np.array([item.visible.sum() / item.full_area for item in objects])
    assert np.mean(np.array(longer_sides) < 24) >= 0.30
    assert np.mean(visible <= 0.9) >= 0.20
    assert visible.min() >= 0.5
    assert min(longer_sides) >= 7
    assert max(longer_sides) > 90


def test_every_class_and_crowds_and_images_without_objects_occur(scenes: list[Scene]) -> None:
    counts = np.bincount([item.class_index for scene in scenes for item in scene.objects if not item.is_crowd])
    assert len(counts) == len(CLASS_NAMES) >= 5
    assert counts.min() > 0.7 * counts.mean()
    assert 0.01 < np.mean([not scene.objects for scene in scenes]) < 0.12
    assert any(item.is_crowd for scene in scenes for item in scene.objects)
    numbers = [sum(not item.is_crowd for item in scene.objects) for scene in scenes if scene.objects]
    assert (min(numbers), max(numbers)) == (4, 13)


def test_outlines_of_all_classes_cover_the_same_area() -> None:
    for outline in (square(), triangle(), disc(), cross(), star()):
        np.testing.assert_allclose(unit_area(outline), outline, atol=1e-9)  # area 1, centroid 0
    rng = np.random.default_rng(0)
    areas = [object_stencil(rng, index, 40.0, (50.0, 50.0)).alpha.sum() for index in range(len(CLASS_NAMES))]
    np.testing.assert_allclose(areas, 1600, rtol=0.03)  # cv2 fills the outline's own pixels too


@pytest.mark.parametrize("pair", PAIRS)
def test_a_pair_painted_with_the_same_draws_has_equal_colour_statistics(pair: tuple[str, str]) -> None:
    statistics = []
    for name in pair:
        rng, index = np.random.default_rng(7), CLASS_NAMES.index(name)
        stencil = object_stencil(rng, index, 30.0, (40.0, 40.0))
        look = CLASSES[index]
        fill = random_fill(rng, look.pattern, hue=look.hue, size=30.0, behind=np.full(3, 128.0))
        statistics.append(weighted_statistics(paint(stencil, fill, rng), stencil.alpha))
    np.testing.assert_allclose(statistics[0], statistics[1], atol=0.05)


def weighted_statistics(colours: npt.NDArray[np.float32], weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """[6] mean and standard deviation of the channels."""
    mean = np.average(colours, axis=(0, 1), weights=np.repeat(weights[..., None], 3, axis=2))
    variance = np.average((colours - mean) ** 2, axis=(0, 1), weights=np.repeat(weights[..., None], 3, axis=2))
    return np.concatenate([mean, np.sqrt(variance)])


@pytest.mark.parametrize("pair", PAIRS)
def test_a_pair_has_equal_colour_statistics_in_the_finished_images(pair: tuple[str, str], scenes: list[Scene]) -> None:
    """Compare the distributions over many objects, in standard errors: colour alone must not tell the classes apart."""
    samples = []
    for name in pair:
        crops = [
            scene.image[item.visible].astype(np.float64)
            for scene in scenes
            for item in scene.objects
            if not item.is_crowd and CLASS_NAMES[item.class_index] == name
        ]
        assert len(crops) > 80
        samples.append(np.array([[*crop.mean(axis=0), *crop.std(axis=0)] for crop in crops]))
    difference = samples[0].mean(axis=0) - samples[1].mean(axis=0)
    standard_error = np.sqrt(sum(sample.var(axis=0) / len(sample) for sample in samples))
    assert np.abs(difference / standard_error).max() < 3.5
    assert np.abs(difference[3:]).max() < 3.0  # contrast, in grey levels


def test_textured_classes_are_large_enough_for_their_texture() -> None:
    rng = np.random.default_rng(0)
    for name in ("striped_disc", "checkered_disc"):
        assert min(object_size(rng, CLASS_NAMES.index(name)) for _ in range(500)) >= 16


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning:pycocotools")
def test_boxes_areas_and_masks_agree_inside_the_image(demo: DemoReport, capsys: pytest.CaptureFixture[str]) -> None:
    for split in demo.splits:
        coco = load_coco(demo.output_dir / "annotations" / f"{split.name}.json", capsys)
        assert [coco.cats[i]["name"] for i in sorted(coco.cats)] == list(CLASS_NAMES)
        assert len(coco.imgs) == split.num_images
        assert len(coco.anns) == split.num_objects + split.num_crowds
        for entry in coco.anns.values():
            image = coco.imgs[entry["image_id"]]
            mask = coco.annToMask(entry).astype(bool)
            assert mask.shape == (image["height"], image["width"])
            ys, xs = np.nonzero(mask)
            assert entry["bbox"] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
            assert entry["area"] == mask.sum()
            assert 0 < entry["visible_fraction"] <= 1


def test_image_files_have_the_annotated_sizes(demo: DemoReport, capsys: pytest.CaptureFixture[str]) -> None:
    for split in demo.splits:
        coco = load_coco(demo.output_dir / "annotations" / f"{split.name}.json", capsys)
        for image in coco.imgs.values():
            pixels = cv2.imread(str(demo.output_dir / split.name / image["file_name"]))
            assert pixels is not None
            assert pixels.shape == (image["height"], image["width"], 3)


def test_objects_stand_out_from_what_surrounds_them(scenes: list[Scene]) -> None:
    """The mean colour of nearly every object differs clearly from that of the frame around its box."""
    distances = []
    for scene in scenes:
        owned = np.any([item.visible for item in scene.objects], axis=0) if scene.objects else None
        for item in scene.objects:
            ring = cv2.dilate(item.visible.astype(np.uint8), np.ones((9, 9))).astype(bool) & ~owned
            if ring.sum() > 20:
                distances.append(
                    np.linalg.norm(scene.image[item.visible].mean(axis=0) - scene.image[ring].mean(axis=0))
                )
    assert np.quantile(distances, 0.05) > 25


def test_run_lengths_decode_to_the_mask(rng_mask: npt.NDArray[np.bool_]) -> None:
    counts = run_lengths(rng_mask)
    values = np.repeat(np.arange(len(counts)) % 2, counts).astype(bool)
    np.testing.assert_array_equal(values.reshape(rng_mask.shape[::-1]).T, rng_mask)


@pytest.fixture(params=["first pixel set", "first pixel free", "full", "one pixel"])
def rng_mask(request: pytest.FixtureRequest) -> npt.NDArray[np.bool_]:
    mask = np.random.default_rng(0).random((7, 5)) < 0.5
    mask[0, 0] = request.param == "first pixel set"
    if request.param == "full":
        mask[:] = True
    if request.param == "one pixel":
        mask[:] = False
        mask[3, 2] = True
    return mask


def test_an_annotation_describes_the_visible_part() -> None:
    visible = np.zeros((10, 12), bool)
    visible[2:5, 3:9] = True
    entry = coco_annotation(4, 9, SceneObject(class_index=2, visible=visible, full_area=24, is_crowd=False))
    assert entry["bbox"] == [3, 2, 6, 3]
    assert (entry["id"], entry["image_id"], entry["category_id"], entry["iscrowd"]) == (4, 9, 3, 0)
    assert (entry["area"], entry["visible_fraction"]) == (18, 0.75)


def test_the_report_counts_what_the_files_hold(demo: DemoReport) -> None:
    train = demo.splits[0]
    content = json.loads((demo.output_dir / "annotations" / "train.json").read_text())
    objects = [entry for entry in content["annotations"] if entry["iscrowd"] == 0]
    assert (train.name, train.num_images, train.num_objects) == ("train", 24, len(objects))
    assert sum(train.num_per_class.values()) == train.num_objects
    assert train.num_small == sum(e["bbox"][2] < 24 and e["bbox"][3] < 24 for e in objects)
    assert train.num_hidden == sum(e["visible_fraction"] <= 0.9 for e in objects)
    text = format_report(demo)
    assert f"train: 24 images ({train.num_empty_images} without objects), {train.num_objects} objects" in text
    assert f"striped_disc {train.num_per_class['striped_disc']}" in text


def test_a_second_run_writes_nothing(demo: DemoReport) -> None:
    before = {path: path.stat().st_mtime_ns for path in demo.output_dir.rglob("*")}
    again = make_demo_set(demo.output_dir, seed=3, num_train=24, num_val=6)
    assert again.was_there
    assert not demo.was_there
    assert again.splits == demo.splits
    assert {path: path.stat().st_mtime_ns for path in demo.output_dir.rglob("*")} == before
    assert "already there" in format_report(again)


@pytest.mark.parametrize("damage", ["image", "annotations", "interrupted"])
def test_a_damaged_set_is_written_anew(damage: str, tmp_path: Path) -> None:
    make_demo_set(tmp_path, num_train=2, num_val=1)
    whole = all_bytes(tmp_path)
    if damage == "image":
        (tmp_path / "train" / "000002.jpg").unlink()
    elif damage == "annotations":
        (tmp_path / "annotations" / "val.json").unlink()
    else:
        manifest = json.loads((tmp_path / "demo_set.json").read_text())
        (tmp_path / "demo_set.json").write_text(json.dumps(manifest | {"complete": False, "num_train": 9}))
    assert not make_demo_set(tmp_path, num_train=2, num_val=1).was_there
    assert all_bytes(tmp_path) == whole


def test_another_demo_set_is_replaced_only_on_request(tmp_path: Path) -> None:
    make_demo_set(tmp_path, num_train=3, num_val=1)
    (tmp_path / "val" / "mine.txt").write_text("keep")
    with pytest.raises(
        UserError, match=r"another demo set \(seed 0, 3 \+ 1 images.*asked for \(seed 1, 2 \+ 1.*--over"
    ):
        make_demo_set(tmp_path, seed=1, num_train=2, num_val=1)
    report = make_demo_set(tmp_path, seed=1, num_train=2, num_val=1, overwrite=True)
    assert report.splits[0].num_images == 2
    assert sorted(path.name for path in (tmp_path / "train").iterdir()) == ["000001.jpg", "000002.jpg"]
    assert (tmp_path / "val" / "mine.txt").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_other_files_is_never_touched(overwrite: bool, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"holds files that are no demo set \(there is no demo_set.json\)"):
        make_demo_set(tmp_path, num_train=1, num_val=1, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="num_val = 0, expected at least 1"):
        make_demo_set(tmp_path, num_val=0)
    with pytest.raises(UserError, match="seed = -1, expected at least 0"):
        make_demo_set(tmp_path, seed=-1)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file, expected a folder"):
        make_demo_set(tmp_path / "file")
    with pytest.raises(UserError, match=r"file.*cannot write the demo set"):
        make_demo_set(tmp_path / "file" / "below")
    (tmp_path / "demo_set.json").write_text("[]")
    with pytest.raises(UserError, match=r"demo_set.json: not a demo set's manifest"):
        make_demo_set(tmp_path)


def test_annotations_that_are_no_longer_json_are_named(tmp_path: Path) -> None:
    make_demo_set(tmp_path, num_train=1, num_val=1)
    (tmp_path / "annotations" / "val.json").write_text("{")
    with pytest.raises(UserError, match=r"val.json: not the JSON that was written; delete .*demo_set.json"):
        make_demo_set(tmp_path, num_train=1, num_val=1)
