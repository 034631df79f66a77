"""A full disk, told from other trouble: it may have room again later, so a run goes on."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def is_full_disk(error: OSError) -> bool:
    """Return whether an error says that the disk, or the user's share of it, is full."""
    return error.errno in _FULL


@contextmanager
def suppress_full_disk() -> Iterator[None]:
    """Let an error of a full disk pass, and no other."""
    try:
        yield
    except OSError as error:
        if not is_full_disk(error):
            raise
