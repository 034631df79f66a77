"""Stopping on request: the step is finished and saved first."""

import signal
from types import FrameType, TracebackType
from typing import Self


class StopRequest:
    """Notes SIGTERM, SIGINT and SIGUSR1 while it is entered; a second signal has its usual effect.

    Handlers can be installed in a process's main thread only; elsewhere entering raises ValueError.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self._previous: dict[signal.Signals, signal._HANDLER] = {}

    @property
    def is_set(self) -> bool:
        """Whether a signal has come."""
        return self.signal_name is not None

    def __enter__(self) -> Self:
        """Install the handlers."""
        self._previous = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Put the handlers back that were there before."""
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal_name = signal.Signals(number).name
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
