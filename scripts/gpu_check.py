"""Checks and measurements on a GPU, and a Markdown page with their results; see gpu_check.sh.

Parts: the tests marked `gpu`; 50 steps of R50 at 16 x 3 x 800 x 1344 in bf16 through the train command, from JPEG
files; one step of ours against torchvision's (benchmark_step.py); the telemetry's cost (benchmark_telemetry.py); an
evaluation in which every image has detections; a deterministic run that is resumed. Each has a process of its own and a
time limit. A part that fails is reported and the others go on; the exit code is then 1.
"""

import argparse
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import torch
import torchvision

from detector.engine.device import describe_device

ROOT: Final = Path(__file__).resolve().parents[1]

LIMITS: Final = {"data": 30, "tests": 170, "train": 120, "step": 90, "telemetry": 60, "evaluation": 60, "resume": 90}
"""Seconds that a part may take."""

TIME_LIMIT: Final = 570
"""Seconds for all of them, whatever the limits above add up to."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=[*LIMITS], default=[*LIMITS], help="these parts; evaluation needs train"
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="with --device cpu: small sizes, to try this script")
    args = parser.parse_args()
    if args.tiny != (args.device == "cpu"):
        parser.error("--device cpu and --tiny go together")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device")
    device = torch.device(args.device)
    start = time.monotonic()
    outcomes: dict[str, tuple[dict[str, Any], str, float]] = {}
    log = []
    with tempfile.TemporaryDirectory() as folder:
        for name in LIMITS:
            if name != "data" and name not in args.only:
                continue
            began = time.monotonic()
            limit = min(LIMITS[name], TIME_LIMIT - (began - start))
            figures, problem = run_part(name, Path(folder), limit, tiny=args.tiny)
            outcomes[name] = figures, problem, time.monotonic() - began
            print(f"gpu_check: {name}: {problem or 'ok'} ({outcomes[name][2]:.0f} s)", flush=True)
            output = (Path(folder) / f"{name}.log").read_text(encoding="utf-8", errors="replace")
            log.append(f"===== {name}\n{output}")
            if problem:
                print("\n".join(output.splitlines()[-60:]), flush=True)
    page = format_page(describe_device(device), outcomes)
    print(f"\n{page}")
    write_page(page, "\n".join(log), device, keep=not args.tiny and len(outcomes) == len(LIMITS))
    return int(any(problem for _, problem, _ in outcomes.values()))


def run_part(name: str, folder: Path, limit: float, *, tiny: bool) -> tuple[dict[str, Any], str]:
    """Run a part in a process of its own; return its figures, and what went wrong."""
    log, result = folder / f"{name}.log", folder / f"{name}.json"
    if limit < 5:
        log.write_text("")
        return {}, "not run: no time left"
    command = [sys.executable, str(ROOT / "scripts/gpu_check_parts.py"), name, str(folder), *["--tiny"][: int(tiny)]]
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with log.open("w", encoding="utf-8") as file:
        # A session of its own, so that a time-out takes the loader's processes along.
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT, env=environment, start_new_session=True
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return {}, f"stopped after its {limit:.0f} s"
    if code or not result.is_file():
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        return {}, f"exit code {code}: {lines[-1][:300] if lines else 'no output'}"
    figures: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return figures, ""


def format_page(hardware: str, outcomes: dict[str, tuple[dict[str, Any], str, float]]) -> str:
    """Return the Markdown page."""
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, torchvision {torchvision.__version__}"
    lines = [
        f"# {hardware}",
        "",
        f"`./scripts/gpu_check.sh` at {_commit()}, {time.strftime('%Y-%m-%d', time.gmtime())}; {versions}, CUDA "
        f"{torch.version.cuda}, {os.cpu_count()} CPU cores.",
        "R50 at 16 x 3 x 800 x 1344 in bf16; medians within one run; `resume` at 512 x 853.",
        "",
        "| part | result | seconds | figures |",
        "|---|---|---|---|",
    ]
    for name, (figures, problem, seconds) in outcomes.items():
        values = ", ".join(f"{key} {_number(value)}" for key, value in figures.items())
        lines.append(f"| {name} | {problem.replace('|', '/') or 'ok'} | {seconds:.0f} | {values} |")
    return "\n".join(lines) + "\n"


def write_page(page: str, log: str, device: torch.device, *, keep: bool) -> None:
    """Write page and log to the folder $OUT; without it a whole run's page goes to benchmarks/."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if out := os.environ.get("OUT"):
        (Path(out) / f"{slug}.md").write_text(page, encoding="utf-8")
        (Path(out) / "gpu_check.log").write_text(log, encoding="utf-8")
    elif keep:
        (ROOT / "benchmarks" / f"{slug}.md").write_text(page, encoding="utf-8")


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _commit() -> str:
    try:
        command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "an unknown commit"


if __name__ == "__main__":
    sys.exit(main())
