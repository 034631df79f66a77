"""Learning rate and length follow from the data where a recipe says auto, and the reasons are said."""

from pathlib import Path

import pytest

from detector.config import Config, OptimizerConfig, ScheduleConfig
from detector.config_io import load_config
from detector.engine.optimizer import build_optimizer
from detector.engine.recipe import derive_lr, derive_max_steps, derive_warmup_steps, resolve_recipe
from detector.engine.run_folder import CHECKPOINTS
from detector.engine.schedule import build_schedule
from detector.engine.train import train
from detector.models import build_model
from tests.engine.tiny import read_rows, tiny_config


def auto_config(*overrides: str) -> Config:
    return load_config("retina_small", ["data.train.path=x", *overrides])


@pytest.mark.parametrize(
    ("name", "batch_size", "expected"),
    [("sgd", 16, 0.01), ("sgd", 8, 0.005), ("sgd", 64, 0.04), ("adamw", 16, 1e-4), ("adamw", 64, 2e-4)],
)
def test_the_learning_rate_follows_the_batch_linearly_for_sgd_and_by_the_square_root_for_adamw(
    name, batch_size, expected
):
    lr, reason = derive_lr(OptimizerConfig(name=name), batch_size, is_pretrained=True)
    assert lr == pytest.approx(expected, rel=1e-9)
    assert f"{batch_size} / 16" in reason
    assert ("sqrt" in reason) == (name == "adamw")


def test_from_scratch_adamw_learns_faster():
    pretrained, _ = derive_lr(OptimizerConfig(name="adamw"), 16, is_pretrained=True)
    scratch, reason = derive_lr(OptimizerConfig(name="adamw"), 16, is_pretrained=False)
    assert scratch == 10 * pretrained
    assert "from scratch" in reason


def test_few_images_get_the_updates_that_a_detector_needs_and_many_get_epochs():
    assert derive_max_steps(205, 8, is_pretrained=True)[0] == 1500  # 24 * 205 / 8 = 615
    assert "only 615 steps" in derive_max_steps(205, 8, is_pretrained=True)[1]
    assert derive_max_steps(205, 8, is_pretrained=False)[0] == 3000  # 72 * 205 / 8 = 1845
    assert derive_max_steps(10_000, 8, is_pretrained=True) == (30_000, "24 epochs of 10000 images in batches of 8")


def test_the_warm_up_is_a_tenth_of_the_run_but_not_longer_than_1000_steps():
    assert derive_warmup_steps(ScheduleConfig(max_steps=1500), 205, 8) == 150
    assert derive_warmup_steps(ScheduleConfig(max_steps=90_000), 205, 8) == 1000
    assert derive_warmup_steps(ScheduleConfig(epochs=12), 200, 8) == 30  # 12 * 200 / 8 = 300


def test_every_auto_becomes_a_number_with_its_reason_and_numbers_stay():
    config, notes = resolve_recipe(auto_config(), 205, is_pretrained=False)
    assert (config.optimizer.lr, config.schedule.max_steps, config.schedule.warmup_steps) == (7.07e-4, 3000, 300)
    assert [note.partition(" = ")[0] for note in notes] == [
        "optimizer.lr",
        "schedule.max_steps",
        "schedule.warmup_steps",
    ]
    assert resolve_recipe(config, 99, is_pretrained=True) == (config, [])


def test_an_auto_that_was_not_resolved_is_not_taken_for_a_number():
    config = auto_config()
    with pytest.raises(ValueError, match=r"optimizer\.lr is auto"):
        build_optimizer(config.optimizer, build_model(config.model, 1))
    with pytest.raises(ValueError, match="schedule: max_steps or warmup_steps is auto"):
        build_schedule(config.schedule, 10, 2)


def test_a_run_that_was_given_in_epochs_goes_on_so_with_a_recipe_that_says_auto(tmp_path: Path):
    epochs = ("schedule.max_steps=null", "schedule.epochs=2", "checkpoint.every=2")
    config, origins = tiny_config(tmp_path, *epochs)
    train(config, origins)  # 2 epochs of 8 images in batches of 4
    for name in ("step-00000004.pt", "last.pt"):
        (tmp_path / "run" / CHECKPOINTS / name).unlink()
    config, origins = tiny_config(tmp_path, "schedule.max_steps=auto")
    train(config, origins, resume="auto")
    assert [row["step"] for row in read_rows(tmp_path / "run", "train")] == [1, 2, 3, 4]


def test_a_run_saves_the_numbers_and_a_resumed_one_keeps_them(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("detector.engine.recipe.MIN_STEPS", {True: 2, False: 4})
    monkeypatch.setattr("detector.engine.recipe.EPOCHS", {True: 1, False: 1})
    auto = ("optimizer.lr=auto", "optimizer.name=adamw", "schedule.max_steps=auto", "schedule.warmup_steps=auto")
    config, origins = tiny_config(tmp_path, *auto)
    train(config, origins)
    saved = load_config(tmp_path / "run" / "config.yaml")
    assert (saved.optimizer.lr, saved.schedule.max_steps, saved.schedule.warmup_steps) == (5e-4, 4, 0)
    rows = read_rows(tmp_path / "run", "train")
    # As if the rules had changed since: a run that goes on keeps its own numbers.
    monkeypatch.setattr("detector.engine.recipe.MIN_STEPS", {True: 9, False: 9})
    (tmp_path / "run" / CHECKPOINTS / "step-00000004.pt").unlink()
    (tmp_path / "run" / CHECKPOINTS / "last.pt").unlink()
    train(config, origins, resume="auto")
    resumed = read_rows(tmp_path / "run", "train")
    assert [(row["step"], row["loss"], row["lr"]) for row in resumed] == [
        (row["step"], row["loss"], row["lr"]) for row in rows
    ]
