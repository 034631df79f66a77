"""Train torchvision's RetinaNet and ours by one recipe on the same batches, and report AP and time of both.

    OMP_NUM_THREADS=2 python scripts/benchmark_against_torchvision.py --config retina_demo --seeds 0 1 \
        --output /tmp/against_torchvision --json against_torchvision.json \
        data.train.annotations=train.json data.train.images=images data.val.annotations=test.json \
        data.val.images=images 'data.short_side=[256]' data.max_side=1333 model.fpn.channels=256 \
        model.head.num_convs=4 model.head.norm=none 'model.anchors.sizes=[32, 64, 128, 256, 512]' \
        optimizer.lr=3e-4 schedule.max_steps=800 schedule.warmup_steps=80

For each seed both networks start from the same weights. Every step draws one batch of our loader, and both train on it,
one after the other, each going first every other time: data, augmentation, resize, anchors, optimiser, schedule and
precision are the same, and noise of the machine hits both. A step is timed from the batch (uint8 for ours, floats in
[0, 1] for torchvision's, prepared outside of the time) to the updated weights. Losses, their normalisers and
postprocessing are each side's own. At the end both are scored on data.val by the same pycocotools, in fp32 (as
torchvision's reference script does) and in the precision of training.

A finished seed is kept in OUTPUT/seed-N.json and not trained again. Every figure is reported, none is chosen.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from benchmark_torchvision_peer import PeerStepper, build_peer, check_comparable, detect, peer_inputs
from torch import nn

from detector.config import Config
from detector.config_io import flatten_config, load_config_with_origins
from detector.criterion import LossNormalizer, build_criterion
from detector.data.dataset import DetectionDataset
from detector.data.loader import build_train_loader
from detector.data.opening import open_train_and_val
from detector.data.transforms import build_transforms
from detector.engine.benchmark.ceilings import synchronize
from detector.engine.device import (
    ResolvedPrecision,
    describe_device,
    place_for_training,
    resolve_device,
    resolve_precision,
)
from detector.engine.evaluator import Evaluator
from detector.engine.evaluator_building import build_evaluator
from detector.engine.matcher import build_matcher
from detector.engine.optimizer import build_optimizer
from detector.engine.processes import Processes
from detector.engine.recipe import resolve_recipe
from detector.engine.schedule import attach_schedule, build_schedule, is_due
from detector.engine.state import TrainState
from detector.engine.step import Stepper
from detector.errors import UserError
from detector.evaluation.coco import score
from detector.evaluation.ground_truth import ground_truth_of
from detector.evaluation.results import CocoResults, to_coco_results
from detector.models import build_model
from detector.structures import Batch

SYSTEMS = ("torchvision", "ours")
METRICS = ("AP", "AP50", "AP75")
LOG_EVERY = 20
PER_RUN_KEYS = ("output_dir", "seed", "data.num_workers")
"""What may differ between the seeds of one comparison."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="a YAML file, or the name of a shipped configuration")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--output", type=Path, required=True, help="folder of the results of each seed")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="values in place of the configuration's")
    args = parser.parse_intermixed_args()
    try:
        loaded = load_config_with_origins(args.config, args.overrides)
        config, origins = loaded.config, loaded.origins
        check_comparable(config, resolve_precision(config.precision, resolve_device(config.device)))
        results = [seed_result(config, origins, seed, args.output) for seed in args.seeds]
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    print("\n" + format_report(results))
    if args.json:
        args.json.write_text(json.dumps({"seeds": results}, indent=2) + "\n", encoding="utf-8")


def open_data(config: Config) -> tuple[DetectionDataset, DetectionDataset, Any]:
    """Return training set, validation set and the ground truth to score on: all that knows of files."""
    train, val = open_train_and_val(config.data, config.seed)
    return train.dataset, val.dataset, ground_truth_of(val)


def seed_result(config: Config, origins: Mapping[tuple[str | int, ...], str], seed: int, folder: Path) -> Any:
    """Return the result of one seed: that of an earlier run with the same recipe, or of training now."""
    path = folder / f"seed-{seed}.json"
    recipe = {key: value for key, value in flatten_config(config).items() if key not in PER_RUN_KEYS}
    if path.exists():
        result = json.loads(path.read_text(encoding="utf-8"))
        old = {key: value for key, value in result["recipe"].items() if key not in PER_RUN_KEYS}
        if differing := [key for key in recipe.keys() | old.keys() if recipe.get(key) != old.get(key)]:
            raise UserError(
                f"{path}: made by another recipe ({', '.join(sorted(differing))}); remove it or use --output"
            )
        print(f"seed {seed}: taken from {path}", flush=True)
        return result
    folder.mkdir(parents=True, exist_ok=True)
    result = {"seed": seed, "recipe": recipe} | train_and_score(config.model_copy(update={"seed": seed}), origins)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(result) + "\n", encoding="utf-8")
    partial.replace(path)
    return result


