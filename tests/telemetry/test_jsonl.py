import json
import os
from pathlib import Path

import pytest

from detector.telemetry.jsonl import MetricsFile, read_rows, truncate_rows


def lines_until(last_step: int) -> bytes:
    return b"".join(b'{"kind": "train", "step": %d}\n' % step for step in range(1, last_step + 1))


def test_a_row_can_be_read_as_soon_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with MetricsFile(path) as metrics:
        metrics.write({"kind": "train", "step": 1, "loss": None})
        assert path.read_bytes() == b'{"kind": "train", "step": 1, "loss": null}\n'


def test_a_value_that_json_has_no_word_for_is_refused(tmp_path: Path) -> None:
    with MetricsFile(tmp_path / "metrics.jsonl") as metrics, pytest.raises(ValueError, match="not JSON compliant"):
        metrics.write({"step": 1, "loss": float("nan")})
    assert (tmp_path / "metrics.jsonl").read_bytes() == b""


def test_resume_removes_the_rows_that_are_written_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(lines_until(5))
    with MetricsFile(path, start_step=3) as metrics:
        assert metrics.num_removed == 2
        metrics.write({"step": 4})
    assert path.read_bytes() == lines_until(3) + b'{"step": 4}\n'


@pytest.mark.parametrize(
    "torn", [b'{"kind": "train", "step": 2, "lo', b"{", b"\0\0\0", b"\xff\xfe", b"12", b"[]\n", b"\n"]
)
def test_resume_removes_a_torn_last_line(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(lines_until(2) + torn)
    assert truncate_rows(path, 2) == 1
    assert path.read_bytes() == lines_until(2)


def test_a_whole_last_row_that_only_lacks_its_line_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(lines_until(2)[:-1])
    with MetricsFile(path, start_step=2) as metrics:
        metrics.write({"step": 3})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]


def test_a_run_from_step_0_starts_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"kind": "eval", "step": 0}\n' + lines_until(2))
    assert truncate_rows(path, 0) == 3
    assert path.read_bytes() == b""


def test_a_file_with_nothing_to_remove_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(lines_until(2))
    inode = path.stat().st_ino
    assert truncate_rows(path, 2) == 0
    assert path.stat().st_ino == inode
    assert truncate_rows(tmp_path / "none.jsonl", 2) == 0


def test_a_kill_during_the_rewrite_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(lines_until(5))

    def killed(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        truncate_rows(path, 3)
    assert path.read_bytes() == lines_until(5)


def test_rows_are_read_back_and_a_missing_file_has_none(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert list(read_rows(path)) == []
    path.write_bytes(lines_until(2) + b'{"kind": "warning", "step": 2, "name": "a"}\n')
    assert [(row["kind"], row["step"]) for row in read_rows(path)] == [("train", 1), ("train", 2), ("warning", 2)]
