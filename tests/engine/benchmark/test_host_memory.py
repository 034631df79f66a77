"""detector/engine/benchmark/host_memory.py: what is available, and what a call really takes."""

import sys
from pathlib import Path

import pytest
import torch

from detector.engine.benchmark import host_memory

MIB = 2**20
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("limit", "usage", "expected"),
    [
        ("max", "1000", 4096),  # no limit of the container: what the host has
        ("3000", "1000", 2000),
        ("1000", "1500", 0),
        ("900000", "0", 4096),
    ],
)
def test_the_smaller_of_host_and_container_is_available(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, usage: str, expected: int
) -> None:
    write(tmp_path, meminfo="MemTotal:  9 kB\nMemAvailable:       4 kB\nSwapFree: 7 kB\n", limit=limit, usage=usage)
    monkeypatch.setattr(host_memory, "_PROC", tmp_path)
    monkeypatch.setattr(host_memory, "_CGROUPS", ((tmp_path / "limit", tmp_path / "usage"),))
    assert host_memory.available_memory() == expected


def test_a_system_that_does_not_tell_has_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_memory, "_PROC", tmp_path / "none")
    monkeypatch.setattr(host_memory, "_CGROUPS", ())
    called = []
    assert host_memory.available_memory() is None
    assert host_memory.resident_memory() is None
    assert host_memory.extra_memory(lambda: called.append(1)) is None
    assert not called


@on_linux
def test_a_call_takes_what_it_holds_at_once_and_a_small_one_after_a_large_one_is_small() -> None:
    def hold(megabytes: int) -> None:
        first = torch.ones(megabytes * MIB // 8)
        second = first + 1
        del first, second

    for megabytes in (64, 256, 64):
        extra = host_memory.extra_memory(lambda size=megabytes: hold(size))
        assert extra == pytest.approx(megabytes * MIB, rel=0.25)


@on_linux
def test_memory_that_the_allocator_has_kept_counts_again() -> None:
    blocks = [bytearray(60_000) for _ in range(2000)]  # below what the allocator maps each for itself
    last = blocks[-1]  # keeps the blocks below it from being given back of themselves
    del blocks
    extra = host_memory.extra_memory(lambda: [bytearray(60_000) for _ in range(1000)])
    assert extra == pytest.approx(60_000_000, rel=0.25)
    assert len(last) == 60_000
