"""Kill, stop, starve and damage training runs, and see that each continues as if nothing had happened.

    python scripts/torture.py                 # the long form: 100 kills and more, 45 minutes on 2 CPU cores
    python scripts/torture.py --short         # a few of each
    python scripts/torture.py --only kills signals --seed 3

A run that was hurt is continued with ``train --resume`` until it is finished, and then compared with one that was left
alone: the last checkpoint bit for bit, and every row of metrics.jsonl without its times. The exit code is 1 if one run
differs, fails, or does not say what has happened to it. Folders of runs that differ are kept. For control, a run of
another seed must be found to differ; and files with mutations are read (scripts/fuzz.py).
"""

import argparse
import contextlib
import io
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: runs are forked, and threads are not

import fuzz
from torture_elastic import kill_under_torchrun
from torture_hurts import (
    ask_to_stop,
    damage_the_newest,
    fill_the_disk,
    kill_a_worker,
    kill_at_random,
    kill_while_saving,
)
from torture_memory import measure_growth
from torture_runs import Setup
from torture_trials import Hurt, Reference, Tally, may_mount, tell_another_run, try_to_break

HURTS: Final[dict[str, tuple[str, Callable[[Reference], Hurt]]]] = {
    "kills": ("SIGKILL at any moment", kill_at_random),
    "saving": ("SIGKILL while a checkpoint is written", kill_while_saving),
    "sigterm": ("SIGTERM at any moment", partial(ask_to_stop, signals=[signal.SIGTERM])),
    "signals": ("SIGINT or SIGUSR1 at any moment", partial(ask_to_stop, signals=[signal.SIGINT, signal.SIGUSR1])),
    "workers": ("data worker killed", kill_a_worker),
    "disk": ("no room for a checkpoint", fill_the_disk),
    "damage": ("newest checkpoint cut or flipped", damage_the_newest),
}
"""What is done to runs."""

TRIALS: Final = (*HURTS, "elastic", "control", "fuzz", "memory")

LONG: Final = {"kills": (20, 25, 25), "saving": (10, 10, 10), "sigterm": (10, 10, 10), "signals": (2, 2, 2),
               "workers": (10, 10, 0), "disk": (10, 0, 0), "damage": (10, 0, 0), "elastic": (0, 2, 0),
               "control": (1, 0, 0)}  # fmt: skip
"""How often with one, two and three processes."""

SHORT: Final = {"saving": (1, 0, 0), "disk": (1, 0, 0), "damage": (1, 0, 0), "elastic": (0, 1, 0)}
"""For the full test, which has tests of its own for what is left out."""

PER_RUN: Final = {"kills": 5, "saving": 5, "sigterm": 5, "signals": 5, "workers": 5, "disk": 2, "damage": 2}
"""At most so often to one run."""

NUM_FUZZED: Final = {"short": 20, "long": 500}
NUM_STEPS: Final = {"short": 8, "long": 18}
"""Of each run."""
MEMORY_STEPS: Final = 2000


def main() -> int:
    args = _arguments()
    folder = Path(tempfile.mkdtemp(prefix="torture-", dir=args.folder))
    print(f"runs in {folder}, seed {args.seed}", flush=True)
    recipe = _recipe(_make_data(folder), eval_every=4 if args.short else 8)
    import detector.engine.train  # noqa: F401 (heavy: every run is forked from here and has it already)

    start = time.monotonic()
    tallies: list[Tally] = []
    for tally in _all_trials(args, recipe, folder):
        tallies.append(tally)
        print(f"  {_minutes(start)}: {_row(tally)}", flush=True)
    problems = [
        f"{tally.name}, {tally.num_processes} process(es): {line}" for tally in tallies for line in tally.problems
    ]
    print("", _row(), "| --- | ---: | ---: | ---: |", *map(_row, tallies), sep="\n")
    print(f"\n{len(problems)} problem(s), {_minutes(start)}", *problems, sep="\n  ")
    if not problems:
        shutil.rmtree(folder)
    return 1 if problems else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a few trials of each kind, and no memory test")
    parser.add_argument("--only", nargs="+", choices=TRIALS, default=TRIALS, help="these kinds of trials")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--folder", type=Path, help="where the runs lie; default: a temporary folder")
    return parser.parse_args()


