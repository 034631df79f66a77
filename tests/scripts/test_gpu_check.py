"""scripts/gpu_check_{running,page}.py: nothing that fails is silent, and every target has a row."""

import json
import time
from pathlib import Path
from typing import Any

import gpu_check
import gpu_check_running
import pytest
import torch
from benchmarking import TARGETS, Figure, describe_hardware
from gpu_check_page import format_page
from gpu_check_running import Outcome, run_benchmark, run_process

HARDWARE = describe_hardware(torch.device("cpu"))


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where a benchmark is looked for."""
    monkeypatch.setattr(gpu_check_running, "ROOT", tmp_path)
    (tmp_path / "scripts").mkdir()
    return tmp_path / "scripts" / "benchmark_loss.py"


def run(script: Path, limit: float = 60) -> Outcome:
    return run_benchmark(script.name, script.parents[1], limit, device="cpu")


def rows_of(page: str) -> dict[str, list[str]]:
    """Return the cells of every row of the page's tables by their first cell."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]
    return {cells[0]: cells[1:] for cells in lines}


def test_a_benchmark_is_run_as_it_is_by_default_and_its_figures_are_read(script: Path) -> None:
    content = {"command": "python scripts/benchmark_loss.py", "figures": [{"figure": "a"}]}
    script.write_text(
        f"import sys\nassert sys.argv[1:4] == ['--device', 'cpu', '--json'], sys.argv\n"
        f"print('measured')\nopen(sys.argv[4], 'w').write({json.dumps(content)!r})\n"
    )
    outcome = run(script)
    assert (outcome.problem, outcome.figures, outcome.command) == ("", ({"figure": "a"},), content["command"])
    assert outcome.output == "measured\n"


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("raise SystemExit('no such option')", "exit code 1: no such option"),
        ("pass", "it wrote no figures"),
        ("import sys; open(sys.argv[4], 'w').write('{')", "its figures are no JSON"),
        ("import sys; open(sys.argv[4], 'w').write('[]')", "its figures are no JSON object"),
        ("import sys; open(sys.argv[4], 'w').write('{}')", "its JSON has no list of figures"),
    ],
)
def test_a_benchmark_that_fails_says_how(script: Path, program: str, problem: str) -> None:
    script.write_text(program)
    outcome = run(script)
    assert problem in outcome.problem
    assert outcome.figures == ()


def test_a_benchmark_that_is_not_there_is_a_problem(script: Path) -> None:
    assert run(script).problem == "there is no such script"


def test_the_loader_is_measured_on_the_photos_that_the_user_gives(
    script: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loader = script.with_name("benchmark_loader.py")
    for path in (loader, script):
        path.write_text(
            "import json, sys\njson.dump({'figures': sys.argv[1:-2], 'command': ''}, open(sys.argv[-1], 'w'))"
        )
    names = [loader.name, script.name]
    limits = dict.fromkeys(names, 60)
    monkeypatch.chdir(tmp_path)
    for options, expected in (
        (
            ["--annotations", "a.json", "--images", "b"],
            ["--annotations", f"{tmp_path}/a.json", "--images", f"{tmp_path}/b"],
        ),
        ([], []),
    ):
        monkeypatch.setattr("sys.argv", ["gpu_check.py", "--device", "cpu", *options])
        outcomes, _ = gpu_check.run_all(names, limits, gpu_check.parse_arguments())
        given = [list(outcome.figures) for outcome in outcomes]
        assert given == [[*expected, "--device", "cpu"], ["--device", "cpu"]]


def test_photos_need_their_annotations(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["gpu_check.py", "--device", "cpu", "--images", "b"])
    with pytest.raises(SystemExit):
        gpu_check.parse_arguments()
    assert "--annotations and --images go together" in capsys.readouterr().err


def test_a_part_without_time_is_not_begun_and_says_so(tmp_path: Path) -> None:
    assert run_process(["false"], tmp_path / "log", 1.0)[0] == "not run: no time left"


def test_a_part_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check_running, "MIN_SECONDS", 0)
    start = time.monotonic()
    problem, _, output = run_process(["sh", "-c", "echo began; sleep 60"], tmp_path / "log", 3.0)
    assert (problem, output) == ("stopped after its 3 s", "began\n")
    assert time.monotonic() - start < 30


def outcome_of(*figures: Figure, script: str = "benchmark_loss.py", problem: str = "") -> Outcome:
    content: tuple[dict[str, Any], ...] = tuple(figure.to_json("cpu") for figure in figures)
    return Outcome(script, problem, 1.0, figures=content, command=f"python scripts/{script}")


def test_every_target_has_a_row_with_its_result_or_the_reason_why_there_is_none() -> None:
    page = format_page(
        HARDWARE,
        [
            outcome_of(
                Figure("loss.speedup.fp32", 7.25, 7.0, 7.5),
                Figure("loss.extra_memory", 1.5),
                Figure("loss.of_memory_floor", 2.0),
                Figure("loss.compile_seconds", 3.0, unit="s"),
            ),
            outcome_of(Figure("step.speedup.bf16", None, note="bf16 is not native"), script="benchmark_step.py"),
            outcome_of(script="benchmark_assign.py", problem="exit code 1: a | b"),
        ],
        arguments=["--device", "cpu"],
    )
    rows = rows_of(page)
    assert {target.what for target in TARGETS.values()} <= set(rows)
    command = "`python scripts/benchmark_loss.py`"
    expected = {
        "loss.speedup.fp32": ["≥ 6", "≥ 15", "7.25 × (7 – 7.5)", "met", command],
        "loss.extra_memory": ["≤ 1.1", "≤ 1.1", "1.5 ×", "**missed**", command],
        "loss.of_memory_floor": ["–", "≤ 1.5", "2 ×", "", command],  # nothing to reach on a CPU
        "step.images_per_second": ["–", "≥ 240", "–", "", ""],
    }
    for key, cells in expected.items():
        assert rows[TARGETS[key].what] == cells
    reasons = {
        "step.speedup.bf16": "not measured; bf16 is not native",
        "assign.speedup": "not measured: exit code 1: a / b",
        "loss.growth.anchors": "not measured: benchmark_loss.py reports no loss.growth.anchors",
        "inference.speedup.fp32": "not measured: benchmark_inference.py was not run",
    }
    for key, reason in reasons.items():
        assert rows[TARGETS[key].what][2:4] == [reason, "not measured"]
    assert rows["loss.compile_seconds"] == ["3 s", ""]
    assert rows["benchmark_assign.py"][0] == "exit code 1: a / b"
    assert f"# {HARDWARE.name}\n\n`./scripts/gpu_check.sh --device cpu` at " in page
    num_unmeasured = sum(target.cpu is not None for target in TARGETS.values()) - 2
    assert f"1 met, 1 missed, {num_unmeasured} not measured." in page


def test_on_a_gpu_all_benchmarks_run_and_the_limits_name_all_parts() -> None:
    assert set(gpu_check.BENCHMARKS) == {target.script for target in TARGETS.values()}
    assert set(gpu_check.BENCHMARKS) <= set(gpu_check.GPU_LIMITS)
    assert set(gpu_check.CPU_LIMITS) == set(gpu_check.BENCHMARKS)
    assert gpu_check.TIME_LIMITS["cuda"] < 600
