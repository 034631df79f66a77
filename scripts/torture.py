"""Kill, stop, starve and damage training runs, and see that each continues as if nothing had happened.

    python scripts/torture.py                 # the long form: 100 kills and more, about half an hour on 2 CPU cores
    python scripts/torture.py --short         # a few of each
    python scripts/torture.py --only kills sigterms --seed 3

A run that was hurt is continued with ``train --resume`` until it is finished, and then compared with one that was left
alone: the last checkpoint bit for bit, and every row of metrics.jsonl without its times. The exit code is 1 if one run
differs, fails, or does not say what has happened to it. Folders of runs that differ are kept.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from torture_memory import measure_growth
from torture_runs import Setup
from torture_trials import (
    Hurt,
    Reference,
    Tally,
    ask_to_stop,
    damage_the_newest,
    fill_the_disk,
    kill_a_worker,
    kill_at_random,
    kill_while_saving,
    try_to_break,
)

TRIALS: Final = ("kills", "saving", "sigterms", "workers", "disk", "damage", "memory")

LONG: Final = {"kills": (20, 25, 25), "saving": (10, 10, 10), "sigterms": (10, 10, 10), "workers": (10, 10, 0),
               "disk": (10, 0, 0), "damage": (10, 0, 0)}  # fmt: skip
"""How often with one, two and three processes."""

SHORT: Final = {"kills": (2, 1, 2), "saving": (1, 1, 0), "sigterms": (1, 1, 0), "workers": (1, 0, 0),
                "disk": (1, 0, 0), "damage": (2, 0, 0)}  # fmt: skip

PER_RUN: Final = {"kills": 4, "saving": 2, "sigterms": 4, "workers": 2, "disk": 1, "damage": 2}
"""At most so often to one run."""

MEMORY_STEPS: Final = 2000


def main() -> int:
    args = _arguments()
    folder = Path(tempfile.mkdtemp(prefix="torture-", dir=args.folder))
    print(f"runs in {folder}, seed {args.seed}", flush=True)
    data = _make_data(folder)
    import detector.engine.train  # noqa: F401 (heavy: every run is forked from here and has it already)

    start = time.monotonic()
    problems: list[str] = []
    for num_processes in (1, 2, 3):
        counts = {name: numbers[num_processes - 1] for name, numbers in args.counts.items() if name in args.only}
        if any(counts.values()):
            problems += _torture(Setup(_recipe(data), num_processes), counts, folder / str(num_processes), args.seed)
    if "memory" in args.only and not args.short:
        problems += _memory(data, folder / "memory")
    print(f"{len(problems)} problem(s), {(time.monotonic() - start) / 60:.1f} minutes")
    for problem in problems:
        print(f"  {problem}")
    return 1 if problems else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a few trials of each kind, and no memory test")
    parser.add_argument("--only", nargs="+", choices=TRIALS, default=TRIALS, help="these kinds of trials")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--folder", type=Path, help="where the runs lie; default: a temporary folder")
    args = parser.parse_args()
    args.counts = SHORT if args.short else LONG
    return args


def _torture(setup: Setup, counts: dict[str, int], folder: Path, seed: int) -> list[str]:
    """Run all trials with one number of processes, print a row for each kind, and return what went wrong."""
    reference = Reference(setup, folder)
    hurts: dict[str, tuple[str, Hurt]] = {
        "kills": ("SIGKILL at any moment", kill_at_random(reference)),
        "saving": ("SIGKILL while a checkpoint is written", kill_while_saving(reference)),
        "sigterms": ("SIGTERM, SIGINT, SIGUSR1", ask_to_stop(reference)),
        "workers": ("data worker killed", kill_a_worker(reference)),
        "disk": ("no room for a checkpoint", fill_the_disk(reference)),
        "damage": ("newest checkpoint cut or flipped", damage_the_newest(reference)),
    }
    problems = []
    for name, (title, hurt) in hurts.items():
        if counts.get(name):
            rng = random.Random(f"{seed} {name} {setup.num_processes}")
            tally = try_to_break(reference, title, hurt, counts[name], PER_RUN[name], rng)
            _print_tally(tally)
            problems += [f"{tally.name}: {problem}" for problem in tally.problems]
    return problems


def _memory(data: Path, folder: Path) -> list[str]:
    recipe = [*_recipe(data), f"schedule.max_steps={MEMORY_STEPS}", "eval.every=1000", "checkpoint.every=500"]
    problems = []
    for part in measure_growth(Setup(recipe, 1), folder):
        row = f"{part.growth:+.2f} MB per 1,000 steps (+- {part.noise:.2f}) at {part.megabytes:.0f} MB"
        print(f"{f'memory of {part.name}, {MEMORY_STEPS} steps':<56}{row}", flush=True)
        if part.is_growing:
            problems.append(f"the memory of the {part.name} grows: {row}")
    return problems


def _print_tally(tally: Tally) -> None:
    print(f"{tally.name:<56}{tally.num_trials:>4} trials {tally.num_exact:>4} exact", flush=True)


def _make_data(folder: Path) -> Path:
    from detector.cli.make_demo import main as make_demo

    if make_demo(["--output", str(folder / "data"), "--num-train", "24", "--num-val", "6"]) != 0:
        raise SystemExit(1)
    return folder / "data"


def _recipe(data: Path) -> list[str]:
    """Return the arguments of a run of some seconds that has all that a run can have to lose."""
    splits = [
        f"data.{split}.{key}={data / path}"
        for split, name in (("train", "train"), ("val", "val"))
        for key, path in (("annotations", f"annotations/{name}.json"), ("images", name))
    ]
    return [
        *("--config", "retina_demo", *splits),
        *("device=cpu", "precision=fp32", "log_every=1", "seed=5"),
        *("data.short_side=[64,96]", "data.max_side=128", "data.batch_size=6", "data.num_workers=2"),
        *("model.fpn.channels=16", "model.head.num_convs=1", "ema.decay=0.9", "loss.normalizer=ema"),
        *("schedule.max_steps=24", "schedule.warmup_steps=4", "eval.every=8", "eval.num_pictures=1"),
        *("eval.loss_profile_every=0", "checkpoint.every=3"),
    ]


if __name__ == "__main__":
    sys.exit(main())
