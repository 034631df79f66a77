"""Loader processes end with their loader, and before the program does.

Python asks the processes that are left at its end to stop by SIGTERM, and waits for them. Loader processes leave that
signal to the training process, so both would wait for ever: a script whose loader has a global name, or an error whose
traceback holds one, would hang. torch takes care of it only where memory is pinned.

The garbage collector frees a loader that an error leaves in a cycle. It closes the queues first if they are garbage as
well, and then what torch tells the processes through them never arrives (torch 2.14). So queues are kept here until
their processes have ended.
"""

import atexit
import os
import weakref
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from typing import Any, Final

from detector.data.worker_deaths import discard

_STREAMS: Final["weakref.WeakSet[Any]"] = weakref.WeakSet()
"""Iterators that are taken care of: a loader gives the same one for every pass."""

_KEPT: Final[list[tuple[int, Sequence[BaseProcess], Sequence[Any]]]] = []
"""Who started them (a program that forks hands this list on), processes of such iterators, queues they listen to."""


def end_at_exit(stream: Any) -> None:
    """Have the processes of a loader's iterator end when the program does, if they have not before.

    Call it when they have been started: what torch has registered by then runs later, and finds nothing left to do.
    """
    processes = tuple(getattr(stream, "_workers", ()))
    if not processes or stream in _STREAMS:
        return
    _STREAMS.add(stream)
    pid = os.getpid()
    _KEPT[:] = [kept for kept in _KEPT if kept[0] == pid and any(process.is_alive() for process in kept[1])]
    _KEPT.append((pid, processes, tuple(stream._index_queues)))
    atexit.register(_end, weakref.ref(stream), pid)


def _end(reference: "weakref.ref[Any]", owner: int) -> None:
    stream = reference()
    if stream is None or os.getpid() != owner:  # in a fork of the program: they are not its own
        return
    if all(process.is_alive() for process in stream._workers):  # a dead one may hold the locks that this takes
        stream._shutdown_workers()  # tells them, and waits some seconds for what they are at
    discard(stream)
