"""scripts/benchmark_against_torchvision.py: both sides do the same, and what the peer cannot do is refused."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import benchmark_against_torchvision as benchmark
import pytest
import torch
from benchmark_torchvision_peer import build_peer, check_comparable, detect, torchvision_name
from torch import nn
from torch.testing import assert_close

from detector.config import Config
from detector.config_io import flatten_config
from detector.data.loader import build_train_loader
from detector.data.transforms import build_transforms
from detector.engine.forward import forward
from detector.engine.matcher import build_matcher
from detector.engine.schedule import build_schedule
from detector.errors import UserError
from detector.models import build_model
from detector.postprocess import build_postprocess
from detector.structures import Batch
from tests.engine.tiny import make_dataset, tiny_config, write_config

SCRIPT = Path(benchmark.__file__)
CPU = torch.device("cpu")
COMPARABLE = ("model.backbone.norm=batch", "model.head.num_convs=4", "loss.normalizer=image")


def read_batches(config: Config, origins: Any, num_batches: int) -> list[Batch]:
    train, _, _ = benchmark.open_data(config)
    loader = build_train_loader(config.data, train, build_transforms(config.data.augment, origins), seed=0)
    return [batch for _, batch in zip(range(num_batches), loader, strict=False)]


@pytest.mark.parametrize("p6_from", ["c5", "p5"])
def test_from_the_same_weights_both_have_the_same_losses_and_make_the_same_steps(tmp_path: Path, p6_from: str) -> None:
    config, origins = tiny_config(
        tmp_path, *COMPARABLE, f"model.fpn.p6_from={p6_from}", "optimizer.clip_grad_norm=0.1", "schedule.warmup_steps=0"
    )
    schedule, _ = build_schedule(config.schedule, 8, config.data.batch_size)
    torch.manual_seed(0)
    ours = benchmark.build_our_system(config, 2, schedule, "fp32", CPU)
    theirs = benchmark.build_their_system(config, ours.model, schedule, "fp32", CPU)
    start = {key: value.clone() for key, value in ours.model.state_dict().items()}
    for batch in read_batches(config, origins, 2):  # the second of the first step's weights; one image has no object
        losses = [system.step(system.prepare(batch), False) for system in (ours, theirs)]
        ours.advance()
        theirs.advance()
        assert_close(losses[0], losses[1], rtol=1e-4, atol=0)
    their_state = theirs.model.state_dict()
    moved = 0.0
    for key, value in ours.model.state_dict().items():
        assert_close(value, their_state[torchvision_name(key)], rtol=1e-3, atol=1e-5)
        moved += float((value - start[key]).abs().sum())
    assert moved > 1


def test_from_the_same_weights_both_detect_the_same(tmp_path: Path) -> None:
    config, origins = tiny_config(tmp_path, *COMPARABLE, "eval.score_thresh=0.001")
    torch.manual_seed(0)
    ours = build_model(config.model, 2).eval()
    for conv in (*ours.cls_subnet.modules(), *ours.box_subnet.modules()):
        if isinstance(conv, nn.Conv2d):
            nn.init.normal_(conv.weight, std=0.1)  # so that scores spread
    peer = build_peer(config, ours).eval()
    (batch,) = read_batches(config, origins, 1)
    sizes = [(int(height), int(width)) for height, width in batch.sizes.tolist()]
    assert sizes != list(batch.original_sizes)
    with torch.inference_mode():
        outputs = forward(ours, batch.images, batch.sizes, "fp32")
        expected = build_postprocess(config.eval, activation="sigmoid")(
            outputs, build_matcher(config).anchors(batch.images), sizes, batch.original_sizes
        )
    for actual, wanted in zip(detect(peer, batch, "fp32"), expected, strict=True):
        assert len(wanted.scores) > 5
        assert wanted.scores.std() > 1e-3
        assert_close(actual.scores, wanted.scores, rtol=1e-4, atol=1e-6)
        # Scores that are equal but for rounding may stand in another order.
        rows = [
            torch.cat([one.boxes, 1e3 * one.labels[:, None], 1e6 * one.scores[:, None]], 1).double()
            for one in (wanted, actual)
        ]
        nearest = torch.cdist(*rows, compute_mode="donot_use_mm_for_euclid_dist").argmin(dim=1)
        assert nearest.sort().values.tolist() == list(range(len(actual.scores)))
        assert_close(actual.scores[nearest], wanted.scores, rtol=1e-4, atol=1e-6)
        assert_close(actual.boxes[nearest], wanted.boxes, rtol=1e-4, atol=1e-2)
        assert torch.equal(actual.labels[nearest], wanted.labels)


@pytest.mark.parametrize("p6_from", ["c5", "p5"])
def test_p6_comes_from_where_the_recipe_says_also_when_both_have_as_many_channels(tmp_path: Path, p6_from: str) -> None:
    config, _ = tiny_config(tmp_path, *COMPARABLE, f"model.fpn.p6_from={p6_from}", "model.fpn.channels=512")
    with torch.device("meta"):
        ours = build_model(config.model, 2)
        peer = build_peer(config, ours)
    assert peer.backbone.fpn.extra_blocks.use_P5 == (p6_from == "p5")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.backbone.norm=group", "model.backbone.norm: expected batch, found group"),
        ("model.backbone.frozen_stages=1", "model.backbone.frozen_stages: expected 0, found 1"),
        ("model.head.num_convs=2", "model.head.num_convs: expected 4, found 2"),
        ("model.head.norm=group", "model.head.norm: expected none, found group"),
        ("assign.allow_low_quality_matches=false", "assign.allow_low_quality_matches: expected true"),
        ("loss.cls.name=sigmoid_ce", "loss.cls.name: expected sigmoid_focal, found sigmoid_ce"),
        ("loss.cls.gamma=1", "loss.cls.gamma: expected 2, found 1"),
        ("loss.cls.alpha=0.5", "loss.cls.alpha: expected 0.25, found 0.5"),
        ("loss.box.beta=0.1", "loss.box: expected l1, or smooth_l1 with beta 0, found smooth_l1 with beta 0.1"),
        ("loss.box.name=giou", "loss.box: expected l1"),
        ("loss.box.weight=2", "loss.box.weight: expected 1, found 2"),
        ("data.images_per_forward=2", "data.images_per_forward: expected the whole batch, found 2"),
        ("data.buckets=[[96, 96]]", "data.buckets: expected null"),
        ("ema.decay=0.99", "ema.decay: expected null, found 0.99"),
    ],
)
def test_what_torchvision_cannot_follow_is_refused(tmp_path: Path, override: str, message: str) -> None:
    config, _ = tiny_config(tmp_path, *COMPARABLE)
    check_comparable(config, "fp32")
    config, _ = tiny_config(tmp_path, *COMPARABLE, override)
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        check_comparable(config, "fp32")


def test_softmax_and_half_precision_are_refused_together(tmp_path: Path) -> None:
    config, _ = tiny_config(tmp_path, *COMPARABLE, "model.head.activation=softmax", "loss.cls.name=softmax_focal")
    with pytest.raises(UserError, match=r"(?s)model\.head\.activation: .*precision: expected fp32 or bf16, found fp16"):
        check_comparable(config, "fp16")


def test_ignore_regions_are_refused(tmp_path: Path) -> None:
    config, origins = tiny_config(tmp_path, *COMPARABLE)
    annotations = tmp_path / "data" / "annotations.json"
    content = json.loads(annotations.read_text())
    content["annotations"][0]["iscrowd"] = 1
    annotations.write_text(json.dumps(content))
    with pytest.raises(UserError, match="has ignore regions"):
        benchmark.train_and_score(config, origins)


def test_a_finished_seed_is_not_trained_again_but_that_of_another_recipe_is_refused(tmp_path: Path) -> None:
    config, origins = tiny_config(tmp_path, *COMPARABLE)
    stored = {"seed": 3, "recipe": flatten_config(config)}
    (tmp_path / "seed-3.json").write_text(json.dumps(stored))
    assert benchmark.seed_result(config, origins, 3, tmp_path) == stored
    other, origins = tiny_config(tmp_path, *COMPARABLE, "optimizer.lr=0.1", "seed=7")
    with pytest.raises(UserError, match=r"seed-3\.json: made by another recipe \(optimizer\.lr\)"):
        benchmark.seed_result(other, origins, 3, tmp_path)


def test_the_report_gives_every_figure() -> None:
    def result(seed: int, ap: float, their_ap: float, seconds: list[float]) -> dict[str, Any]:
        values = {"ours": ap, "torchvision": their_ap}
        scores = {name: {"fp32": {"AP": v, "AP50": v + 0.2, "AP75": v - 0.1}} for name, v in values.items()}
        fixed = {"hardware": "h", "torch": "1", "torchvision": "2", "steps": 3, "precision": "fp32", "batch_size": 8}
        images = {"num_train_images": 5, "num_val_images": 6}
        return (
            fixed
            | images
            | {
                "seed": seed,
                "scores": scores,
                "step_seconds": {"ours": seconds, "torchvision": [2.0, 2.0, 2.0]},
            }
        )

    report = benchmark.format_report([result(0, 0.4, 0.5, [1, 1, 4]), result(1, 0.3, 0.2, [1.5, 1.5, 1.5])])
    for line in (
        "| 0 | torchvision | 0.5000 | 0.7000 | 0.4000 |",
        "| 1 | ours | 0.3000 | 0.5000 | 0.2000 |",
        "| mean | ours | 0.3500 | 0.5500 | 0.2500 |",
        "| mean | ours - torchvision | +0.0000 | +0.0000 | +0.0000 |",
        "| 0 | ours | 1.000 | 2.000 | 8.00 |",
        "Time of ours over torchvision's, by the median: 0.500, 0.750.",
        "Time of ours over torchvision's, by the mean: 1.000, 0.750.",
    ):
        assert line in report


@pytest.mark.slow
def test_the_command_trains_scores_and_continues(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data")
    config = write_config(tmp_path, tmp_path / "data")
    command = [sys.executable, str(SCRIPT), "--config", str(config), "--seeds", "0", "1"]
    command += ["--output", str(tmp_path / "out"), "--json", str(tmp_path / "all.json")]
    command += [*COMPARABLE, "schedule.max_steps=2", "schedule.milestones=[]", "schedule.warmup_steps=0"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "seed 1 step    2/2 | torchvision cls" in done.stdout
    assert "| mean | ours - torchvision |" in done.stdout
    seeds = json.loads((tmp_path / "all.json").read_text())["seeds"]
    assert [one["seed"] for one in seeds] == [0, 1]
    for one in seeds:
        assert_close(one["losses"]["ours"], one["losses"]["torchvision"], rtol=1e-2, atol=0)
        assert [len(seconds) for seconds in one["step_seconds"].values()] == [2, 2]
    assert seeds[0]["losses"] != seeds[1]["losses"]

    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "seed 0: taken from" in again.stdout
    assert "step    2/2" not in again.stdout
    refused = subprocess.run([*command, "ema.decay=0.9"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "ema.decay: expected null" in refused.stderr
