"""What was measured of a configuration, in words, and what to do about the slowest part."""

from dataclasses import asdict
from typing import Any, Final

from detector.engine.benchmark.measuring import BenchmarkResult
from detector.engine.benchmark.stretches import Stretch
from detector.engine.fitting import divisors

QUIET_SHARE: Final = 0.75
"""Part of its threads' time that training gets on a processor with nothing else to do; with less, others work too."""

WAIT_SHARE: Final = 0.1
"""Part of a step from which waiting for data is worth doing something about."""


def format_result(result: BenchmarkResult) -> str:
    """Return the figures for a person to read."""
    whole, ready, loader = result.whole, result.ready, result.loader
    rows = [
        ("hardware", f"{result.hardware}; {result.precision}"),
        ("batch", _describe_batch(result)),
        ("training", f"{_rate(result, whole)}, {_share(whole.waited / whole.seconds)} of it waiting for data"),
        ("without data", f"{_rate(result, ready)}, the batches on the device already"),
        ("loader alone", f"{_rate(result, loader)}, {_workers(result.num_workers)}"),
        ("computing", _describe_computing(result)),
        (
            "start",
            f"{_duration(result.startup_seconds)}, then {_duration(result.first_step_seconds)} for the first step",
        ),
        ("memory", _describe_memory(result)),
        ("fits", _describe_fit(result)),
        ("so", advice(result)),
    ]
    if (share := thread_share(result)) is not None and share < QUIET_SHARE:
        rows.append(
            ("note", f"training got {share:.0%} of its threads' time: this machine is busy, and faster when idle")
        )
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)


def to_json(result: BenchmarkResult) -> dict[str, Any]:
    """Return the figures as JSON has them; seconds, bytes and operations in units of one."""
    content = asdict(result)
    for name in ("whole", "ready", "loader"):
        content[name]["images_per_second"] = result.images_per_second(getattr(result, name))
    content["data_wait_share"] = result.whole.waited / result.whole.seconds
    content["flops_per_second"] = result.flops / result.ready.step_seconds
    return content


def thread_share(result: BenchmarkResult) -> float | None:
    """Return the part of the time that the threads of training ran, on a CPU with the data there; None on a GPU."""
    if result.device != "cpu" or result.ready.cpu_seconds is None:
        return None
    return result.ready.cpu_seconds / (result.ready.seconds * result.num_threads)


def advice(result: BenchmarkResult) -> str:
    """Return what limits the speed, and what could be done."""
    if result.whole.waited / result.whole.seconds < WAIT_SHARE:
        return "the network sets the pace; the loader keeps up"
    if result.num_workers == 0:
        return "training waits for data: data.num_workers=0 loads between the steps, 1 or more read ahead"
    if result.images_per_second(result.loader) < result.images_per_second(result.ready):
        return (
            "training waits for data: the loader alone is slower than the network. More data.num_workers help as long "
            "as cores are idle; else smaller images on disk, or fewer transforms in data.augment"
        )
    return (
        "training waits for data although the loader alone is faster: the two share the cores. Fewer data.num_workers "
        "or threads (OMP_NUM_THREADS) may help"
    )


def _describe_batch(result: BenchmarkResult) -> str:
    num_forwards = result.batch_size // result.images_per_forward
    forwards = "at once" if num_forwards == 1 else f"in {num_forwards} forwards of {result.images_per_forward}"
    return f"{result.batch_size} images a step, {forwards}"


def _rate(result: BenchmarkResult, stretch: Stretch) -> str:
    steps = "1 step" if stretch.num_steps == 1 else f"{stretch.num_steps} steps"
    return f"{result.images_per_second(stretch):.3g} images/s ({_duration(stretch.step_seconds)} a step, {steps})"


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def _share(part: float) -> str:
    return f"{part:.1%}" if part < 0.1 else f"{part:.0%}"


def _workers(number: int) -> str:
    return {0: "in the training process", 1: "1 worker"}.get(number, f"{number} workers")


def _describe_computing(result: BenchmarkResult) -> str:
    per_second = result.flops / result.ready.step_seconds
    text = f"{result.flops / 1e9:.4g} GFLOP a step, {per_second / 1e9:.4g} GFLOP/s"
    if result.ceilings is None:
        return f"{text}; this hardware emulates {result.precision}: precision=fp32 is faster"
    convolution = result.ceilings.convolution[result.precision]
    matmul = result.ceilings.matmul[result.precision]
    return (
        f"{text} without data: {per_second / convolution:.0%} of what a 3 x 3 convolution reaches here "
        f"({convolution / 1e9:.4g}), {per_second / matmul:.0%} of a matrix product ({matmul / 1e9:.4g})"
    )


def _describe_memory(result: BenchmarkResult) -> str:
    if result.peak_memory is None:
        return "unknown: this system does not tell a process's peak"
    if result.reserved_memory is None:
        return f"{_gib(result.peak_memory)} at most, the training process without loader workers"
    return f"{_gib(result.peak_memory)} of tensors at most, {_gib(result.reserved_memory)} taken of the GPU"


def _describe_fit(result: BenchmarkResult) -> str:
    height, width = result.largest.size
    if result.fit is None:
        return "unknown: this system does not tell how much memory is left"
    shape = f"of {height} x {width} pixels, the largest shape of this data"
    if result.fit.largest == 0:
        return f"not even one image {shape}: it takes {_gib(result.fit.bytes_per_image)} of {_gib(result.fit.budget)}"
    how = "tried" if result.fit.is_tried else "worked out from a few"
    return (
        f"{result.fit.largest} at once {shape} ({how}; {result.fit.bytes_per_image / 2**20:.0f} MiB each, "
        f"{_gib(result.fit.budget)} to spend); {_choice(result, result.fit.largest)}"
    )


def _choice(result: BenchmarkResult, largest: int) -> str:
    if largest >= result.batch_size:
        return f"the whole batch of {result.batch_size} fits"
    number = max(n for n in divisors(result.batch_size) if n <= largest)
    return f"for a batch of {result.batch_size}: data.images_per_forward={number}"


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.2f} GiB"
