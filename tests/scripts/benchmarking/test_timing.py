"""benchmarking/timing.py, with clocks that the functions themselves move."""

import time

import pytest
import torch
from benchmarking.timing import Spread, Timing, spread_of, time_in_turn

CPU = torch.device("cpu")


class FakeClocks:
    """Two clocks that move only when a function says how long it took."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall = self.cpu = 0.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.wall)
        monkeypatch.setattr(time, "process_time", lambda: self.cpu)

    def spend(self, wall: float, cpu: float) -> None:
        self.wall += wall
        self.cpu += cpu


def test_every_function_is_called_once_a_round_and_another_one_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeClocks(monkeypatch)
    calls: list[str] = []
    time_in_turn({name: lambda name=name: calls.append(name) for name in "abc"}, device=CPU, warmup=1, repeats=3)
    assert "".join(calls) == "abc" + "bca" + "cab" + "abc"


def test_warm_up_rounds_do_not_count_and_the_first_call_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = FakeClocks(monkeypatch)
    durations = iter([60.0, 5.0, 1.0, 2.0, 3.0])

    def function() -> None:
        wall = next(durations)
        clocks.spend(wall, 2 * wall)

    timing = time_in_turn({"it": function}, device=CPU, warmup=2, repeats=3)["it"]
    assert timing == Timing(wall=(1.0, 2.0, 3.0), cpu=(2.0, 4.0, 6.0), first=60.0)


def test_no_round_is_begun_when_the_time_is_up_but_three_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = FakeClocks(monkeypatch)
    timing = time_in_turn({"it": lambda: clocks.spend(10, 10)}, device=CPU, warmup=1, repeats=9, max_seconds=5)["it"]
    assert timing.wall == (10.0, 10.0, 10.0)
    timing = time_in_turn({"it": lambda: clocks.spend(10, 10)}, device=CPU, warmup=1, repeats=9, max_seconds=55)["it"]
    assert len(timing.wall) == 5


def test_a_speedup_is_that_within_each_round() -> None:
    # The second round was disturbed: the ratio of medians would be 2, but in every round ours was 4 times as fast.
    ours, theirs = Timing((1, 9, 2), (1, 1, 1), 0), Timing((4, 36, 8), (3, 3, 3), 0)
    assert ours.speedup_over(theirs) == Spread(4, 4, 4, 4)
    assert ours.speedup_over(theirs, "cpu").median == 3
    assert theirs.ratios_to(ours) == [4, 4, 4]


def test_the_spread_of_known_values() -> None:
    assert spread_of([5, 1, 3, 2, 4]) == Spread(median=3, low=2, high=4, minimum=1)
    assert spread_of([7]) == Spread(7, 7, 7, 7)


def test_a_run_without_rounds_is_refused() -> None:
    with pytest.raises(ValueError, match="warmup and repeats must be at least 1, but are 0 and 7"):
        time_in_turn({"it": lambda: None}, device=CPU, warmup=0)


@pytest.mark.gpu
def test_on_a_gpu_the_time_is_that_of_its_work_and_not_of_its_launch() -> None:
    matrix = torch.randn(8192, 8192, device="cuda")
    timings = time_in_turn(
        {"small": lambda: matrix[:64, :64] @ matrix[:64, :64], "large": lambda: matrix @ matrix},
        device=torch.device("cuda"),
    )
    assert timings["large"].seconds().minimum > 10 * timings["small"].seconds().minimum
