"""The shipped recipes load, hide no default, say what they must, and agree with what they were taken from."""

import ast
from pathlib import Path

import pytest

from detector.config_io import dump_config, find_config, load_config, load_config_with_origins
from detector.config_schema import all_keys, section_keys

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
COCO = ["retina_coco", "retina_coco_r18", "retina_coco_r101", "retina_paper"]
LEAVES = [key for key in all_keys() if section_keys(tuple(key.split("."))) is None]


def test_the_shipped_recipes_are_there():
    assert {path.stem for path in CONFIGS} >= {*COCO, "retina_demo", "retina_small", "retina_finetune"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_recipe_loads_and_dumps(path, tmp_path):
    config = load_config(path)
    assert config.output_dir == f"runs/{path.stem}"
    assert find_config(path.stem) == path
    (tmp_path / "x.yaml").write_text(dump_config(config), encoding="utf-8")
    assert load_config(tmp_path / "x.yaml") == config


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_recipe_writes_out_every_value_that_has_an_effect(path):
    # All parameters of the losses are written: another loss is chosen on the command line.
    loaded = load_config_with_origins(path)
    config = loaded.config
    without_effect = {
        "optimizer.betas" if config.optimizer.name == "sgd" else "optimizer.momentum",
        *(
            {"schedule.min_factor"}
            if config.schedule.name == "multistep"
            else {"schedule.milestones", "schedule.milestones_epochs", "schedule.decay_factor"}
        ),
        *(
            {"schedule.epochs", "schedule.milestones_epochs"}
            if config.schedule.max_steps is not None
            else {"schedule.max_steps", "schedule.milestones"}
        ),
        *(
            {"data.val.annotations", "data.val.images", "data.val.path", "data.val.format", "data.val.split"}
            if config.data.val is None
            else {"data.holdout.fraction", "data.holdout.seed", "data.holdout.group"}
        ),
        *(
            f"data.{name}.{key}"
            for name in ("train", "val")
            if (split := getattr(config.data, name)) is not None
            for key in (("annotations", "images") if split.annotations is None else ("path", "format", "split"))
        ),
    }
    written = {key for key in LEAVES if tuple(key.split(".")) in loaded.origins}
    assert set(LEAVES) - written == without_effect


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_recipe_opens_with_its_source_and_how_to_launch_it(path):
    header = path.read_text(encoding="utf-8").partition("\n\n")[0]
    assert all(line.startswith("#") for line in header.splitlines())
    assert "# Source: " in header
    launch = f"python tools/train.py --config configs/{path.stem}.yaml"
    assert f"{launch}\n" in header
    assert f"{launch} " in header, "one example with an override"
    if path.stem in COCO:
        for part in ("Published AP", "We have not run this recipe on COCO", "Deviations", "# Cost: "):
            assert part in header


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_overrides_in_the_header_work(path):
    header = path.read_text(encoding="utf-8").partition("\n\n")[0].replace("\\\n#", "")
    examples = [
        line.partition(".yaml ")[2].replace("'", "").split() for line in header.splitlines() if ".yaml " in line
    ]
    examples = [words for words in examples if words and all("=" in word for word in words)]
    assert examples
    for overrides in examples:
        load_config(path, overrides)


def test_the_coco_recipes_agree_with_detectron2():
    schedules = {
        "retina_coco": ("resnet50", 90_000, (60_000, 80_000)),
        "retina_coco_r18": ("resnet18", 90_000, (60_000, 80_000)),
        "retina_coco_r101": ("resnet101", 270_000, (210_000, 250_000)),
    }
    for name, (backbone, max_steps, milestones) in schedules.items():
        config = load_config(name)
        assert (config.model.backbone.name, config.schedule.max_steps) == (backbone, max_steps)
        assert config.schedule.milestones == milestones
        assert config.data.short_side == tuple(range(640, 801, 32))
        assert (config.data.max_side, config.data.batch_size) == (1333, 16)
        assert (config.optimizer.name, config.optimizer.lr, config.optimizer.momentum) == ("sgd", 0.01, 0.9)
        assert (config.optimizer.weight_decay, config.optimizer.clip_grad_norm) == (1e-4, None)
        assert (config.schedule.warmup_steps, config.schedule.warmup_factor) == (1000, 0.001)
        assert (config.model.backbone.norm, config.model.backbone.frozen_stages) == ("frozen", 2)
        assert (config.loss.box.name, config.loss.box.beta, config.loss.normalizer) == ("smooth_l1", 0.0, "batch")
        assert config.assign.allow_low_quality_matches


def test_the_paper_recipe_differs_from_the_coco_recipe_only_where_the_paper_does():
    paper, coco = (dump_config(load_config(name)).splitlines() for name in ("retina_paper", "retina_coco"))
    assert [line.strip() for line in paper if line not in coco] == [
        "output_dir: runs/retina_paper",
        "short_side: [600]",
        "max_side: 1000",
        "allow_low_quality_matches: false",
        "beta: 0.11",
        "normalizer: image",
    ]


@pytest.mark.parametrize("name", COCO)
def test_the_coco_recipes_share_the_values_of_the_paper(name):
    config = load_config(name)
    assert (config.loss.cls.alpha, config.loss.cls.gamma, config.model.head.prior) == (0.25, 2.0, 0.01)
    assert config.model.anchors.sizes == (32.0, 64.0, 128.0, 256.0, 512.0)
    assert config.model.anchors.scales == (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
    assert (config.assign.fg_iou_thresh, config.assign.bg_iou_thresh) == (0.5, 0.4)
    assert config.model.fpn.p6_from == "c5"
    assert (config.eval.score_thresh, config.eval.topk_per_level) == (0.05, 1000)
    assert (config.eval.nms_thresh, config.eval.max_detections) == (0.5, 100)
    assert config.data.train.annotations == "data/coco/annotations/instances_train2017.json"
    assert config.data.val.images == "data/coco/val2017"


def test_no_key_of_the_schema_is_dead():
    package = ROOT / "detector"
    attributes = set()
    for path in package.rglob("*.py"):
        if path.parent.name != "config":
            tree = ast.parse(path.read_text(encoding="utf-8"))
            attributes |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    attributes |= {name.removesuffix("_seconds") for name in attributes}  # properties that give a duration as a number
    dead = {key for key in LEAVES if key.rpartition(".")[2] not in attributes}
    assert dead == set()
