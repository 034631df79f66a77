"""Files on disks that are busy, or on the other side of a network: read again when they fail for a moment."""

import errno
import logging
import time
from pathlib import Path
from typing import Final

DELAYS: Final = (0.1, 1.0, 4.0)
"""Seconds before each further attempt: a hiccup of a network file system lasts a moment, or a server's restart."""

TRANSIENT: Final = frozenset(
    {
        errno.EIO,
        errno.EAGAIN,
        errno.EBUSY,
        errno.ESTALE,  # NFS: the file was replaced on the server
        errno.ETIMEDOUT,
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENOTCONN,  # FUSE: its process is being restarted
        errno.EREMOTEIO,
    }
)
"""Errors that may pass. A file that does not exist or may not be read is none of them."""

_logger = logging.getLogger(__name__)


def read_patiently(path: Path) -> bytes:
    """Return the content of a file; after an error that may pass, try again a few times.

    Every attempt after the first is told in the log, with the file and the error.

    Raises:
        OSError: it cannot be read; for an error that may pass, after the last attempt.
    """
    for delay in DELAYS:
        try:
            return path.read_bytes()
        except OSError as error:
            if error.errno not in TRANSIENT:
                raise
            _logger.warning("%s: %s; reading it again in %g s", path, error.strerror, delay)
        time.sleep(delay)
    return path.read_bytes()