@dataclass(frozen=True, slots=True)
class System:
    """One of the two, ready to train.

    Attributes:
        model: the network, on the device.
        prepare: from the batch to what a step takes, outside of the time.
        step: one optimiser step; returns class and box loss.
        advance: moves the learning rate and what else counts steps.
        seconds: of each step so far.
        losses: class and box loss at logged steps, as (step, class loss, box loss).
    """

    model: nn.Module
    prepare: Callable[[Batch], Any]
    step: Callable[[Any, bool], tuple[torch.Tensor, torch.Tensor]]
    advance: Callable[[], None]
    seconds: list[float]
    losses: list[tuple[int, float, float]]


def train_and_score(config: Config, origins: Mapping[tuple[str | int, ...], str]) -> dict[str, Any]:
    """Train both systems on the same batches and return all figures."""
    device = resolve_device(config.device)
    precision = resolve_precision(config.precision, device)
    train, val, ground_truth = open_data(config)
    if bool(train.table.ignore.any()):
        raise UserError(f"{train.table.path}: has ignore regions (crowds), which torchvision does not know")
    config, _ = resolve_recipe(config, len(train), is_pretrained=config.model.backbone.pretrained)
    schedule, _ = build_schedule(config.schedule, len(train), config.data.batch_size)
    torch.manual_seed(config.seed)
    ours = build_our_system(config, len(train.categories), schedule, precision, device)
    systems = {"torchvision": build_their_system(config, ours.model, schedule, precision, device), "ours": ours}
    loader = build_train_loader(config.data, train, build_transforms(config.data.augment, origins), seed=config.seed)
    start = time.perf_counter()
    train_both(systems, iter(loader), schedule.max_steps, device, config)
    train_seconds = time.perf_counter() - start

    scores: dict[str, Any] = {name: {} for name in SYSTEMS}
    for eval_precision in dict.fromkeys(("fp32", precision)):
        evaluator = build_evaluator(
            config, val, ground_truth, train.categories, precision=eval_precision, device=device, processes=Processes()
        )
        for name, system in systems.items():
            metrics = our_scores(evaluator, system) if name == "ours" else their_scores(evaluator, system)
            scores[name][eval_precision] = metrics
            print(f"seed {config.seed} {name} evaluated in {eval_precision}: {_figures(metrics)}", flush=True)
    return {
        "hardware": describe_device(device),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "precision": precision,
        "steps": schedule.max_steps,
        "batch_size": config.data.batch_size,
        "num_train_images": len(train),
        "num_val_images": len(val),
        "train_seconds": train_seconds,
        "scores": scores,
        "step_seconds": {name: [round(value, 6) for value in system.seconds] for name, system in systems.items()},
        "losses": {name: system.losses for name, system in systems.items()},
    }


def build_our_system(
    config: Config, num_classes: int, schedule: Any, precision: ResolvedPrecision, device: torch.device
) -> System:
    """Return our network with the step of ``tools/train.py``."""
    model = place_for_training(build_model(config.model, num_classes), device).train()
    optimizer = build_optimizer(config.optimizer, model)
    state = TrainState(model, optimizer, LossNormalizer(config.loss.normalizer))
    scheduler = attach_schedule(optimizer, schedule, config.optimizer.lr, 0)
    stepper = Stepper(
        state,
        build_matcher(config),
        build_criterion(config.loss, num_classes),
        precision=precision,
        clip_grad_norm=config.optimizer.clip_grad_norm,
    )

    def step(batch: Batch, detail: bool) -> tuple[torch.Tensor, torch.Tensor]:
        losses = stepper([batch], detail=detail).totals.losses
        return losses.loss_cls, losses.loss_box

    def advance() -> None:
        scheduler.step()
        state.step += 1

    return System(model, lambda batch: batch, step, advance, [], [])


def build_their_system(
    config: Config, ours: nn.Module, schedule: Any, precision: ResolvedPrecision, device: torch.device
) -> System:
    """Return torchvision's network, with the weights of ours and the same optimiser."""
    model = build_peer(config, ours).to(device)
    optimizer = build_optimizer(config.optimizer, model)
    scheduler = attach_schedule(optimizer, schedule, config.optimizer.lr, 0)
    stepper = PeerStepper(model, optimizer, precision=precision, clip_grad_norm=config.optimizer.clip_grad_norm)
    return System(model, peer_inputs, lambda inputs, _detail: stepper(inputs), scheduler.step, [], [])


