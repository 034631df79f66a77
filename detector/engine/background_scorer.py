"""Scoring in a process of its own: both COCO libraries hold Python's lock, and a thread of theirs would stop training.

This file needs no torch, so that the process starts quickly and stays small.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import traceback
import weakref
from collections.abc import Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import ModuleType
from typing import Any

from pycocotools.coco import COCO

from detector.engine.stop import StopRequest
from detector.errors import ResourceError
from detector.evaluation.coco import CocoScores, score
from detector.evaluation.ground_truth import to_coco
from detector.evaluation.results import CocoResults
from detector.evaluation.scorers import ResolvedScorer


class BackgroundScorer:
    """Scores one set of detections at a time on a ground truth that its process holds.

    The process is spawned: forked, it would share locks and a GPU with training. It leaves signals to training, and
    ends with it, however that ends: the pipe between them is closed then. While training lives, :meth:`close` ends it.

    Args:
        ground_truth: what is scored on.
        scorer: what does the work.
    """

    def __init__(self, ground_truth: COCO, scorer: ResolvedScorer) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, ground_truth.dataset, scorer), name="scorer")
        with _without_signals():
            resource_tracker.ensure_running()  # otherwise start() does it, and lets SIGTERM and SIGINT through again
        with _without_signals(), _without_main_module():
            self._process.start()
        theirs.close()
        # Python waits at its end for processes that are left, and this one waits for its pipe to be closed: both for
        # ever, where the traceback of an error still holds this object.
        self._abandon = weakref.finalize(self, _kill, self._process, os.getpid())

    def begin(self, results: CocoResults) -> None:
        """Begin to score; the score of the set before has been taken.

        Raises:
            ResourceError: the process has ended.
        """
        try:
            self._pipe.send(results)
        except ConnectionError:
            raise self._ended() from None

    def is_done(self) -> bool:
        """Return whether :meth:`finish` would not wait; cheap enough for every step."""
        return self._pipe.poll()

    def finish(self) -> CocoScores:
        """Wait for the score.

        Raises:
            Exception: what :func:`detector.evaluation.coco.score` raised there, with that traceback as a note.
            ResourceError: the process has ended.
        """
        try:
            answer = self._pipe.recv()
        except (EOFError, ConnectionError):
            raise self._ended() from None
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, CocoScores)
        return answer

    def close(self) -> None:
        """Wait for the end of the process."""
        with contextlib.suppress(ConnectionError):  # it has ended already
            self._pipe.send(None)
        self._process.join()
        self._pipe.close()
        self._abandon.detach()

    def _ended(self) -> ResourceError:
        self._process.join()
        return ResourceError(
            f"the process that scores beside training has ended (exit code {self._process.exitcode}; -9 = killed, as a "
            "rule because the memory was full). --resume makes the evaluation again; with eval.background=false "
            "nothing is scored beside training"
        )


def _kill(process: SpawnProcess, owner: int) -> None:
    """End the process, unless this is a fork of the program that started it."""
    if os.getpid() == owner:
        process.kill()


def _serve(pipe: Connection, dataset: dict[str, Any], scorer: ResolvedScorer) -> None:
    """Score what comes, until None comes or training has ended."""
    ground_truth = to_coco(dataset)
    with contextlib.suppress(EOFError, ConnectionError):
        while (results := pipe.recv()) is not None:
            pipe.send(_answer(ground_truth, results, scorer))


def _answer(ground_truth: COCO, results: CocoResults, scorer: ResolvedScorer) -> CocoScores | Exception:
    try:
        return score(ground_truth, results, scorer=scorer)
    except Exception as error:
        error.add_note(f"in the process that scores beside training:\n{traceback.format_exc()}")
        return error


@contextlib.contextmanager
def _without_signals() -> Iterator[None]:
    """Start a process with the signals blocked that ask a run to stop: a batch system sends them to all processes."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, StopRequest.SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _without_main_module() -> Iterator[None]:
    """Keep a process from importing the program's main module, which multiprocessing would make it do.

    A script that trains without asking for its ``__name__`` would begin its run anew there, over the one going on.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
