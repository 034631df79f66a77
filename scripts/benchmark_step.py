"""One training step of ours against torchvision's RetinaNet, in one process, one of each in turn.

    python scripts/benchmark_step.py                                          # both settings, 2 minutes on two cores
    python scripts/benchmark_step.py --settings scratch --compile model --repeats 5 --json step.json

Two settings. ``pretrained``: ResNet-50 with frozen batch norm, stem and first stage frozen, FPN, 80 classes, SGD.
``scratch``: ResNet-18 with trained batch norm, an FPN of 64 channels, 3 classes, AdamW, gradients clipped. Both train
the same network on the same images and boxes; a step is everything from uint8 (ours) or float images to updated
weights. torchvision's step holds its resize and normalisation (at scale 1), ours the normalisation.

FLOP/s are those of the direct convolutions, whatever way a step computes them: Winograd's may pass the ceiling.
"""

import argparse
from collections.abc import Callable

import torch
from benchmark_step_settings import SETTINGS, Setting, our_step, torchvision_step
from benchmarking import (
    Ceilings,
    Figure,
    count_flops,
    describe_hardware,
    make_parser,
    measure_ceilings,
    peak_memory,
    print_figures,
    print_table,
    random_batch,
    table_row,
    time_in_turn,
    timing_options,
    usable_precisions,
    write_figures,
)
from benchmarking.blocking_reads import as_on_a_device, blocking_reads

from detector.engine.device import ResolvedPrecision, resolve_device
from detector.engine.forward import uses_winograd
from detector.engine.heap import keep_freed_memory
from detector.structures import Batch

OURS, PEER = "ours", "torchvision"


def main() -> None:
    parser = make_parser(__doc__, repeats=3, warmup=1)
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--batch", type=int, help="images of a step, in place of the setting's")
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="of the images, likewise")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16", "fp16"])
    parser.add_argument("--compile", choices=["model", "step"], help="time ours through compiled graphs too")
    parser.add_argument("--direct", action="store_true", help="time ours with direct convolutions too")
    args = parser.parse_args()
    torch.manual_seed(0)
    device = resolve_device(args.device)
    if device.type == "cpu" and keep_freed_memory():
        print("freed memory stays with the process, for both (which speeds both up)")
    hardware = describe_hardware(device)
    precisions = usable_precisions(args.precisions, device)
    ceilings = measure_ceilings(device, precisions)
    print(hardware, ceilings, sep="\n")
    figures: list[Figure] = []
    for name in args.settings:
        for precision in precisions:
            figures += _compare(args, SETTINGS[name], precision, device, ceilings)
    print_figures(figures, hardware)
    if args.json:
        write_figures(args.json, figures, hardware)


def _compare(
    args: argparse.Namespace, setting: Setting, precision: ResolvedPrecision, device: torch.device, ceilings: Ceilings
) -> list[Figure]:
    """Time the steps of one setting in one precision, print their table and return the figures."""
    num_images, size = args.batch or setting.batch(device), tuple(args.size or setting.size(device))
    batch = random_batch(num_images, size, num_classes=setting.num_classes).to(device)
    steps = _steps(args, setting, precision, batch, device)
    timings = time_in_turn(steps, device=device, **timing_options(args))
    flops = count_flops(steps[PEER])
    peaks = {name: peak_memory(steps[name], device) for name in (OURS, PEER)}
    print(f"\n{setting.name}, {precision}: {num_images} x 3 x {size[0]} x {size[1]}, {flops / 1e12:.3f} TFLOP")
    print_table(
        [
            table_row(
                name,
                timing,
                clock=args.clock,
                peer=timings[PEER],
                images=num_images,
                flops=flops,
                flops_ceiling=ceilings.convolution[precision],
                peak_bytes=peaks.get(name),
            )
            for name, timing in timings.items()
        ]
    )
    suffix = "" if setting.name == "pretrained" else f".{setting.name}"
    speedup = timings[OURS].speedup_over(timings[PEER], args.clock)
    seconds = timings[OURS].seconds(args.clock).median
    figures = [Figure(f"step.speedup.{precision}{suffix}", speedup.median, speedup.low, speedup.high, unit="x")]
    if not suffix and precision == "bf16" and device.type == "cuda":
        figures.append(Figure("step.images_per_second", num_images / seconds))
        figures.append(Figure("step.of_matmul", flops / seconds / ceilings.matmul[precision]))
    if not suffix and precision == args.precisions[0]:
        step = our_step(setting, batch, precision, device, assignment="eager")
        step()  # the first one makes the optimiser's state and puts anchors on the device
        with as_on_a_device():
            reads = blocking_reads(step)
        reads = [read for read in reads if not read.startswith("tolist (guard.py")]  # the verdict on the step before
        figures.append(Figure("step.blocking_reads", len(reads), note="; ".join(sorted(set(reads)))))
    return figures


def _steps(
    args: argparse.Namespace, setting: Setting, precision: ResolvedPrecision, batch: Batch, device: torch.device
) -> dict[str, Callable[[], None]]:
    steps = {OURS: our_step(setting, batch, precision, device)}
    if args.direct and uses_winograd("auto", device, precision):
        steps["ours, direct convolutions"] = our_step(setting, batch, precision, device, convolution="direct")
    if args.compile:
        steps[f"ours, compile={args.compile}"] = our_step(setting, batch, precision, device, compilation=args.compile)
    steps[PEER] = torchvision_step(setting, batch, precision, device)
    return steps


if __name__ == "__main__":
    main()
