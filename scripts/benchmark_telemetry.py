"""What the telemetry of the imbalance costs: training steps with and without it, in one process, in turn.

    python scripts/benchmark_telemetry.py
    python scripts/benchmark_telemetry.py --cases demo --repeats 10 --json telemetry.json

Three kinds of steps on the same network and batch, all from uint8 images to updated weights:

- bare: the class loss is summed up as one number, nothing is counted or written;
- every step: split into foreground and background by pyramid level, with the counts;
- log step: also the split by class and the mean probabilities, the copy to the host, the row in metrics.jsonl,
  TensorBoard (with a flush) and on the console, and the diagnosis.

The cost is that of 19 steps of the second and one of the third kind over 20 of the first, as with log_every = 20; the
median over the rounds, each of which holds one step of every kind.
"""

import io
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from benchmarking import (
    Figure,
    calm_frozen_norms,
    describe_hardware,
    make_parser,
    random_batch,
    write_figures,
)
from rich.console import Console
from torch import Tensor

from detector.anchors import build_anchor_generator
from detector.config import AssignConfig, BackboneConfig, Config, ModelConfig, OptimizerConfig
from detector.config_io import load_config
from detector.criterion import Criterion, Losses, LossNormalizer
from detector.engine.benchmark.ceilings import synchronize
from detector.engine.device import place_for_training, resolve_device, resolve_precision
from detector.engine.matcher import Matcher
from detector.engine.optimizer import build_optimizer
from detector.engine.state import TrainState
from detector.engine.step import Stepper
from detector.models import build_model
from detector.structures import IGNORE, AnchorTargets, Batch, HeadOutputs
from detector.telemetry import Diagnosis, RunRecorder, StepTotals, TrainRow
from detector.telemetry.diagnosis import build_diagnosis

LOG_EVERY = 20
LIMIT = 0.02
LR = 1e-5
NUM_BOXES = 8
DEMO_CONFIG = Path(__file__).resolve().parents[1] / "configs/retina_demo.yaml"


class BareCriterion(Criterion):
    """The same losses without a split: what a step would cost without any telemetry."""

    def __call__(
        self, outputs: HeadOutputs, targets: AnchorTargets, anchors: Tensor, normalizer: Tensor | float
    ) -> Losses:
        labels = targets.target_labels.split(outputs.anchors_per_level, dim=1)
        losses = self.class_loss.anchor_losses(outputs.cls_logits, labels, None)
        pairs = zip(losses, labels, strict=True)
        sums = torch.stack([torch.where(label != IGNORE, loss, 0.0).sum(dim=1) for loss, label in pairs]).sum(dim=0)
        loss_cls = (sums / normalizer).sum()
        loss_box = (self._box_sums(outputs, targets, anchors) / normalizer).sum() * self.box_weight
        nothing = loss_cls.detach()
        return Losses(loss_cls + loss_box, loss_cls, loss_box, nothing, nothing, nothing, nothing, nothing)


@dataclass(frozen=True)
class Case:
    """A network, its batch, and where its rows go."""

    stepper: Stepper
    batch: Batch
    recorder: RunRecorder
    diagnosis: Diagnosis

    def bare(self) -> None:
        criterion, self.stepper.criterion = self.stepper.criterion, BareCriterion()
        self.stepper([self.batch])
        self.stepper.criterion = criterion

    def every_step(self) -> None:
        self.stepper([self.batch])

    def log_step(self) -> None:
        totals = self.stepper([self.batch], detail=True).totals
        self.stepper.state.step += 1
        self.log(totals)

    def log(self, totals: StepTotals) -> None:
        timings = {"lr": LR, "epoch": 0.0, "data_seconds": 0.01, "step_seconds": 1.0, "images_per_second": 1.0}
        row = TrainRow(step=self.stepper.state.step, **timings, **totals.to_host())
        self.recorder.train_row(row)
        self.diagnosis.observe(row)


