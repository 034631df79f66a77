"""Images that training skips because they cannot be read: each named once, counted, and bounded."""

import logging
from collections.abc import Iterable

from detector.errors import UserError

_logger = logging.getLogger(__name__)


class SkippedImages:
    """The images that one process has skipped since it started.

    Args:
        limit: ``data.max_unreadable``.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._named: set[str] = set()

    def __len__(self) -> int:
        """Return how many different images were skipped."""
        return len(self._named)

    def add(self, notes: Iterable[str]) -> None:
        """Name images that were skipped for the first time.

        Args:
            notes: a line for each skipped image; the same line for the same image.

        Raises:
            UserError: there are more than the limit.
        """
        for note in notes:
            if note in self._named:
                continue
            self._named.add(note)
            _logger.warning("%s (%d so far, at most data.max_unreadable = %d)", note, len(self), self._limit)
            if len(self) > self._limit:
                raise UserError(
                    f"data.max_unreadable: more than {self._limit} images cannot be read, the last because: {note}"
                )
