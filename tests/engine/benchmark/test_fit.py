"""detector/engine/benchmark/fit.py with memory that is an exact line, so that the answer is known."""

from collections.abc import Callable

import pytest
import torch

from detector.engine.benchmark import fit
from detector.engine.benchmark.fit import Fit, fit_on_gpu, fit_on_host


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


@pytest.mark.parametrize("available", [300, 500, 800, 1000, 2000, 5000, 100_000])
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
    if available >= 500:  # with less even two images might be too many to try, and one is the safe answer
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


class FakeGpu:
    """A GPU with 1000 bytes, of which the network holds 100, and on which n images take ``n * per_image`` more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, per_image: int) -> None:
        self.tried: list[int] = []
        self.peak, self.per_image = 100, per_image
        for name, value in (("mem_get_info", (850, 1000)), ("memory_reserved", 150), ("memory_allocated", 100)):
            monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
        monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: self.peak)

    def step(self, num_images: int) -> None:
        self.tried.append(num_images)
        self.peak = 100 + num_images * self.per_image
        if self.peak > 1000:
            raise torch.OutOfMemoryError("CUDA out of memory.")


@pytest.mark.parametrize(
    ("per_image", "largest"), [(1000, 0), (500, 1), (450, 2), (300, 3), (100, 8), (70, 12), (9, 96), (1, 768)]
)
def test_on_a_gpu_the_largest_number_of_the_ladder_that_fits_is_found(
    monkeypatch: pytest.MonkeyPatch, per_image: int, largest: int
) -> None:
    gpu = FakeGpu(monkeypatch, per_image)
    found = fit_on_gpu(gpu.step, torch.device("cpu"))
    assert (found.largest, found.is_tried, found.budget) == (largest, True, 900)
    assert found.largest == max((n for n in fit._LADDER if n * per_image <= 900), default=0)
    assert len(gpu.tried) < 12
    assert found.bytes_per_image == (per_image if largest else 0)


@pytest.mark.gpu
def test_on_a_real_gpu_the_memory_of_a_step_is_seen() -> None:
    device = torch.device("cuda")
    free, _ = torch.cuda.mem_get_info(device)
    block = free // 20
    found = fit_on_gpu(lambda number: torch.empty(number * block, dtype=torch.uint8, device=device), device)
    assert found.largest in (12, 16)
    assert found.bytes_per_image == pytest.approx(block, rel=0.05)
