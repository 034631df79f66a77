import re
from dataclasses import replace

import pytest

from detector.data.stages import StageSeconds
from detector.telemetry.input_wait import InputWatch
from tests.telemetry.sample_rows import train_row

DECODING = StageSeconds(read=0.1, decode=2.4, augment=0.4, resize=1.1)


def texts(watch: InputWatch, share: float, seconds: StageSeconds = DECODING, num_rows: int = 5) -> list[str]:
    row = replace(train_row(1), data_seconds=share * 0.5, step_seconds=0.5)
    return [finding.text for _ in range(num_rows) for finding in watch.observe(row, seconds)]


@pytest.mark.parametrize(
    ("num_workers", "seconds", "words"),
    [
        (0, DECODING, r"too few loader processes: raise data\.num_workers \(now 0; each training process has 4 cores"),
        (
            3,
            DECODING,
            r"read 2 %, decode 60 %, augment 10 %, resize 28 %\. There are too few .* decodes: set data.cache=ram",
        ),
        (4, DECODING, r"All cores are busy \(4 loader processes, 4 cores\); most of it decodes"),
        (4, DECODING._replace(augment=9.0), r"most of it augments: choose cheaper transforms for data\.augment"),
        (4, DECODING._replace(resize=9.0), r"most of it resizes: lower data\.short_side"),
        (2, DECODING._replace(read=9.0), r"The disk is too slow"),
    ],
)
def test_a_wait_is_told_with_its_bottleneck(num_workers: int, seconds: StageSeconds, words: str) -> None:
    (text,) = texts(InputWatch(num_workers, 4), 0.4, seconds)
    assert text.startswith("40 % of the last steps is waiting for data. Of the loader's time: read ")
    assert re.search(words, text)


def test_short_waits_and_single_long_ones_are_no_trouble() -> None:
    watch = InputWatch(2, 4)
    assert texts(watch, 0.19, num_rows=20) == []
    assert texts(watch, 0.9, num_rows=4) == []
    assert texts(watch, 0.1, num_rows=1) == []
    assert texts(watch, 0.9, num_rows=4) == []


def test_rows_without_time_are_no_wait() -> None:
    assert texts(InputWatch(2, 4), float("nan")) == []
    assert texts(InputWatch(2, 4), 0.9, StageSeconds()) == []