def main() -> int:
    parser = make_parser(__doc__, repeats=15)
    parser.add_argument("--cases", nargs="+", default=["demo", "r50"], choices=["demo", "r50"])
    parser.add_argument("--batch", type=int, help="images per step (demo: 8, r50: 2)")
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="demo: 224 224, r50: 512 512")
    args = parser.parse_args()
    device = resolve_device(args.device)
    if args.clock == "cpu" and device.type != "cpu":
        parser.error("--clock cpu does not see what a GPU does")
    clock = time.process_time if args.clock == "cpu" else time.perf_counter
    hardware = describe_hardware(device)
    print(f"{hardware}; log_every = {LOG_EVERY}; {args.clock} time")
    figures = {}
    for name in args.cases:
        with tempfile.TemporaryDirectory() as folder:
            case = _make_case(name, args.batch, args.size, device, Path(folder))
            with case.recorder:
                figures[name] = _measure(case, args.warmup, args.repeats, device, clock)
        print(_describe(name, case.batch, figures[name]))
    if args.json:
        costs = [
            Figure(f"telemetry.cost.{name}", one["cost"], one["low"], one["high"]) for name, one in figures.items()
        ]
        write_figures(args.json, costs, hardware, details=figures)
    return int(any(figure["cost"] > LIMIT for figure in figures.values()))


def _make_case(name: str, num_images: int | None, size: list[int] | None, device: torch.device, folder: Path) -> Case:
    torch.manual_seed(0)
    config = load_config(DEMO_CONFIG)
    if name == "demo":
        num_classes, model_config, batch_size, image_size = 6, config.model, 8, (224, 224)
    else:
        backbone = BackboneConfig(name="resnet50", weights="none", norm="frozen", frozen_stages=2)
        num_classes, model_config, batch_size, image_size = 80, ModelConfig(backbone=backbone), 2, (512, 512)
    model = place_for_training(build_model(model_config, num_classes), device).train()
    calm_frozen_norms(model)
    state = TrainState(model, build_optimizer(OptimizerConfig(lr=LR), model), LossNormalizer("batch"))
    matcher = Matcher(build_anchor_generator(model_config.anchors), **AssignConfig().model_dump())
    size = image_size if size is None else (size[0], size[1])
    names = [f"class {label}" for label in range(num_classes)]
    return Case(
        Stepper(state, matcher, Criterion(), precision=resolve_precision("auto", device)),
        random_batch(num_images or batch_size, size, num_classes=num_classes, num_boxes=NUM_BOXES).to(device),
        RunRecorder(folder, max_steps=10**6, class_names=names, console=Console(file=io.StringIO())),
        _make_diagnosis(config, model_config, names),
    )


def _make_diagnosis(config: Config, model: ModelConfig, names: list[str]) -> Diagnosis:
    config = config.model_copy(update={"model": model})
    return build_diagnosis(config, names, max_steps=10**6, warmup_steps=0, is_initialised=False)


def _measure(
    case: Case, warmup: int, repeats: int, device: torch.device, clock: Callable[[], float]
) -> dict[str, float]:
    """Return median seconds of each kind of step, and the cost with its quartiles over the rounds."""
    kinds: list[Callable[[], None]] = [case.bare, case.every_step, case.log_step]
    rounds: list[dict[str, float]] = []
    for round_idx in range(warmup + repeats):
        seconds = {}
        # Another one goes first in every round, so that none always follows the same.
        for kind in itertools.islice(itertools.cycle(kinds), round_idx % 3, round_idx % 3 + 3):
            seconds[kind.__name__] = _timed(kind, device, clock)
        if round_idx >= warmup:
            rounds.append(seconds)
    last = case.stepper([case.batch], detail=True).totals
    logging = [_timed(lambda: case.log(last), device, clock) for _ in range(repeats)]
    costs = [((LOG_EVERY - 1) * one["every_step"] + one["log_step"]) / (LOG_EVERY * one["bare"]) - 1 for one in rounds]
    low, middle, high = statistics.quantiles(costs, n=4)
    figures = {name: statistics.median(one[name] for one in rounds) for name in ("bare", "every_step", "log_step")}
    return figures | {"copy_and_write": statistics.median(logging), "cost": middle, "low": low, "high": high}


def _timed(function: Callable[[], Any], device: torch.device, clock: Callable[[], float]) -> float:
    synchronize(device)
    start = clock()
    function()
    synchronize(device)
    return clock() - start


def _describe(name: str, batch: Batch, figures: dict[str, float]) -> str:
    num_images, height, width, _ = batch.images.shape
    cost, low, high = (100 * figures[key] for key in ("cost", "low", "high"))
    return (
        f"{name:<4} {num_images} x 3 x {height} x {width}: bare {figures['bare']:.4f} s, every step "
        f"{figures['every_step']:.4f} s, log step {figures['log_step']:.4f} s (copy and writing "
        f"{figures['copy_and_write']:.4f} s of it); cost {cost:.2f} % (quartiles {low:.2f} ... {high:.2f} %)"
    )


if __name__ == "__main__":
    raise SystemExit(main())
