"""Loader processes end before the program does, also where something still refers to their loader.

Python asks the processes that are left at its end to stop by SIGTERM, and waits for them. Loader processes leave that
signal to the training process, so both would wait for ever: a script whose loader has a global name, or an error whose
traceback holds one, would hang. torch takes care of it only where memory is pinned.
"""

import atexit
import weakref
from typing import Any, Final

from detector.data.worker_deaths import discard

_STREAMS: Final["weakref.WeakSet[Any]"] = weakref.WeakSet()
"""Iterators that are taken care of: a loader gives the same one for every pass."""


def end_at_exit(stream: Any) -> None:
    """Have the processes of a loader's iterator end when the program does, if they have not before.

    Call it when they have been started: what torch has registered by then runs later, and finds nothing left to do.
    """
    if getattr(stream, "_workers", ()) and stream not in _STREAMS:
        _STREAMS.add(stream)
        atexit.register(_end, weakref.ref(stream))


def _end(reference: "weakref.ref[Any]") -> None:
    stream = reference()
    if stream is None:
        return
    if all(process.is_alive() for process in stream._workers):  # a dead one may hold the locks that this takes
        stream._shutdown_workers()  # tells them, and waits some seconds for what they are at
    discard(stream)
