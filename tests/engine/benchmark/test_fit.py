"""detector/engine/benchmark/fit.py with memory that is an exact line, so that the answer is known."""

from collections.abc import Callable

import pytest

from detector.engine.benchmark import fit
from detector.engine.benchmark.fit import Fit, fit_on_host


class FakeHost:
    """A host on which a step with n images takes ``base + n * per_image`` bytes, and that notes what is tried."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, available: int | None, base: int, per_image: int) -> None:
        self.tried: list[int] = []
        self.base, self.per_image = base, per_image
        monkeypatch.setattr(fit, "available_memory", lambda: available)
        monkeypatch.setattr(fit, "extra_memory", self.extra_memory)

    def extra_memory(self, function: Callable[[], object]) -> int:
        function()
        return self.needs(self.tried[-1])

    def needs(self, num_images: int) -> int:
        return self.base + num_images * self.per_image


@pytest.mark.parametrize("available", [300, 800, 1000, 2000, 5000, 100_000])
def test_on_a_host_the_largest_within_the_share_is_found_and_nothing_beyond_it_is_tried(
    monkeypatch: pytest.MonkeyPatch, available: int
) -> None:
    host = FakeHost(monkeypatch, available, base=50, per_image=100)
    found = fit_on_host(host.tried.append)
    assert found is not None
    budget = int(0.8 * available)
    assert found.budget == budget
    assert host.needs(found.largest) <= budget
    assert all(host.needs(number) <= budget for number in host.tried)
    assert found.is_tried == (available == 300)  # one image was tried, and two might have been too many
    if available >= 1000:  # with less even two images might be too many to try, and one is the safe answer
        assert host.needs(found.largest + 1) > budget
        assert found.bytes_per_image == 100


def test_not_even_one_image_may_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    host = FakeHost(monkeypatch, 100, base=50, per_image=100)
    assert fit_on_host(host.tried.append) == Fit(0, True, 150, 80)


def test_a_slope_that_grows_is_taken_at_its_steepest(monkeypatch: pytest.MonkeyPatch) -> None:
    host = FakeHost(monkeypatch, 10_000, base=0, per_image=100)
    host.needs = lambda n: {1: 100, 2: 150, 4: 700}[n]  # type: ignore[method-assign]
    found = fit_on_host(host.tried.append)
    assert found is not None
    assert (found.bytes_per_image, found.largest) == (200, 1 + (8000 - 100) // 200)


def test_a_system_that_does_not_tell_its_memory_has_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    host = FakeHost(monkeypatch, None, base=0, per_image=1)
    assert fit_on_host(host.tried.append) is None


def test_what_is_tried_on_a_gpu_goes_up_in_steps_of_at_most_a_half() -> None:
    assert fit._LADDER[:7] == [1, 2, 3, 4, 6, 8, 12]
    assert fit._LADDER[-1] == fit.MAX_IMAGES
    assert all(
        after <= 2 * before if before == 1 else after <= 1.5 * before
        for before, after in zip(fit._LADDER, fit._LADDER[1:], strict=False)
    )
