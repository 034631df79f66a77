"""Errors become exit codes and messages in one place."""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from detector import __version__
from detector.cli import errors
from detector.cli.errors import exit_code, run_command
from detector.cli.main import COMMANDS, main
from detector.engine.stop import StopRequest
from detector.errors import StoppedEarly, UserError

ROOT = Path(__file__).parents[2]
NMS_ERROR = "operator torchvision::nms does not exist"


def raising(error: BaseException) -> int:
    def function() -> int:
        raise error

    return exit_code(function)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "TORCHELASTIC_ERROR_FILE", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("a.yaml:3: unknown key 'lr'"), 2, "error: a.yaml:3: unknown key 'lr'\n"),
        (StoppedEarly("stopped; continue with --resume"), 75, "stopped; continue with --resume\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (SystemExit(2), 2, ""),
        (SystemExit(None), 0, ""),
        (SystemExit("text"), 1, ""),
    ],
)
def test_an_expected_end_has_its_code_and_a_plain_message(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, message: str
) -> None:
    assert raising(error) == code
    assert capsys.readouterr() == ("", message)


@pytest.mark.parametrize("error", [ValueError("odd"), BrokenPipeError("a worker died"), RuntimeError("odd")])
def test_anything_else_is_1_with_a_traceback(capsys: pytest.CaptureFixture[str], error: Exception) -> None:
    assert raising(error) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("Traceback")
    assert printed.endswith(f"{type(error).__name__}: {error}\n")


@pytest.mark.parametrize(
    "error",
    [RuntimeError(NMS_ERROR), ImportError(NMS_ERROR), ModuleNotFoundError("No module", name="torch")],
)
def test_a_torch_that_does_not_work_says_what_to_install(capsys: pytest.CaptureFixture[str], error: Exception) -> None:
    assert raising(error) == 2
    printed = capsys.readouterr().err
    assert "pip install --force-reinstall torch torchvision" in printed
    assert "Traceback" not in printed


def test_another_missing_module_is_no_advice_about_torch(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(ModuleNotFoundError("No module named 'x'", name="x")) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("rank", "printed"), [("0", "error: wrong\n"), ("1", "")])
def test_of_several_processes_rank_0_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rank: str, printed: str
) -> None:
    monkeypatch.setenv("RANK", rank)
    assert raising(UserError("wrong")) == 2
    assert capsys.readouterr().err == printed


def test_of_the_processes_of_torchrun_the_first_to_fail_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / rank / "error.json"))
        assert raising(UserError(f"wrong in {rank}")) == 2
    assert capsys.readouterr().err == "error: wrong in 1\n"


@pytest.mark.parametrize(
    "text",
    ["[pair.cc:561] Connection closed by peer [127.0.0.1]:3997", "NCCL error: remote process exited or network error"],
)
def test_the_processes_that_are_left_behind_print_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str
) -> None:
    """They may notice that a process has ended before it has printed why: that must still be printed."""
    for rank, error in (("0", RuntimeError(text)), ("2", RuntimeError(text)), ("1", UserError("an unreadable image"))):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / rank / "error.json"))
        assert raising(error) == (2 if rank == "1" else 1)
    assert capsys.readouterr().err.splitlines() == [
        "error: another process of the run has ended; if it could, it says why",
        "error: an unreadable image",
    ]


def test_under_torchrun_a_process_that_has_lost_another_lets_it_end_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun names the first to end as the root cause, and then ends the others."""
    waits: list[float] = []
    monkeypatch.setattr(errors.time, "sleep", waits.append)
    monkeypatch.setenv("RANK", "1")
    lost = RuntimeError("[pair.cc:561] Connection closed by peer [127.0.0.1]:3997")
    raising(lost)
    assert waits == [], "no launcher ends this process meanwhile"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")
    raising(UserError("the cause"))
    assert waits == []
    with StopRequest():
        assert raising(lost) == 1
    assert len(waits) == 1
    assert waits[0] >= 1.0
    with StopRequest() as stop:
        stop.begin_steps()
        os.kill(os.getpid(), signal.SIGTERM)
    assert raising(lost) == 1
    assert len(waits) == 1, "torchrun, which has noticed, sends nothing more"
    with StopRequest():
        raising(lost)
    assert len(waits) == 2, "that was another run"


def test_a_reader_that_closes_the_pipe_gets_no_traceback() -> None:
    program = (
        "from detector.cli.errors import exit_code\n"
        "def talk():\n"
        "    for i in range(100_000): print('line', i)\n"
        "    return 0\n"
        "raise SystemExit(exit_code(talk))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "line 0\n"
    process.stdout.close()
    with process.stderr as stream:
        assert stream.read() == ""
    assert process.wait() == 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", required=True)
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("overrides", nargs="*")


@pytest.mark.parametrize(
    "argv",
    [
        ["a.b=1", "--config", "x=y.yaml", "c=-2", "--fast", "d=[1, 2]"],
        ["--fast", "a.b=1", "c=-2", "--config=x=y.yaml", "d=[1, 2]"],
        ["--fast", "--config", "x=y.yaml", "--", "a.b=1", "c=-2", "d=[1, 2]"],
    ],
)
def test_overrides_may_stand_anywhere_on_the_line(argv: Sequence[str]) -> None:
    seen: list[argparse.Namespace] = []

    def run(args: argparse.Namespace) -> int:
        seen.append(args)
        return 0

    assert run_command("train", add_arguments, run, argv) == 0
    assert vars(seen[0]) == {"config": "x=y.yaml", "fast": True, "overrides": ["a.b=1", "c=-2", "d=[1, 2]"]}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["a=1"], "--config"),
        (["--config", "x", "--fats"], "unrecognized arguments: --fats"),
        (["--conf", "x"], "--config"),
    ],
)
def test_a_wrong_option_is_2(capsys: pytest.CaptureFixture[str], argv: Sequence[str], message: str) -> None:
    assert run_command("train", add_arguments, lambda _: 0, argv) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("usage: detector train")
    assert message in printed


def test_the_console_command_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in COMMANDS)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"detector {__version__}\n"


@pytest.mark.parametrize(
    ("argv", "message"), [([], "no command given"), (["evalate", "--config", "x"], "unknown command 'evalate'")]
)
def test_a_wrong_command_is_2_and_lists_the_right_ones(
    capsys: pytest.CaptureFixture[str], argv: Sequence[str], message: str
) -> None:
    assert main(argv) == 2
    assert f"{message}; the commands are train, evaluate, predict, make-demo" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_needs_no_heavy_library(argv: Sequence[str]) -> None:
    program = (
        "import sys\nfrom detector.cli.main import main\ncode = main(sys.argv[1:])\n"
        "heavy = {'torch', 'cv2', 'albumentations', 'pycocotools'} & set(sys.modules)\n"
        "raise SystemExit(f'imported {heavy}' if heavy else code)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", program, *argv], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("usage: detector")
