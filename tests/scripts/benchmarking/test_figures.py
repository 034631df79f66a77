"""benchmarking/{figures,targets,table,hardware,options}.py: what a benchmark prints and writes."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest
import torch
from benchmarking import (
    TARGETS,
    Bound,
    Figure,
    Timing,
    describe_hardware,
    make_parser,
    print_figures,
    print_table,
    read_figures,
    table_row,
    timing_options,
    usable_precisions,
    write_figures,
)
from benchmarking.figures import format_command

CPU = torch.device("cpu")
HARDWARE = describe_hardware(CPU)


def test_a_figure_stands_beside_its_target_of_the_device() -> None:
    figure = Figure("loss.speedup.fp32", 10.0, 9.0, 11.0)
    on_cpu, on_gpu = figure.to_json("cpu"), figure.to_json("cuda")
    assert (on_cpu["target"], on_cpu["is_met"], on_cpu["unit"]) == ("≥ 6", True, "x")
    assert (on_gpu["target"], on_gpu["is_met"]) == ("≥ 15", False)
    own = Figure("loss.compile_seconds", 3.0, unit="s").to_json("cpu")
    assert (own["target"], own["is_met"], own["unit"]) == (None, None, "s")


def test_a_figure_that_was_not_measured_meets_and_misses_nothing() -> None:
    figure = Figure("step.speedup.bf16", None, note="bf16 is not native here").to_json("cpu")
    assert (figure["value"], figure["target"], figure["is_met"]) == (None, "≥ 1.15", None)


@pytest.mark.parametrize(
    ("bound", "good", "bad"), [(Bound(6, is_minimum=True), 6.0, 5.9), (Bound(1.1, is_minimum=False), 1.1, 1.2)]
)
def test_a_limit_itself_is_good(bound: Bound, good: float, bad: float) -> None:
    assert bound.is_met_by(good)
    assert not bound.is_met_by(bad)


def test_every_target_names_a_script_and_a_device() -> None:
    for key, target in TARGETS.items():
        assert key == target.key
        assert target.script.removeprefix("benchmark_").removesuffix(".py") == key.split(".")[0]
        assert target.cpu or target.cuda
    assert len({target.what for target in TARGETS.values()}) == len(TARGETS)  # each row of the page says which it is


def test_the_file_reads_back_as_it_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "argv", ["/some/where/benchmark_loss.py", "--json", str(tmp_path / "f.json"), "--batch", "2"]
    )
    write_figures(tmp_path / "f.json", [Figure("loss.speedup.fp32", 7.0)], HARDWARE, details={"a": 1})
    content = read_figures(tmp_path / "f.json")
    assert content["command"] == "python scripts/benchmark_loss.py --batch 2"
    assert content["hardware"] == json.loads(json.dumps(HARDWARE.to_json()))
    assert content["details"] == {"a": 1}
    (figure,) = content["figures"]
    assert list(figure) == ["figure", "value", "low", "high", "unit", "target", "is_met", "note"]


def test_a_command_without_json_is_kept_as_it_is() -> None:
    assert (
        format_command(["benchmark_step.py", "--size", "64", "64"]) == "python scripts/benchmark_step.py --size 64 64"
    )
    assert (
        format_command(["/a/scripts/benchmark_loader.py", "--images", "/home/me/photos", "--json", "/tmp/x"])
        == "python scripts/benchmark_loader.py --images photos"
    )


def test_a_figure_may_not_stand_twice(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"figures that stand twice: loss\.speedup\.fp32"):
        write_figures(tmp_path / "f.json", [Figure("loss.speedup.fp32", 7.0)] * 2, HARDWARE)


def test_what_is_missed_is_seen_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    figures = [Figure("loss.speedup.fp32", 2.0, 1.9, 2.1), Figure("assign.speedup", None, note="no peer")]
    print_figures(figures, dataclasses.replace(HARDWARE, device="cpu"))
    lines = capsys.readouterr().out.splitlines()
    assert [cell.strip() for cell in lines[2].split("|")[1:6]] == [
        "loss.speedup.fp32",
        "2 × (1.9 – 2.1)",
        "≥ 6",
        "MISSED",
        "",
    ]
    assert "not measured" in lines[3]
    assert "no peer" in lines[3]


def test_a_row_has_rates_ratio_and_shares_of_the_ceilings(capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = Timing((0.5, 0.5), (0.25, 0.25), 2.0), Timing((1.0, 1.0), (1.0, 1.0), 3.0)
    row = table_row(
        "ours", ours, peer=theirs, images=4, flops=10**9, flops_ceiling=4e9, num_bytes=10**9, copy_ceiling=8e9
    )
    assert row["× peer's speed"] == "2.00"
    assert (row["images/s"], row["GFLOP/s"], row["of ceiling"], row["GB/s"], row["of copy"]) == (
        ("8", "2", "50%", "2", "25%")
    )
    assert (row["cpu ms"], row["first call ms"]) == ("250", "2000")
    by_cpu = table_row("ours", ours, peer=theirs, images=4, clock="cpu")
    assert (by_cpu["× peer's speed"], by_cpu["images/s"]) == ("4.00", "16")
    print_table([row, {"what": "theirs"}])
    header, rule, *rows = capsys.readouterr().out.splitlines()
    assert len({len(line) for line in (header, rule, *rows)}) == 1


def test_a_precision_that_the_hardware_lacks_is_left_out_with_a_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("detector.engine.device._has_native_bf16", lambda device: False)
    assert usable_precisions(["fp32", "bf16", "fp16"], CPU) == ["fp32"]
    said = capsys.readouterr().out
    assert "bf16 is left out: bf16 is not native on " in said
    assert "fp16 is left out: fp16 needs a GPU" in said
    monkeypatch.setattr("detector.engine.device._has_native_bf16", lambda device: True)
    assert usable_precisions(["bf16", "fp32", "bf16"], CPU) == ["bf16", "fp32"]


def test_the_slug_is_a_file_name() -> None:
    hardware = dataclasses.replace(HARDWARE, name="NVIDIA H100 80GB HBM3 (PCIe)")
    assert hardware.slug == "nvidia-h100-80gb-hbm3-pcie"
    assert hardware.description in str(hardware)


def test_the_common_options_reach_the_clock(capsys: pytest.CaptureFixture[str]) -> None:
    args = make_parser("about", repeats=5).parse_args(["--warmup", "1", "--seconds", "9"])
    assert timing_options(args) == {"warmup": 1, "repeats": 5, "max_seconds": 9.0}
    with pytest.raises(SystemExit):
        make_parser("about").parse_args(["--repeats", "0"])
    assert "expected a whole number of at least 1" in capsys.readouterr().err
