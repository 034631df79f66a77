"""What saving costs a training run: the same stretch of steps with a checkpoint begun at its start and without.

    python scripts/benchmark_checkpoint.py
    python scripts/benchmark_checkpoint.py --folder /mnt/slow --steps 10 --json checkpoint.json

A checkpoint holds the demo recipe's network, its average and its momentum. Each round times one stretch with a
checkpoint, written to the end within it, and one without, the first of them in turn. The stall is what the training
thread waits for: the copy to host memory. The share is all that the stretch takes longer, over a run that saves every
``--every`` steps; on a CPU it holds the hashing and writing too, as the writer's thread takes its core from the steps.
"""

import statistics
import tempfile
import time
from pathlib import Path

import torch
from benchmarking import Figure, describe_hardware, make_parser, print_figures, random_batch, write_figures

from detector.anchors import build_anchor_generator
from detector.config import AssignConfig, OptimizerConfig
from detector.config_io import load_config
from detector.criterion import Criterion, LossNormalizer
from detector.engine.benchmark.ceilings import synchronize
from detector.engine.checkpoint_writer import CheckpointWriter, SaveOutcome
from detector.engine.device import place_for_training, resolve_device, resolve_precision
from detector.engine.ema import WeightAverage
from detector.engine.matcher import Matcher
from detector.engine.optimizer import build_optimizer
from detector.engine.state import TrainState
from detector.engine.step import Stepper
from detector.models import build_model
from detector.structures import Categories

DEMO_CONFIG = Path(__file__).resolve().parents[1] / "configs/retina_demo.yaml"
NUM_CLASSES = 6


def main() -> int:
    parser = make_parser(__doc__, repeats=5, warmup=1)
    parser.add_argument("--steps", type=int, default=4, help="steps of a stretch (default: %(default)s)")
    parser.add_argument("--every", type=int, default=100, help="steps between checkpoints (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=8, help="images per step (default: %(default)s)")
    parser.add_argument("--size", type=int, nargs=2, default=(224, 224), metavar=("H", "W"))
    parser.add_argument("--folder", type=Path, help="where checkpoints go (default: a temporary folder)")
    args = parser.parse_args()
    device = resolve_device(args.device)
    hardware = describe_hardware(device)
    print(f"{hardware}; every {args.every} steps")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        bench = _Bench(Path(folder), device, args.batch, tuple(args.size))
        figures = bench.measure(args.warmup, args.repeats, args.steps, args.every)
    print_figures(figures, hardware)
    if args.json:
        write_figures(args.json, figures, hardware)
    return 0


class _Bench:
    """A network in training, its batch and its writer."""

    def __init__(self, folder: Path, device: torch.device, num_images: int, size: tuple[int, int]) -> None:
        torch.manual_seed(0)
        config = load_config(DEMO_CONFIG).model
        model = place_for_training(build_model(config, NUM_CLASSES), device).train()
        optimizer = build_optimizer(OptimizerConfig(lr=1e-5), model)
        self.state = TrainState(model, optimizer, LossNormalizer("batch"), ema=WeightAverage(model, 0.999))
        matcher = Matcher(build_anchor_generator(config.anchors), **AssignConfig().model_dump())
        self.stepper = Stepper(self.state, matcher, Criterion(), precision=resolve_precision("auto", device))
        self.batch = random_batch(num_images, size, num_classes=NUM_CLASSES, num_boxes=8).to(device)
        self.device = device
        self.outcomes: list[SaveOutcome] = []
        self.writer = CheckpointWriter(folder, keep=2, report=self.outcomes.append)

    def measure(self, warmup: int, repeats: int, num_steps: int, every: int) -> list[Figure]:
        stalls, extras, plain = [], [], []
        for round_idx in range(warmup + repeats):
            seconds = {}
            for saves in (True, False) if round_idx % 2 else (False, True):
                seconds[saves], stall = self._stretch(num_steps, saves=saves)
                if saves and round_idx >= warmup:
                    stalls.append(stall)
            if round_idx >= warmup:
                extras.append(seconds[True] - seconds[False])
                plain.append(seconds[False] / num_steps)
        self.writer.close()
        size = max(outcome.path.stat().st_size for outcome in self.outcomes if outcome.path and outcome.path.exists())
        run = every * statistics.median(plain)
        low, middle, high = statistics.quantiles([100 * extra / run for extra in extras], n=4)
        return [
            Figure("checkpoint.share", middle, low, high),
            Figure("checkpoint.stall", statistics.median(stalls), unit="s", note=f"{size / 2**20:.0f} MiB"),
            Figure("checkpoint.step", statistics.median(plain), unit="s"),
        ]

    def _stretch(self, num_steps: int, *, saves: bool) -> tuple[float, float]:
        """Return the seconds of a stretch of steps, and of its stall."""
        synchronize(self.device)
        start = time.perf_counter()
        if saves:
            self.state.step += 1
            content = self.state.to_checkpoint("", Categories((1,), ("a",)))
            self.writer.begin(content, step=self.state.step, is_best=True)
        stall = time.perf_counter() - start
        for _ in range(num_steps):
            self.stepper([self.batch])
            self.writer.poll()
        self.writer.finish()
        synchronize(self.device)
        return time.perf_counter() - start, stall


if __name__ == "__main__":
    raise SystemExit(main())
