"""The one place where errors become messages and exit codes.

0 done; 2 the user's input is wrong: a plain message without a traceback; 75 stopped early on request, everything
saved; 130 interrupted from the keyboard; 1 a run that diverged, or anything else with its traceback.
"""

import argparse
import contextlib
import errno
import io
import os
import select
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TextIO

from detector.engine.stop import StopRequest
from detector.errors import DivergedError, ResourceError, StoppedEarly, UserError

DONE: Final = 0
FAILED: Final = 1
USER_ERROR: Final = 2
STOPPED_EARLY: Final = 75
INTERRUPTED: Final = 130

_NO_ACCESS: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors of the system that any look at a file can meet, and that say all there is to say."""

_SECONDS_FOR_THE_FIRST: Final = 20.0
"""How long a process that has lost another one lets it end first; a process that imported torch takes a second."""

_LESS_MEMORY: Final = (
    "Fewer images at once take less: data.images_per_forward in training, eval.batch_size in evaluation, --batch-size "
    "in predict; so does a lower data.short_side with data.max_side"
)

Run = Callable[[argparse.Namespace], int]


def run_command(
    name: str,
    add_arguments: Callable[[argparse.ArgumentParser], None],
    run: Run,
    argv: Sequence[str] | None = None,
) -> int:
    """Parse a command line, run the command, and turn whatever happens into an exit code.

    Args:
        name: the command's, as in ``detector NAME``.
        add_arguments: adds the command's arguments (and description) to a parser. Arguments without a dash may stand
            anywhere on the line, between the options too.
        run: does the work and returns the exit code.
        argv: the arguments after the command's name; None for those of the process.

    Returns:
        The exit code. ``SystemExit`` does not leave this function, so that it can be called from Python.
    """
    script = Path(sys.argv[0]).name
    # `tools/evaluate.py` has its own name; everything else is `detector evaluate`.
    prog = script if script == f"{name.replace('-', '_')}.py" else f"detector {name}"

    def parse_and_run() -> int:
        parser = argparse.ArgumentParser(prog=prog, allow_abbrev=False)
        add_arguments(parser)
        return run(parser.parse_intermixed_args(argv))

    return exit_code(parse_and_run)


def exit_code(function: Callable[[], int]) -> int:
    """Call a function and return its exit code, or that of the error it ends with, after printing the message.

    Under ``torchrun``, where every process meets the same error, one of them prints it.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a class name the terminal cannot show must not end a run
    try:
        code = function()
        sys.stdout.flush()  # here, where a closed pipe can be told from other trouble
    except UserError as error:
        _print_once(f"error: {error}")
        return USER_ERROR
    except StoppedEarly as stop:
        _print_once(str(stop))
        return STOPPED_EARLY
    except (DivergedError, ResourceError) as error:
        _print_once(f"error: {error}")
        return FAILED
    except KeyboardInterrupt:
        _print_once("interrupted")
        return INTERRUPTED
    except SystemExit as end:  # argparse: --help, --version and its own messages
        return end.code if isinstance(end.code, int) else DONE if end.code is None else FAILED
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _is_closed(sys.stdout):
            return FAILED  # the reader, such as `head`, has seen enough
        if (advice := _torch_advice(error)) is not None:
            _print_once(f"error: {advice}")
            return USER_ERROR
        if _is_out_of_memory(error):
            _print_once(f"error: out of memory: {error or type(error).__name__}\n{_LESS_MEMORY}")
            return FAILED
        if _is_loss_of_a_process(error):
            # Not once for all: the message of the one that ended comes later, or is it.
            if os.environ.get("RANK") == "0":
                print("error: another process of the run has ended; if it could, it says why", file=sys.stderr)
            _let_the_first_end()
            return FAILED
        if isinstance(error, OSError) and error.errno in _NO_ACCESS | _NO_SPACE:
            _print_once(f"error: {error.filename or 'a file'}: {error.strerror}")
            return USER_ERROR if error.errno in _NO_ACCESS else FAILED
        traceback.print_exc()
        return FAILED
    return code


def printable(text: str) -> str:
    """Return text to print, with escapes for control characters other than line ends.

    Names of files and classes come from datasets of strangers, and could steer the terminal.
    """
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def _torch_advice(error: Exception) -> str | None:
    """Say what to install where torch and torchvision are missing or were built for each other's rivals."""
    install = "install both together, from one package index: pip install --force-reinstall torch torchvision"
    if isinstance(error, ModuleNotFoundError) and error.name in {"torch", "torchvision"}:
        return f"{error.name} is not installed; {install}"
    if isinstance(error, ImportError | RuntimeError) and "torchvision::nms does not exist" in str(error):
        return (
            f"torchvision does not fit the installed torch ({error}): torchvision's ordinary builds do not work with "
            f"a CPU-only torch; {install}"
        )
    return None


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError):
        return True
    if "torch" not in sys.modules or not isinstance(error, RuntimeError):
        return False
    from detector.engine.fitting import is_out_of_memory  # imports torch

    return is_out_of_memory(error)


def _is_loss_of_a_process(error: Exception) -> bool:
    """Tell whether another process of a run has ended while this one waited for it (words of gloo and of NCCL)."""
    words = ("Connection closed by peer", "Connection reset by peer", "remote process exited")
    return "RANK" in os.environ and isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def _let_the_first_end() -> None:
    """Wait for the SIGTERM of ``torchrun``, which takes the process that ends first for the root cause.

    A connection is closed before its process has ended, and Python takes a while to end: without this, the report named
    whoever noticed first (seen with torch 2.14). Where that SIGTERM has come already, nothing more does.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ and not StopRequest.has_come:
        sys.stderr.flush()
        time.sleep(_SECONDS_FOR_THE_FIRST)


def _print_once(message: str) -> None:
    if _speaks_for_all():
        with contextlib.suppress(BrokenPipeError):
            print(printable(message), file=sys.stderr, flush=True)


def _speaks_for_all() -> bool:
    """Tell whether this process is the one of a ``torchrun`` that prints; alone it always is.

    An error may meet one process only, so it is the first that comes, not rank 0: torchrun gives the processes of an
    attempt on one machine neighbouring folders, in whose parent the first creates a file. Without those, rank 0.
    """
    if "RANK" not in os.environ:
        return True
    error_file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if error_file:
        attempt = Path(error_file).parent.parent
        try:
            (attempt / "message-printed").touch(exist_ok=False)
        except FileExistsError:
            return False
        except OSError:
            pass  # no such folder here
        else:
            return True
    return os.environ["RANK"] == "0"


def _is_closed(stream: TextIO) -> bool:
    """Tell whether nobody reads ``stream`` any more; if so, let Python's last flush at exit go nowhere."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # in memory, or closed by this process
        return False
    poll = select.poll()
    poll.register(descriptor, 0)  # errors are reported without being asked for
    if not any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
        return False
    with Path(os.devnull).open("w") as devnull:
        os.dup2(devnull.fileno(), descriptor)
    return True