def train_both(
    systems: Mapping[str, System], batches: Iterator[Batch], num_steps: int, device: torch.device, config: Config
) -> None:
    """Make every step with both systems on one batch, timing each."""
    for step in range(1, num_steps + 1):
        batch = next(batches).to(device)
        must_log = step == 1 or is_due(step, LOG_EVERY, num_steps)
        for name in SYSTEMS if step % 2 else SYSTEMS[::-1]:
            system = systems[name]
            inputs = system.prepare(batch)
            synchronize(device)
            start = time.perf_counter()
            losses = system.step(inputs, is_due(step, config.log_every, num_steps))  # ours: the split that is logged
            system.advance()
            synchronize(device)
            system.seconds.append(time.perf_counter() - start)
            if must_log:
                system.losses.append((step, float(losses[0]), float(losses[1])))
        if must_log:
            parts = []
            for name, system in systems.items():
                _, loss_cls, loss_box = system.losses[-1]
                milliseconds = 1000 * statistics.median(system.seconds[-LOG_EVERY:])
                parts.append(f"{name} cls {loss_cls:.4f} box {loss_box:.4f} {milliseconds:6.0f} ms/step")
            print(f"seed {config.seed} step {step:4d}/{num_steps} | {' | '.join(parts)}", flush=True)


def our_scores(evaluator: Evaluator, system: System) -> dict[str, float]:
    evaluation = evaluator(system.model)
    assert evaluation is not None
    return evaluator.score(evaluation.results).metrics


def their_scores(evaluator: Evaluator, system: System) -> dict[str, float]:
    system.model.eval()
    results = []
    for host_batch in evaluator.loader:
        detections = detect(system.model, host_batch.to(evaluator.device), evaluator.precision)
        results.append(to_coco_results(host_batch.image_ids, detections, evaluator.categories))
    return score(evaluator.ground_truth, CocoResults.concatenate(results)).metrics


def format_report(results: list[dict[str, Any]]) -> str:
    """Return all figures in Markdown."""
    first = results[0]
    lines = [
        f"{first['hardware']} ({os.cpu_count()} cores); torch {first['torch']}, torchvision {first['torchvision']}; "
        f"{first['steps']} steps of {first['batch_size']} images in {first['precision']}, "
        f"{first['num_train_images']} training and {first['num_val_images']} scored images.",
    ]
    for precision in first["scores"]["ours"]:
        lines += ["", f"Evaluated in {precision}:", "", *_score_table(results, precision)]
    lines += [
        "",
        "Training:",
        "",
        "| seed | system | median s/step | mean s/step | images/s |",
        "|---|---|---|---|---|",
    ]
    for result in results:
        for name in SYSTEMS:
            seconds = result["step_seconds"][name]
            median = statistics.median(seconds)
            rate = result["batch_size"] / median
            lines.append(f"| {result['seed']} | {name} | {median:.3f} | {statistics.fmean(seconds):.3f} | {rate:.2f} |")
    for label, mean in (("median", statistics.median), ("mean", statistics.fmean)):
        ratios = [mean(r["step_seconds"]["ours"]) / mean(r["step_seconds"]["torchvision"]) for r in results]
        shown = ", ".join(f"{ratio:.3f}" for ratio in ratios)
        lines.append(f"{'' if label == 'mean' else chr(10)}Time of ours over torchvision's, by the {label}: {shown}.")
    return "\n".join(lines)


def _score_table(results: list[dict[str, Any]], precision: str) -> list[str]:
    lines = ["| seed | system | " + " | ".join(METRICS) + " |", "|---" * (2 + len(METRICS)) + "|"]
    rows = {name: [result["scores"][name][precision] for result in results] for name in SYSTEMS}
    for idx, result in enumerate(results):
        for name in SYSTEMS:
            lines.append(f"| {result['seed']} | {name} | {_cells(rows[name][idx])} |")
    means = {name: {key: statistics.fmean(row[key] for row in rows[name]) for key in METRICS} for name in SYSTEMS}
    lines += [f"| mean | {name} | {_cells(means[name])} |" for name in SYSTEMS]
    differences = " | ".join(f"{means['ours'][key] - means['torchvision'][key]:+.4f}" for key in METRICS)
    return [*lines, f"| mean | ours - torchvision | {differences} |"]


def _cells(metrics: Mapping[str, float]) -> str:
    return " | ".join(f"{metrics[key]:.4f}" for key in METRICS)


def _figures(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{key} {metrics[key]:.4f}" for key in METRICS)


if __name__ == "__main__":
    main()
