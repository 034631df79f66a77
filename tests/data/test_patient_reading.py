"""A file that fails for a moment is read again."""

import errno
import logging
import os
from pathlib import Path

import pytest

from detector.data import patient_reading
from detector.data.decode import ImageError, decode_image
from detector.data.patient_reading import DELAYS, read_patiently


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waited: list[float] = []
    monkeypatch.setattr(patient_reading.time, "sleep", waited.append)
    return waited


def fail(monkeypatch: pytest.MonkeyPatch, number: int, times: int) -> None:
    """Let the next reads of any file fail."""
    read, failures = Path.read_bytes, iter(range(times))

    def reading(path: Path) -> bytes:
        if next(failures, None) is not None:
            raise OSError(number, os.strerror(number), str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", reading)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
def test_an_error_that_passes_is_waited_for_and_told(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"content")
    fail(monkeypatch, number, times=3)
    with caplog.at_level(logging.WARNING):
        assert read_patiently(tmp_path / "a.jpg") == b"content"
    assert waits == list(DELAYS)
    assert [os.strerror(number) in record.message for record in caplog.records] == [True] * 3
    assert f"{tmp_path / 'a.jpg'}: " in caplog.text


def test_an_error_that_stays_is_raised_with_the_name_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    fail(monkeypatch, errno.EIO, times=9)
    with pytest.raises(ImageError, match=r"a\.jpg: cannot read the image: Input/output error"):
        decode_image(tmp_path / "a.jpg")
    assert waits == list(DELAYS)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.EISDIR])
def test_an_error_that_does_not_pass_is_raised_at_once(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    fail(monkeypatch, number, times=1)
    with pytest.raises(OSError, match=os.strerror(number)):
        read_patiently(tmp_path / "a.jpg")
    assert waits == []
