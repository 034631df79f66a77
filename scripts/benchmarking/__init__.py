"""What all benchmarks of this folder share: clocks, memory, the machine's ceilings, tables and figures.

A benchmark compares callables in one process and reports figures. In full::

    parser = make_parser(__doc__)                               # --device --repeats --warmup --seconds --clock --json
    args = parser.parse_args()
    device = resolve_device(args.device)
    hardware = describe_hardware(device)
    timings = time_in_turn({"ours": ours, "torchvision": theirs}, device=device, **timing_options(args))
    ceilings = measure_ceilings(device, usable_precisions(["fp32", "bf16"], device))
    flops = count_flops(theirs)
    print(hardware)
    print_table([
        table_row(name, timing, peer=timings["torchvision"], clock=args.clock, images=2, flops=flops,
                  flops_ceiling=ceilings.convolution["fp32"], peak_bytes=peak_memory(calls[name], device))
        for name, timing in timings.items()
    ])
    speedup = timings["ours"].speedup_over(timings["torchvision"], args.clock)
    figures = [Figure("step.speedup.fp32", speedup.median, speedup.low, speedup.high)]
    print_figures(figures, hardware)
    if args.json:
        write_figures(args.json, figures, hardware, details=...)

``gpu_check.sh`` runs every script that has targets as ``python scripts/benchmark_X.py --device DEVICE --json PATH``, so
its defaults are those that the targets are of, on either device; it should take at most a minute on a GPU and two on a
CPU, and its exit code is 0 also where a target is missed.

A figure has a key. Those with a target are listed in :mod:`benchmarking.targets`, the only place of targets; any other
key is reported without one. A figure that cannot be measured here is reported too, as
``Figure(key, None, note="bf16 is not native on this CPU")``. The file that ``--json PATH`` writes, and that
``gpu_check.sh`` collects, is::

    {"command": "python scripts/benchmark_step.py",
     "hardware": {"name": "AMD EPYC", "device": "cpu", ...},
     "figures": [{"figure": "step.speedup.fp32", "value": 1.21, "low": 1.18, "high": 1.25, "unit": "x",
                  "target": "≥ 1.15", "is_met": true, "note": ""}],
     "details": {...}}

``value`` is null where nothing was measured, ``low`` and ``high`` (quartiles) where there is one measurement,
``target`` and ``is_met`` where there is no target on this kind of device. ``details`` is the script's own.
"""

from benchmarking.counting import count_flops
from benchmarking.figures import Figure, print_figures, read_figures, write_figures
from benchmarking.hardware import Hardware, describe_hardware, usable_precisions
from benchmarking.inputs import calm_frozen_norms, random_batch, random_boxes
from benchmarking.memory import peak_memory, peak_process_memory
from benchmarking.options import make_parser, timing_options
from benchmarking.table import print_table, table_row
from benchmarking.targets import TARGETS, Bound, Target
from benchmarking.timing import Clock, Spread, Timing, time_in_turn
from detector.engine.benchmark.ceilings import Ceilings, measure_ceilings

__all__ = [
    "TARGETS",
    "Bound",
    "Ceilings",
    "Clock",
    "Figure",
    "Hardware",
    "Spread",
    "Target",
    "Timing",
    "calm_frozen_norms",
    "count_flops",
    "describe_hardware",
    "make_parser",
    "measure_ceilings",
    "peak_memory",
    "peak_process_memory",
    "print_figures",
    "print_table",
    "random_batch",
    "random_boxes",
    "read_figures",
    "table_row",
    "time_in_turn",
    "timing_options",
    "usable_precisions",
    "write_figures",
]
