import subprocess
import sys
from pathlib import Path

import pytest

from detector.engine.run import build_run
from tests.engine.tiny import tiny_config

PR_SET_THP_DISABLE = 41  # of linux/prctl.h

SCRIPT = """
import ctypes
import resource
import torch
from detector.engine.heap import keep_freed_memory

ctypes.CDLL(None).prctl({no_huge_pages}, 1, 0, 0, 0)  # one fault would stand for 512 pages
if {keeps} and not keep_freed_memory():
    print("not glibc")
    raise SystemExit
for _ in range(8):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24), torch.ones(2**20)  # 64 MiB, 4 MiB
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(*, keeps: bool) -> list[int]:
    script = SCRIPT.format(keeps=keeps, no_huge_pages=PR_SET_THP_DISABLE)
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    if "not glibc" in output:
        pytest.skip("the C library is not glibc")
    return [int(line) for line in output.split()]


@pytest.mark.slow
def test_buffers_taken_again_are_no_new_pages():
    assert page_faults(keeps=False)[-1] > 1000
    assert page_faults(keeps=True)[-1] < 100


@pytest.mark.slow
def test_a_run_on_a_cpu_keeps_what_it_frees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls: list[None] = []
    monkeypatch.setattr("detector.engine.run.keep_freed_memory", lambda: calls.append(None))
    build_run(*tiny_config(tmp_path)).recorder.close()
    assert calls == [None]
