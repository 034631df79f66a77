"""Measure a configuration on this machine, with the pieces of a real run and nothing left behind."""

import contextlib
import gc
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch

from detector.config import Config
from detector.data.largest_batch import LargestBatch, build_largest_batch
from detector.engine.benchmark.ceilings import Ceilings, measure_ceilings
from detector.engine.benchmark.fit import Fit, fit_on_gpu, fit_on_host
from detector.engine.benchmark.flops import build_meta_network, count_training_flops
from detector.engine.benchmark.host_memory import peak_resident_memory, restart_peak
from detector.engine.benchmark.stretches import (
    Step,
    Stretch,
    first_steps,
    keep_steps,
    loader_alone,
    ready_steps,
    whole_steps,
)
from detector.engine.device import ResolvedPrecision, describe_device, resolve_precision
from detector.engine.processes import processes_from_environment
from detector.engine.run import Origins, Run, build_run
from detector.errors import UserError


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """What was measured of a configuration.

    Attributes:
        hardware: the device in words.
        device: ``cpu`` or ``cuda``.
        num_threads: of torch on the processor.
        precision: resolved.
        batch_size: images of a step.
        images_per_forward: images of one forward pass.
        num_workers: loader processes.
        startup_seconds: what a run does before its first step, data checks included.
        first_step_seconds: the first step, with compilation and the search for algorithms.
        whole: the train loop, data included.
        ready: steps whose data is on the device already.
        loader: reading the batches of steps without making any.
        flops: floating point operations of a step, mean of those that were made.
        ceilings: of the machine in this precision; None where the precision is emulated.
        peak_memory: bytes at most: on a GPU of torch's tensors, on a CPU of the process; None = the system hides it.
        reserved_memory: bytes that torch took of the GPU; None on a CPU.
        largest: the largest batch that the data can give.
        fit: how many images of its shape fit; None = not found out.
    """

    hardware: str
    device: str
    num_threads: int
    precision: ResolvedPrecision
    batch_size: int
    images_per_forward: int
    num_workers: int
    startup_seconds: float
    first_step_seconds: float
    whole: Stretch
    ready: Stretch
    loader: Stretch
    flops: float
    ceilings: Ceilings | None
    peak_memory: int | None
    reserved_memory: int | None
    largest: LargestBatch
    fit: Fit | None

    def images_per_second(self, stretch: Stretch) -> float:
        """Return the rate of one of the stretches."""
        return self.batch_size / stretch.step_seconds


def benchmark(
    config: Config, origins: Origins, *, num_steps: int, say: Callable[[str], object] = lambda line: None
) -> BenchmarkResult:
    """Measure a configuration; the weights that come of it are thrown away.

    Args:
        config: of a run; its ``output_dir`` is neither read nor written.
        origins: where each of its values comes from, for messages.
        num_steps: steps of each stretch, at least 1; fewer where they take more than a minute.
        say: told what is being done, for a person who waits.

    Raises:
        UserError: what the user gave is wrong, as for training; or several processes were started.
    """
    if processes_from_environment().num_processes > 1:
        raise UserError("benchmark: measures one process; start it without torchrun")
    with tempfile.TemporaryDirectory(prefix="detector-benchmark-") as folder:
        say("starting the run")
        start = time.perf_counter()
        with _throwaway_run(config, origins, Path(folder) / "run") as run:
            return _measure(run, time.perf_counter() - start, num_steps, say)


@contextmanager
def _throwaway_run(config: Config, origins: Origins, folder: Path) -> Iterator[Run]:
    """Build the run that a configuration describes, in another folder and without its report; close it at the end."""
    with contextlib.redirect_stdout(io.StringIO()):
        run = build_run(config.model_copy(update={"output_dir": str(folder)}), origins)
    try:
        with run.recorder:
            for group in run.state.optimizer.param_groups:
                group["lr"] = 0.0  # the work of a step is the same, and noise teaches nothing that could diverge
            yield run
    finally:
        gc.collect()  # see engine/train.py
        run.processes.close()


def _measure(run: Run, startup_seconds: float, num_steps: int, say: Callable[[str], object]) -> BenchmarkResult:
    run.state.model.train()
    batches = iter(run.loader)
    say("reading batches")
    loader = loader_alone(run, batches, num_steps)
    say("training")
    _restart_peak(run.device)
    first_step_seconds = first_steps(run, batches)
    whole = whole_steps(run, batches, num_steps)
    say("training with the data already there")
    kept = keep_steps(run, batches)
    ready = ready_steps(run, kept, num_steps)
    peak, reserved = _peak_memory(run.device)
    say("measuring the machine, and how many images fit")
    precision = resolve_precision(run.config.precision, run.device)
    is_native = precision != "bf16" or resolve_precision("auto", run.device) == "bf16"
    largest = build_largest_batch(run.config.data, run.train_dataset.table)
    return BenchmarkResult(
        hardware=describe_device(run.device),
        device=run.device.type,
        num_threads=torch.get_num_threads(),
        precision=precision,
        batch_size=run.config.data.batch_size,
        images_per_forward=len(kept[0][0].images),
        num_workers=run.config.data.num_workers,
        startup_seconds=startup_seconds,
        first_step_seconds=first_step_seconds,
        whole=whole,
        ready=ready,
        loader=loader,
        flops=_mean_flops(run, kept),
        ceilings=measure_ceilings(run.device, [precision]) if is_native else None,
        peak_memory=peak,
        reserved_memory=reserved,
        largest=largest,
        fit=_fit(run, largest),
    )


def _mean_flops(run: Run, steps: list[Step]) -> float:
    network = build_meta_network(run.config.model, len(run.train_dataset.categories))
    counts: dict[tuple[int, int, int], int] = {}
    totals = []
    for step in steps:
        shapes = [(int(n), int(h), int(w)) for n, h, w, _ in (batch.images.shape for batch in step)]
        for shape in shapes:
            if shape not in counts:
                counts[shape] = count_training_flops(network, shape)
        totals.append(sum(counts[shape] for shape in shapes))
    return fmean(totals)


def _fit(run: Run, largest: LargestBatch) -> Fit | None:
    def try_step(num_images: int) -> None:
        run.stepper([largest.make(num_images).to(run.device)])

    if run.device.type == "cuda":
        return fit_on_gpu(try_step, run.device)
    return fit_on_host(try_step)


def _restart_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        restart_peak()


def _peak_memory(device: torch.device) -> tuple[int | None, int | None]:
    """Return peak and reserved bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)
    return peak_resident_memory(), None
