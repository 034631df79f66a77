"""The evaluation of a network on the tiny dataset: its losses, their split and the loss profile."""

from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from detector.config import Config
from detector.data.dataset import DetectionDataset, open_coco_dataset
from detector.engine.evaluator import Evaluation
from detector.engine.evaluator_building import build_evaluator
from detector.engine.processes import Processes
from detector.engine.train import train
from detector.evaluation.ground_truth import load_ground_truth
from detector.models import RetinaNet, build_model
from detector.telemetry.loss_profile import LossProfile
from tests.engine.tiny import read_rows, tiny_config


def open_tiny(folder: Path, *overrides: str) -> tuple[Config, DetectionDataset]:
    config, _ = tiny_config(folder, *overrides)
    return config, open_coco_dataset(Path(config.data.val.annotations), Path(config.data.val.images))


def new_model(config: Config) -> RetinaNet:
    torch.manual_seed(0)
    return build_model(config.model, 2)


def evaluate(folder: Path, *overrides: str, with_profile: bool = True, num_profiled: int | None = None) -> Evaluation:
    """Evaluate a fresh network on the tiny dataset."""
    config, dataset = open_tiny(folder, *overrides)
    evaluator = build_evaluator(
        config,
        dataset,
        load_ground_truth(Path(config.data.val.annotations)),
        dataset.categories,
        precision="fp32",
        device=torch.device("cpu"),
        processes=Processes(),
    )
    if num_profiled is not None:
        evaluator.profiled_ids = frozenset(sorted(evaluator.profiled_ids)[:num_profiled])
    evaluation = evaluator(new_model(config), with_profile=with_profile)
    assert evaluation is not None
    return evaluation


def profile_of(evaluation: Evaluation) -> LossProfile:
    assert evaluation.profile is not None
    return evaluation.profile


SOFTMAX = ("model.head.activation=softmax", "loss.cls.name=softmax_focal")


@pytest.mark.parametrize("overrides", [(), ("loss.cls.name=sigmoid_ce", "loss.cls.alpha=null"), SOFTMAX])
def test_the_profile_has_the_anchors_and_the_share_of_the_validation_loss(
    tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    evaluation = evaluate(tmp_path, *overrides)
    profile, split, losses = profile_of(evaluation), evaluation.split, evaluation.losses
    assert profile.num_images == evaluation.num_images == 8
    assert profile.num_anchors("foreground") == sum(split["level_num_foreground"]) > 0
    assert profile.num_anchors("background") == sum(split["level_num_background"])
    assert profile.run_gamma is not None
    share = profile.foreground_loss_share(profile.run_gamma)
    assert share == pytest.approx(losses["loss_cls_fg"] / losses["loss_cls"], rel=1e-4)
    assert share == pytest.approx(split["fg_share"], rel=1e-4)


def test_a_profile_is_made_only_on_request_and_changes_nothing_else(tmp_path: Path) -> None:
    without, with_profile = evaluate(tmp_path, with_profile=False), evaluate(tmp_path)
    assert without.profile is None
    assert with_profile.profile is not None
    assert without.losses == with_profile.losses
    assert without.split == with_profile.split
    assert list(without.results.entries()) == list(with_profile.results.entries())


def test_the_batch_size_changes_no_profile(tmp_path: Path) -> None:
    profiles = [profile_of(evaluate(tmp_path, f"eval.batch_size={size}", num_profiled=5)) for size in (1, 4)]
    assert [profile.num_images for profile in profiles] == [5, 5]
    one, other = profiles
    assert one.counts.sum() == other.counts.sum()
    for gamma in one.gammas:
        assert one.foreground_loss_share(gamma) == pytest.approx(other.foreground_loss_share(gamma), rel=1e-4)
        assert one.foreground_gradient_share(gamma) == pytest.approx(other.foreground_gradient_share(gamma), rel=1e-4)


def test_every_nth_evaluation_and_the_last_one_have_a_profile_also_after_a_resume(tmp_path: Path) -> None:
    length = ("schedule.max_steps=3", "schedule.milestones=[2]")
    config, origins = tiny_config(tmp_path, "eval.every=1", "eval.num_pictures=0", "eval.loss_profile_every=2", *length)
    train(config, origins)
    rows = read_rows(Path(config.output_dir), "eval")
    assert [(row["step"], "loss_profile" in row) for row in rows] == [(1, False), (2, True), (3, True)]
    assert rows[-1]["loss_profile"]["num_images"] == 8
    assert [row["gamma"] for row in rows[-1]["loss_profile"]["by_gamma"]] == [0.0, 0.5, 1.0, 2.0]
    events = EventAccumulator(config.output_dir, size_guidance={"images": 0})
    events.Reload()
    assert sorted(events.Tags()["images"]) == ["eval/figures/cumulative_loss", "eval/figures/p_t"]
    images = events.Images("eval/figures/cumulative_loss")
    assert [(image.step, image.width, image.height) for image in images] == [(2, 1000, 420), (3, 1000, 420)]
    train(config, origins, resume=str(Path(config.output_dir) / "checkpoints/step-00000002.pt"))
    assert read_rows(Path(config.output_dir), "eval") == rows


def test_a_run_can_do_without_profiles(tmp_path: Path) -> None:
    config, origins = tiny_config(tmp_path, "schedule.max_steps=1", "eval.num_pictures=0", "eval.loss_profile_every=0")
    train(config, origins)
    (row,) = read_rows(Path(config.output_dir), "eval")
    assert "loss_profile" not in row
