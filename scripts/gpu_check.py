"""Checks and measurements of this machine, and a Markdown page with their results; see gpu_check.sh.

With a GPU: the tests marked `gpu`; all benchmarks with targets (scripts/benchmark_*.py of benchmarking/targets.py); 50
steps of R50 at 16 x 3 x 800 x 1344 in bf16 through the train command, from JPEG files; an evaluation in which every
image has detections; a deterministic run that is resumed; the telemetry's cost (benchmark_telemetry.py). With `--device
cpu`: the benchmarks.

Each part has a process of its own and a time limit, and all together have one. A part that fails is reported and the
others go on; the exit code is then 1. A target that is missed is marked on the page and changes no exit code: on a busy
machine it may be the machine.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import torch
from benchmarking import TARGETS, describe_hardware
from gpu_check_page import format_page
from gpu_check_running import ROOT, Outcome, run_benchmark, run_part

BENCHMARKS: Final = tuple(dict.fromkeys(target.script for target in TARGETS.values()))

GPU_LIMITS: Final = {
    "data": 30,
    "tests": 150,
    **dict.fromkeys(BENCHMARKS, 75),
    "train": 75,
    "evaluation": 45,
    "resume": 75,
    "telemetry": 45,
}
"""Seconds that a part may take on a machine with a GPU, in the order in which they run."""

CPU_LIMITS: Final = dict.fromkeys(BENCHMARKS, 300)
"""Likewise with ``--device cpu``, where each should take at most 120 if nothing else runs."""

TINY_LIMITS: Final = {name: 3 * limit for name, limit in GPU_LIMITS.items() if name not in BENCHMARKS}

LOADER: Final = TARGETS["loader.images_per_cpu_second"].script

NEED_DATA: Final = {"train", "evaluation", "resume"}

TIME_LIMITS: Final = {"cuda": 570, "cpu": 1800}
"""Seconds for all parts, whatever their limits add up to."""


def main() -> int:
    args = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the part that is running ends with this process
    limits = TINY_LIMITS if args.tiny else GPU_LIMITS if args.device == "cuda" else CPU_LIMITS
    chosen = set(args.only or limits)
    if chosen & NEED_DATA:
        chosen.add("data")
    outcomes, log = run_all([name for name in limits if name in chosen], limits, args)
    hardware = describe_hardware(torch.device(args.device))
    page = format_page(hardware, outcomes, arguments=sys.argv[1:])
    print(f"\n{page}")
    write_page(page, log, hardware.slug, keep=not args.tiny and len(outcomes) == len(limits))
    return int(any(outcome.problem for outcome in outcomes))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[*GPU_LIMITS], help="these parts; evaluation needs train")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument(
        "--tiny",
        action="store_true",
        help="with --device cpu: the parts of a GPU but the benchmarks, at small sizes, to try this script",
    )
    parser.add_argument("--annotations", type=Path, help="COCO file of photos for the loader; else generated pictures")
    parser.add_argument("--images", type=Path, help="folder of those photos")
    args = parser.parse_args()
    if (args.annotations is None) != (args.images is None):
        parser.error("--annotations and --images go together")
    if args.tiny and args.device != "cpu":
        parser.error("--tiny needs --device cpu")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device; --device cpu measures this machine's processor")
    return args


def photos_of(args: argparse.Namespace) -> list[str | Path]:
    """Return the options that give the loader's benchmark the user's photos: what its target is about.

    The paths are made absolute, as a benchmark does not run in the user's folder.
    """
    if args.annotations is None:
        return []
    return ["--annotations", args.annotations.absolute(), "--images", args.images.absolute()]


def run_all(names: list[str], limits: dict[str, int], args: argparse.Namespace) -> tuple[list[Outcome], str]:
    """Run the parts one after the other; return what came of each, and what all of them printed."""
    start = time.monotonic()
    outcomes, log = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            limit = min(limits[name], TIME_LIMITS[args.device] - (time.monotonic() - start))
            if name in BENCHMARKS:
                arguments = photos_of(args) if name == LOADER else []
                outcome = run_benchmark(name, Path(folder), limit, device=args.device, arguments=arguments)
            else:
                outcome = run_part(name, Path(folder), limit, tiny=args.tiny)
            outcomes.append(outcome)
            log.append(f"===== {name}\n{outcome.output}")
            print(f"gpu_check: {name}: {outcome.problem or 'ok'} ({outcome.seconds:.0f} s)", flush=True)
            if outcome.problem:
                print("\n".join(outcome.output.splitlines()[-60:]), flush=True)
    return outcomes, "\n".join(log)


def write_page(page: str, log: str, slug: str, *, keep: bool) -> None:
    """Write page and log to the folder $OUT; without it a whole run's page goes to benchmarks/."""
    if out := os.environ.get("OUT"):
        (Path(out) / f"{slug}.md").write_text(page, encoding="utf-8")
        (Path(out) / "gpu_check.log").write_text(log, encoding="utf-8")
    elif keep:
        (ROOT / "benchmarks" / f"{slug}.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
