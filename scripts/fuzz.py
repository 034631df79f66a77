"""Mutate valid configurations, annotation files, images and checkpoints, and see that no reader takes it badly.

    python scripts/fuzz.py                       # 500 cases
    python scripts/fuzz.py --cases 60 --seed 7
    python scripts/fuzz.py --only checkpoints --case 131 --keep /tmp/case     # one again, with its file

A case ends well if the fault is reported as the user's (a plain message), or if the file is read and says what it says
by the rule of its kind (the first lines of scripts/fuzzing/*_files.py). A traceback, a hang and a file read as
something else are faults: they are printed, and the exit code is 1.
"""

import argparse
import contextlib
import logging
import os
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent))

from fuzzing import annotation_files, checkpoint_files, config_files, image_files
from fuzzing.outcome import Outcome, judge

Make = Callable[[Path, random.Random], tuple[str, Any]]

KINDS: Final[dict[str, tuple[Make, Callable[[Any], None]]]] = {
    "configs": (config_files.make_case, config_files.read_case),
    "annotations": (annotation_files.make_case, annotation_files.read_case),
    "images": (image_files.make_case, image_files.read_case),
    "checkpoints": (checkpoint_files.make_case, checkpoint_files.read_case),
}

SHARES: Final = {"configs": 0.25, "annotations": 0.35, "images": 0.25, "checkpoints": 0.15}
"""Of the cases; checkpoints take longest."""

VERDICTS: Final = ("reported", "harmless", "traceback", "hang", "silent")


def run_cases(num_cases: int, seed: int = 0, kinds: Sequence[str] = tuple(KINDS)) -> Iterator[Outcome]:
    """Make and read mutated files; every case depends on the seed, its kind and its number only."""
    total = sum(SHARES[kind] for kind in kinds)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        for kind in kinds:
            for case in range(max(1, round(num_cases * SHARES[kind] / total))):
                yield run_case(kind, case, seed, Path(folder))
    checkpoint_files.remove_original()


def run_case(kind: str, case: int, seed: int, folder: Path) -> Outcome:
    """Make one mutated file in ``folder`` and read it."""
    make, read = KINDS[kind]
    mutation, made = make(folder, random.Random(f"{seed} {kind} {case}"))
    with warnings.catch_warnings(), _silent_libraries():
        warnings.simplefilter("ignore")
        verdict, detail = judge(lambda: read(made))
    return Outcome(kind, case, mutation, verdict, detail)


def table(outcomes: Sequence[Outcome]) -> str:
    """Counts by kind and verdict, in Markdown."""
    counts = Counter((outcome.kind, outcome.verdict) for outcome in outcomes)
    kinds = dict.fromkeys(outcome.kind for outcome in outcomes)
    rows = [[kind, *(str(counts[kind, verdict]) for verdict in VERDICTS)] for kind in kinds]
    lines = [["mutated", *VERDICTS], ["---", *("---:" for _ in VERDICTS)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@contextlib.contextmanager
def _silent_libraries() -> Iterator[None]:
    """Let decoders not complain: C libraries write to the descriptor itself."""
    saved = os.dup(2)
    try:
        with Path(os.devnull).open("w") as devnull:
            os.dup2(devnull.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def main() -> int:
    """Run the cases, print what they found, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--case", type=int, help="one case, of the first kind of --only")
    parser.add_argument("--keep", type=Path, help="folder to leave the file of --case in")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    start = time.monotonic()
    if args.case is not None:
        folder = args.keep or Path(tempfile.mkdtemp(prefix="fuzz-"))
        folder.mkdir(parents=True, exist_ok=True)
        print(run_case(args.only[0], args.case, args.seed, folder), folder, sep="\n")
        return 0
    outcomes = list(run_cases(args.cases, args.seed, args.only))
    print(table(outcomes))
    faults = [outcome for outcome in outcomes if outcome.is_fault]
    for fault in faults:
        print(
            f"\n{fault.kind} --case {fault.case} --seed {args.seed} ({fault.mutation}): {fault.verdict}\n{fault.detail}"
        )
    print(f"\n{len(outcomes)} cases in {time.monotonic() - start:.0f} s, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