def _all_trials(args: argparse.Namespace, recipe: list[str], folder: Path) -> Iterator[Tally]:
    table, num_steps = (SHORT, NUM_STEPS["short"]) if args.short else (LONG, NUM_STEPS["long"])
    for num_processes in (1, 2, 3):
        counts = {name: numbers[num_processes - 1] for name, numbers in table.items() if name in args.only}
        if any(counts.values()):
            # With 6 images of a step: two micro-batches of 3 images, one of them, or two of one image.
            setup = Setup(
                [*recipe, f"data.images_per_forward={(3, 3, 1)[num_processes - 1]}"], num_processes, num_steps
            )
            yield from _trials(setup, counts, folder / str(num_processes), args.seed)
    if "fuzz" in args.only:
        yield from _fuzz(NUM_FUZZED["short" if args.short else "long"], args.seed)
    if "memory" in args.only and not args.short:
        yield from _memory(recipe, folder / "memory")


def _trials(setup: Setup, counts: dict[str, int], folder: Path, seed: int) -> Iterator[Tally]:
    """Make all trials with one number of processes."""
    reference = Reference(setup, folder)
    for name, (title, hurt) in HURTS.items():
        if counts.get(name):
            rng = random.Random(f"{seed} {name} {setup.num_processes}")
            has_disk = name == "disk" and may_mount(folder)
            title += {"disk": f" ({'a small disk' if has_disk else 'a limit on the size of files'})"}.get(name, "")
            limits = (counts[name], PER_RUN[name])
            yield try_to_break(reference, title, hurt(reference), *limits, rng, on_small_disk=has_disk)
    if counts.get("elastic"):
        yield kill_under_torchrun(reference, counts["elastic"])
    if counts.get("control"):
        yield tell_another_run(reference, counts["control"])


def _fuzz(num_cases: int, seed: int) -> Iterator[Tally]:
    """Have readers read mutated files, a row for each kind."""
    logging.disable(logging.WARNING)
    outcomes = list(fuzz.run_cases(num_cases, seed))
    logging.disable(logging.NOTSET)
    for kind in fuzz.KINDS:
        cases = [outcome for outcome in outcomes if outcome.kind == kind]
        faults = [f"--case {one.case} ({one.mutation}): {one.verdict}: {one.detail}" for one in cases if one.is_fault]
        yield Tally(f"mutated {kind}: reported, or harmless", 0, len(cases), len(cases) - len(faults), faults)


def _memory(recipe: list[str], folder: Path) -> Iterator[Tally]:
    recipe = [*recipe, "eval.every=1000", "checkpoint.every=500"]
    for part in measure_growth(Setup(recipe, 1, MEMORY_STEPS), folder):
        text = f"{part.growth:+.2f} MB per 1,000 steps (+- {part.noise:.2f}) at {part.megabytes:.0f} MB"
        problems = [f"it grows: {text}"] if part.is_growing else []
        yield Tally(f"memory of the {part.name}, {MEMORY_STEPS} steps: {text}", 1, 1, 1 - len(problems), problems)


def _row(tally: Tally | None = None) -> str:
    if tally is None:
        return "| what was done | processes | trials | told and exact |"
    return f"| {tally.name} | {tally.num_processes or '-'} | {tally.num_trials} | {tally.num_right} |"


def _minutes(start: float) -> str:
    return f"{(time.monotonic() - start) / 60:.1f} min"


def _make_data(folder: Path) -> Path:
    from detector.cli.make_demo import main as make_demo

    with contextlib.redirect_stdout(io.StringIO()):
        code = make_demo(["--output", str(folder / "data"), "--num-train", "24", "--num-val", "6"])
    if code != 0:
        raise SystemExit(1)
    return folder / "data"


def _recipe(data: Path, *, eval_every: int) -> list[str]:
    """Return the arguments of a run of some seconds that has all that a run can have to lose."""
    splits = [
        f"data.{split}.{key}={data / path}"
        for split, name in (("train", "train"), ("val", "val"))
        for key, path in (("annotations", f"annotations/{name}.json"), ("images", name))
    ]
    return [
        *("--config", "retina_demo", *splits),
        *("device=cpu", "precision=fp32", "log_every=1", "seed=5"),
        *("data.short_side=[48,64]", "data.max_side=64", "data.batch_size=6", "data.num_workers=1"),
        *("model.fpn.channels=16", "model.head.num_convs=1", "ema.decay=0.9", "loss.normalizer=ema"),
        *("schedule.warmup_steps=4", f"eval.every={eval_every}", "eval.num_pictures=1"),
        *("optimizer.lr=0.002", "eval.score_thresh=0.001"),
        *("eval.loss_profile_every=0", "checkpoint.every=3"),
    ]


if __name__ == "__main__":
    sys.exit(main())
