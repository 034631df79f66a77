"""Loader processes that are killed: noticed, told, and replaced at the very batch that was next.

That is possible because a batch depends on its number and on nothing that a process remembers.
"""

import logging
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.process import BaseProcess
from typing import Any, Final, Protocol, TypeVar

from torch.utils.data._utils import signal_handling

from detector.errors import ResourceError

MAX_IN_A_ROW: Final = 3
"""Times that the loader is started again for the same batch: what kills it every time will not stop."""

SECONDS_TO_DIE: Final = 1.0
"""A process that is being killed closes its connections a moment before it counts as dead."""

_DEATH = re.compile(r"DataLoader worker \(pid")
_CAUSES: Final = {
    signal.SIGKILL: "usually by the system or the batch system, because the memory ran out",
    signal.SIGBUS: "usually because the shared memory, /dev/shm, is full",
    signal.SIGSEGV: "by a crash, of an image decoder, say",
}
_REMEDY: Final = (
    "Lower data.num_workers, or give the run more memory (in a container also --shm-size or --ipc=host); "
    "data.num_workers=0 shows an error of a crash itself"
)

Item = TypeVar("Item", covariant=True)

_logger = logging.getLogger(__name__)


class Stream(Protocol[Item]):
    """The iterator of a ``DataLoader``."""

    def __iter__(self) -> Iterator[Item]: ...

    def __next__(self) -> Item: ...


def restarting(stream: Stream[Item], open_at: Callable[[int], Stream[Item]]) -> Iterator[Item]:
    """Yield what a loader yields; where one of its processes dies, go on with a new one at the next item.

    Args:
        stream: of the loader, from its beginning.
        open_at: opens a new loader that begins with the item of that number, from 0.

    Yields:
        Every item once, in order.

    Raises:
        ResourceError: processes die again and again before the same item.
    """
    num_done = num_deaths = 0
    while True:
        try:
            item = [next(stream)]
        except StopIteration:
            return
        except (RuntimeError, OSError, EOFError) as error:
            dead = _dead_processes(stream, error)
            if dead is None:
                raise
            num_deaths += 1
            story = _describe(dead)
            if num_deaths > MAX_IN_A_ROW:
                raise ResourceError(f"{story}, {num_deaths} times at the same batch. {_REMEDY}") from None
        else:
            num_done, num_deaths = num_done + 1, 0
            yield item.pop()  # not kept here while it is in use: the memory of a batch is free when its user is done
            continue
        _logger.warning("%s; the loader is started again at the same batch, and nothing is lost. %s", story, _REMEDY)
        discard(stream)
        stream = open_at(num_done)


def discard_if_dead(idle: object) -> bool:
    """End what is left of a loader that waits for its next pass, if one of its processes has died meanwhile.

    Args:
        idle: the iterator that a loader with persistent processes keeps; None before its first pass.

    Returns:
        Whether a new loader is needed.
    """
    dead = [process for process in _processes(idle) if not process.is_alive()]
    if not dead:
        return False
    _logger.warning("%s while it was idle; it is replaced, and nothing is lost. %s", _describe(dead), _REMEDY)
    discard(idle)
    return True


def leave_signals_alone() -> None:
    """Take back the handler by which torch raises an error of a dead loader process wherever the program is.

    In the middle of an optimiser step, say, which could then neither be finished nor undone. The death is found when
    the next batch is waited for.
    """
    handler = signal.getsignal(signal.SIGCHLD)
    if threading.current_thread() is not threading.main_thread():
        return  # torch has set none
    if getattr(handler, "__module__", "") == "torch.utils.data._utils.signal_handling":
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _processes(stream: object) -> Sequence[BaseProcess]:
    processes: Sequence[BaseProcess] = getattr(stream, "_workers", ())
    return processes


def _dead_processes(stream: object, error: Exception) -> list[BaseProcess] | None:
    """Return the processes of a loader that died; None if that is not what an error means."""
    is_told = _DEATH.search(str(error)) is not None
    deadline = time.monotonic() + (0 if is_told or isinstance(error, RuntimeError) else SECONDS_TO_DIE)
    while True:
        dead = [process for process in _processes(stream) if not process.is_alive()]
        if dead or is_told:
            return dead
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.05)


def _describe(dead: Sequence[BaseProcess]) -> str:
    process = next(iter(dead), None)
    code = None if process is None else process.exitcode
    if process is None or code is None or code >= 0:
        return f"a loader process ended unexpectedly (exit code {code})"
    with suppress(ValueError):
        name = signal.Signals(-code)
        cause = f", {_CAUSES[name]}" if name in _CAUSES else ""
        return f"a loader process (pid {process.pid}) was killed by {name.name}{cause}"
    return f"a loader process (pid {process.pid}) was killed by signal {-code}"


def discard(stream: Any) -> None:
    """End what is left of a loader, without a word to its processes: the dead one may hold the locks that takes."""
    for process in _processes(stream):
        process.kill()
    for process in _processes(stream):
        process.join()
    for queue in getattr(stream, "_index_queues", ()):
        queue.cancel_join_thread()
        queue.close()
    if (done := getattr(stream, "_pin_memory_thread_done_event", None)) is not None:
        done.set()
    if getattr(stream, "_worker_pids_set", False):
        # torch notes the processes by the address of their iterator, which the next iterator may get.
        signal_handling._remove_worker_pids(id(stream))  # type: ignore[attr-defined]
        stream._worker_pids_set = False
    stream._shutdown = True  # torch's own way of ending it waits for those locks
