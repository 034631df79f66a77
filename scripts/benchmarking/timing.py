"""How long callables take, in turn: what else the machine does then hits all of them alike."""

import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

Clock = Literal["wall", "cpu"]
"""``wall``: the time until the work is done; on a GPU that between two events on its stream. ``cpu``: processor seconds
of this process with all its threads, which others on the machine disturb less."""

MIN_ROUNDS = 3
"""Rounds that are made however little time there is: quartiles of fewer say nothing."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Median of a measurement with its quartiles and its minimum."""

    median: float
    low: float
    high: float
    minimum: float


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one callable.

    Attributes:
        wall: of each measured round, in order.
        cpu: processor seconds of the same rounds.
        first: wall seconds of the very first call, with compilation and the search for algorithms.
    """

    wall: tuple[float, ...]
    cpu: tuple[float, ...]
    first: float

    def seconds(self, clock: Clock = "wall") -> Spread:
        """Return the spread over the rounds."""
        return spread_of(self._rounds(clock))

    def speedup_over(self, peer: "Timing", clock: Clock = "wall") -> Spread:
        """Return how many times faster than a peer of the same run: of the rounds' ratios, each within one round."""
        return spread_of(peer.ratios_to(self, clock))

    def ratios_to(self, other: "Timing", clock: Clock = "wall") -> list[float]:
        """Return how many times longer it takes than another one of the same run, in each round."""
        return [mine / its for mine, its in zip(self._rounds(clock), other._rounds(clock), strict=True)]

    def _rounds(self, clock: Clock) -> tuple[float, ...]:
        return self.wall if clock == "wall" else self.cpu


def spread_of(values: Sequence[float]) -> Spread:
    """Return median, quartiles and minimum of at least one value."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return Spread(middle, low, high, min(values))


def time_in_turn(
    functions: Mapping[str, Callable[[], object]],
    *,
    device: torch.device,
    warmup: int = 2,
    repeats: int = 7,
    max_seconds: float = float("inf"),
) -> dict[str, Timing]:
    """Call every function once a round, and time each call.

    Another one goes first in every round, so that none always runs in the cache that the same other one left.

    Args:
        functions: what is timed, by name. What a call must find fresh, it makes itself.
        device: where they work.
        warmup: rounds before those that count, at least 1: the first call is reported apart.
        repeats: rounds that count.
        max_seconds: no round is begun after so many seconds, but for the first MIN_ROUNDS.
    """
    if warmup < 1 or repeats < 1:
        raise ValueError(f"warmup and repeats must be at least 1, but are {warmup} and {repeats}")
    names, start = list(functions), time.perf_counter()
    first: dict[str, float] = {}
    rounds: list[dict[str, tuple[float, float]]] = []
    for round_idx in range(warmup + repeats):
        if len(rounds) >= MIN_ROUNDS and time.perf_counter() - start > max_seconds:
            break
        shift = round_idx % len(names)
        seconds = {name: _timed(functions[name], device) for name in itertools.chain(names[shift:], names[:shift])}
        if round_idx == 0:
            first = {name: wall for name, (wall, _) in seconds.items()}
        if round_idx >= warmup:
            rounds.append(seconds)
    return {
        name: Timing(tuple(one[name][0] for one in rounds), tuple(one[name][1] for one in rounds), first[name])
        for name in names
    }


def _timed(function: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Return wall and processor seconds of one call."""
    if device.type != "cuda":
        start, start_cpu = time.perf_counter(), time.process_time()
        function()
        return time.perf_counter() - start, time.process_time() - start_cpu
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize(device)
    start_cpu = time.process_time()
    begin.record()
    function()
    end.record()
    used = time.process_time() - start_cpu  # before the wait, which would count as work of the processor
    end.synchronize()
    return begin.elapsed_time(end) / 1000, used
