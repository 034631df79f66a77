"""Stopping on request, by a signal or a time limit: the step is finished and saved first."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import ClassVar, Final, Self

from detector.errors import StoppedEarly, UserError

ECHO_SECONDS: Final = 2.0
"""Under torchrun a signal again within this time is the same request: a batch system signals every process, and
torchrun passes its own copy on."""


class StopRequest:
    """Notes SIGTERM, SIGINT and SIGUSR1 while it is entered; a second signal ends the process at once with 128 + n.

    Before :meth:`begin_steps` there is nothing to be finished: the first signal raises KeyboardInterrupt there.
    Handlers can be installed in a process's main thread only; elsewhere entering raises ValueError.

    Args:
        time_limit: seconds from now on after which to stop; None = no limit.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)

    has_come: ClassVar[bool] = False
    """Whether a signal has come since the latest request was entered, which may have been left."""

    def __init__(self, time_limit: float | None = None) -> None:
        self.signal_name: str | None = None
        self._deadline = None if time_limit is None else time.monotonic() + time_limit
        self._noted_at = 0.0
        self._has_steps = self._is_done = False
        self._previous: dict[signal.Signals, signal._HANDLER] = {}

    @property
    def is_set(self) -> bool:
        """Whether a signal has come or the time is up."""
        return self.signal_name is not None or self._is_late

    @property
    def reason(self) -> str:
        """What asks to stop, in words."""
        return self.signal_name or ("time_limit" if self._is_late else "another process")

    def begin_steps(self) -> None:
        """From now on a step is finished and saved."""
        self._has_steps = True

    def end_steps(self) -> None:
        """Everything is saved and the process about to end by itself: from now on signals change nothing.

        Where one process of several has ended, a launcher sends SIGTERM to the others, which may have been signalled
        long ago: it is not to cost them their last words.
        """
        self._is_done = True

    def __enter__(self) -> Self:
        """Install the handlers."""
        StopRequest.has_come = False
        self._previous = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Put the handlers back that were there before."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @property
    def _is_late(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _note(self, number: int, frame: FrameType | None) -> None:
        StopRequest.has_come = True
        if self._is_done:
            return
        if self.signal_name is None:
            self.signal_name = signal.Signals(number).name
            self._noted_at = time.monotonic()
            if not self._has_steps:
                raise KeyboardInterrupt
        elif not ("TORCHELASTIC_RUN_ID" in os.environ and time.monotonic() - self._noted_at < ECHO_SECONDS):
            os._exit(128 + number)  # checkpoints are whole at every moment


@contextmanager
def starting(stop: StopRequest) -> Iterator[None]:
    """Take what a signal makes of the start of a run for what it is.

    KeyboardInterrupt comes out of the midst of whatever is done, and libraries make other errors of it: pydantic, in
    the midst of a model, says that its schema is wrong.

    Raises:
        StoppedEarly: for any error after a signal, but for those of the user's input.
    """
    try:
        yield
    except UserError:
        raise
    except (KeyboardInterrupt, Exception):
        if stop.signal_name is None:
            raise
        raise StoppedEarly(
            f"stopped by {stop.signal_name} before the first step; there was nothing to save. Start again by the same "
            "command"
        ) from None
