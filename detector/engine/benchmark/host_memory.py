"""Memory of the host: what is left of it, and what a call takes. Linux only; elsewhere the answer is None."""

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_CGROUPS: Final = (  # limit and use of a container: version 2, version 1
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


def available_memory() -> int | None:
    """Return the bytes that can still be taken without swapping, within the limit of the container if there is one."""
    amounts = [_entry(_PROC / "meminfo", "MemAvailable")]
    for limit_file, usage_file in _CGROUPS:
        limit, usage = _number(limit_file), _number(usage_file)
        if limit is not None and usage is not None:
            amounts.append(max(0, limit - usage))
    known = [amount for amount in amounts if amount is not None]
    return min(known) if known else None


def resident_memory() -> int | None:
    """Return the bytes of physical memory that this process holds."""
    return _entry(_PROC / "self/status", "VmRSS")


def peak_resident_memory() -> int | None:
    """Return the most that it held since the process began, or since :func:`restart_peak`."""
    return _entry(_PROC / "self/status", "VmHWM")


def restart_peak() -> bool:
    """Begin to look for the peak anew, with free memory given back to the system; return whether that is possible."""
    gc.collect()
    try:
        # glibc keeps what was freed: the peak of a small step after a large one would be the large one's.
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return False
    try:
        (_PROC / "self/clear_refs").write_text("5", encoding="ascii")  # 5 = the peak; see proc(5)
    except OSError:
        return False
    return True


def extra_memory(function: Callable[[], object]) -> int | None:
    """Return the bytes of physical memory that this process held at most during a call, beyond those before it.

    Buffers of all libraries are in it; so is what torch's own counts do not see.
    """
    if not restart_peak():
        return None
    before = resident_memory()
    function()
    peak = peak_resident_memory()
    return None if before is None or peak is None else max(0, peak - before)


def _entry(path: Path, key: str) -> int | None:
    """Return a number of a file of lines ``KEY: NUMBER kB``, in bytes."""
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    values = [line.split()[1] for line in lines if line.startswith(f"{key}:")]
    return int(values[0]) * 1024 if values else None


def _number(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None  # "max" = no limit
