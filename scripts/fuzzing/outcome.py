"""What came of reading a mutated file."""

import faulthandler
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Final, Literal

from detector.errors import UserError

SECONDS: Final = 20
"""A case that takes longer hangs: the slowest take a second on a busy machine."""

Verdict = Literal["reported", "harmless", "traceback", "hang", "silent"]


class SilentError(Exception):
    """A changed file was read as if it said something else than it does."""


class _TooSlow(BaseException):
    pass


@dataclass(frozen=True)
class Outcome:
    """How a case ended.

    Attributes:
        kind: of file.
        case: its number; with the seed it makes the same file again.
        mutation: what was done to the file.
        verdict: reported to the user, read by a rule that makes it harmless, or one of three faults.
        detail: the message, or the traceback.
    """

    kind: str
    case: int
    mutation: str
    verdict: Verdict
    detail: str = ""

    @property
    def is_fault(self) -> bool:
        return self.verdict in ("traceback", "hang", "silent")


def judge(read: Callable[[], None]) -> tuple[Verdict, str]:
    """Read a file and say how that ended."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise _TooSlow

    before = signal.signal(signal.SIGALRM, ring)
    faulthandler.dump_traceback_later(10 * SECONDS, exit=True)  # for what hangs outside of Python
    signal.alarm(SECONDS)
    try:
        read()
    except UserError as error:
        return ("reported", str(error)) if str(error).strip() else ("silent", "a message without text")
    except SilentError as error:
        return "silent", str(error)
    except _TooSlow:
        return "hang", f"more than {SECONDS} s"
    except Exception:
        return "traceback", traceback.format_exc()
    finally:
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)
    return "harmless", ""
