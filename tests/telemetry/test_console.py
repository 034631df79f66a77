import io
import sys
import time
from dataclasses import replace

import pytest
from rich.console import Console

from detector.telemetry import RunConsole
from detector.telemetry.lines import format_duration, format_train_line
from tests.telemetry.sample_rows import train_row

ROW = train_row(
    120, epoch=2.4, loss=0.65123, loss_cls=0.41234, loss_box=0.23889, fg_share=0.75, num_foreground=312.0, lr=0.01,
    grad_norm=3.214, data_seconds=0.05, step_seconds=0.2, images_per_second=40.0, p_foreground=0.3046,
)  # fmt: skip


def fake_terminal(**options: object) -> tuple[io.StringIO, Console]:
    file = io.StringIO()
    return file, Console(file=file, force_terminal=True, width=80, **options)  # type: ignore[arg-type]


def test_a_train_line_shows_the_numbers_of_its_row() -> None:
    assert format_train_line(ROW, max_steps=1500, eta_seconds=276.0) == (
        "step  120/1500 epoch  2.40 | loss 0.6512 cls 0.4123 box 0.2389 | fg 75.0% pos   312 p 0.305 | lr 1.00e-02 "
        "grad  3.21 | data 25%  50 ms |   40.0 img/s eta 0:04:36"
    )


def test_a_train_line_can_show_what_is_not_finite() -> None:
    nan = float("nan")
    row = replace(ROW, loss=nan, fg_share=nan, grad_norm=float("inf"), step_seconds=0.0)
    line = format_train_line(row, max_steps=1500, eta_seconds=nan)
    assert "loss nan" in line
    assert "grad   inf" in line
    assert line.endswith("eta --:--:--")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00:00"), (59.6, "0:01:00"), (3600, "1:00:00"), (90061, "1d 1:01:01"), (float("inf"), "--:--:--")],
)
def test_durations_are_readable(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_lines_are_plain_where_the_output_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    long = "AP " * 100
    with RunConsole() as console:
        console.print(f"[bold]{long} :smile:")
        console.show_step(1, 2, detail="")
        console.warn("low disk")
    assert capsys.readouterr().out == f"[bold]{long} :smile:\nwarning: low disk\n"


def test_colour_forced_by_the_environment_makes_no_progress_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with RunConsole() as console:
        console.show_step(1, 2, detail="")
        console.warn("low disk")
    assert capsys.readouterr().out == "warning: low disk\n"


def test_a_terminal_shows_a_bar_with_the_lines_above_it() -> None:
    file, rich_console = fake_terminal()
    long = "x" * 200
    with RunConsole(console=rich_console) as console:
        console.show_step(3, 10, detail="eta 0:00:07")
        assert "3/10" in file.getvalue()
        assert "eta 0:00:07" in file.getvalue()
        console.print(f"[bold]{long}")
        after_bar = file.getvalue().split(f"[bold]{long}\n")[-1]
        assert "3/10" in after_bar  # drawn again below the line
    assert file.getvalue().endswith("\x1b[2K")  # the bar is wiped at the end
    assert "\x1b[?25h" in file.getvalue()  # and the cursor is back


def test_prints_of_other_code_do_not_break_the_bar() -> None:
    file, rich_console = fake_terminal()
    stdout = sys.stdout
    with RunConsole(console=rich_console) as console:
        console.show_step(3, 10, detail="")
        print("from elsewhere")
    assert "from elsewhere\n" in file.getvalue()
    assert sys.stdout is stdout


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    file, rich_console = fake_terminal()
    with RunConsole(console=rich_console) as console:
        console.show_step(3, 10, detail="")
        console.print("text")
    assert file.getvalue() == "text\n"


def test_a_shorter_job_has_its_own_bar_beside_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    file, rich_console = fake_terminal()
    with RunConsole(console=rich_console) as console:
        console.show_step(3, 10, detail="")
        with console.progress("evaluating", 48) as advance:
            advance(16)
            advance(16)
        assert "32/48" in file.getvalue()
        wiped = file.getvalue()
        console.print("done")
        assert "evaluating" not in file.getvalue().removeprefix(wiped)
        assert "3/10" in file.getvalue().removeprefix(wiped)


def test_a_shorter_job_says_a_line_every_30_seconds_without_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with RunConsole().progress("evaluating", 5) as advance:
        for _ in range(5):
            now += 10.0
            advance(1)
    assert capsys.readouterr().out == "evaluating 3/5\n"


def test_a_name_that_the_output_cannot_encode_does_not_end_the_run() -> None:
    buffer = io.BytesIO()
    console = RunConsole(console=Console(file=io.TextIOWrapper(buffer, encoding="ascii")))
    console.print("Möwe")
    assert buffer.getvalue() == b"M\\xf6we\n"
