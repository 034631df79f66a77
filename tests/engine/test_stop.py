"""Requests to stop, in processes of their own: real signals and exit codes."""

import subprocess
import sys
from pathlib import Path

import pytest

from detector.config.duration import parse_duration
from detector.engine.stop import StopRequest, starting
from detector.errors import StoppedEarly, UserError

ROOT = Path(__file__).parents[2]


def run_script(body: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run lines in which ``stop`` is entered and ``send(name)`` signals the process itself."""
    script = f"""
import os, signal, sys, time
from detector.engine.stop import StopRequest, starting
from detector.errors import StoppedEarly, UserError
def send(name):
    os.kill(os.getpid(), getattr(signal, name))
with StopRequest() as stop:
{body}
"""
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize(("name", "number"), [("SIGTERM", 15), ("SIGINT", 2), ("SIGUSR1", 10)])
def test_the_second_signal_ends_the_process_at_once(name: str, number: int) -> None:
    result = run_script(f"""
    stop.begin_steps()
    send("SIGTERM")
    print(stop.is_set, stop.reason, flush=True)
    send("{name}")
    print("still here")
""")
    assert (result.returncode, result.stdout) == (128 + number, "True SIGTERM\n")


def test_under_torchrun_the_launchers_copy_of_a_signal_is_the_same_request() -> None:
    body = """
    stop.begin_steps()
    send("SIGTERM")
    send("SIGTERM")
    print("still here", flush=True)
    stop._noted_at -= 3
    send("SIGTERM")
"""
    result = run_script(body, TORCHELASTIC_RUN_ID="run")
    assert (result.returncode, result.stdout) == (128 + 15, "still here\n")


def test_once_everything_is_saved_signals_change_nothing() -> None:
    result = run_script("""
    stop.begin_steps()
    send("SIGTERM")
    stop.end_steps()
    send("SIGTERM")
    print(stop.reason)
""")
    assert (result.returncode, result.stdout) == (0, "SIGTERM\n")


def test_before_the_first_step_there_is_nothing_to_finish() -> None:
    result = run_script("""
    try:
        send("SIGTERM")
    except KeyboardInterrupt:
        print(stop.reason)
""")
    assert (result.returncode, result.stdout) == (0, "SIGTERM\n")


def test_the_time_limit_is_a_request_to_stop() -> None:
    assert not StopRequest().is_set
    assert not StopRequest(time_limit=1000).is_set
    late = StopRequest(time_limit=0)
    assert (late.is_set, late.reason) == (True, "time_limit")


@pytest.mark.parametrize(
    ("text", "seconds"), [("11h30m", 41400), ("2d", 172800), ("90s", 90), ("1d 2h 3m 4s", 93784), ("30m", 1800)]
)
def test_durations_are_read_as_people_write_them(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "30m11h", "1.5h", "0s", "-3s", "soon"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected .*found"):
        parse_duration(text)


def test_a_signal_while_the_libraries_are_imported_ends_a_run_with_75(tmp_path: Path) -> None:
    script = """
import os, signal, sys
class Signalled:
    def find_spec(self, name, path=None, target=None):
        if name == "detector.engine.train":
            os.kill(os.getpid(), signal.SIGUSR1)
sys.meta_path.insert(0, Signalled())
from detector.cli.train import main
sys.exit(main(["--config", "retina_demo", "output_dir=run"]))
"""
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    expected = "stopped by SIGUSR1 before the first step; there was nothing to save. Start again by the same command\n"
    assert (result.returncode, result.stderr) == (75, expected)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a schema is wrong")])
def test_any_error_after_a_signal_at_the_start_is_the_stop(error: BaseException) -> None:
    stop = StopRequest()
    stop.signal_name = "SIGTERM"
    with pytest.raises(StoppedEarly, match="stopped by SIGTERM before the first step"), starting(stop):
        raise error


@pytest.mark.parametrize(("signal_name", "error"), [(None, RuntimeError("wrong")), ("SIGTERM", UserError("wrong"))])
def test_other_errors_at_the_start_are_what_they_are(signal_name: str | None, error: Exception) -> None:
    stop = StopRequest()
    stop.signal_name = signal_name
    with pytest.raises(type(error), match="wrong"), starting(stop):
        raise error
