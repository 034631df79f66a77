"""The tutorial's worked example, from the program's own loss functions."""

import math

import pytest

from detector.lab.example import format_example, worked_example

TUTORIAL = 4e-4
"""Its sums start from .02227, which is .0222764 cut off: too little by this part."""


def test_the_tutorials_eight_numbers_come_out_within_its_rounding() -> None:
    ce, focal = worked_example()
    assert ce.negatives.loss == pytest.approx(0.02227, rel=TUTORIAL)
    assert ce.negatives.sum == pytest.approx(2227, rel=TUTORIAL)
    assert ce.positives.sum == pytest.approx(13.01, abs=0.005)
    assert ce.total == pytest.approx(2240, rel=TUTORIAL)
    assert ce.positive_share == pytest.approx(0.0058, abs=5e-5)
    assert focal.negatives.sum == pytest.approx(4.1756, rel=TUTORIAL)
    assert focal.positives.sum == pytest.approx(2.935, abs=5e-4)
    assert focal.total == pytest.approx(7.110, rel=TUTORIAL)
    assert focal.positive_share == pytest.approx(0.4127, abs=5e-5)


def test_the_numbers_are_those_of_the_formulas() -> None:
    ce, focal = worked_example()
    easy, hard = -math.log10(0.95), -math.log10(0.05)
    assert ce.negatives.sum == pytest.approx(100_000 * easy, rel=1e-9)  # 2227.64
    assert ce.total == pytest.approx(100_000 * easy + 10 * hard, rel=1e-9)  # 2240.65
    assert focal.negatives.sum == pytest.approx(100_000 * 0.75 * 0.05**2 * easy, rel=1e-9)  # 4.17682
    assert focal.positives.sum == pytest.approx(10 * 0.25 * 0.95**2 * hard, rel=1e-9)  # 2.93545
    assert [round(focal.negatives.factor, 9), round(focal.positives.factor, 9)] == [0.0025, 0.9025]
    assert [focal.negatives.weight, focal.positives.weight] == [0.75, 0.25]
    assert [ce.negatives.factor, ce.negatives.weight, ce.positives.weight] == [1, 1, 1]


def test_with_the_tutorials_own_count_of_10000_the_shares_are_others() -> None:
    ce, focal = worked_example(num_negatives=10_000)
    assert ce.positive_share == pytest.approx(0.0552, abs=5e-5)
    assert focal.positive_share == pytest.approx(0.8754, abs=5e-5)


def test_the_base_of_the_logarithm_changes_every_loss_and_no_share() -> None:
    for decimal, natural in zip(worked_example(), worked_example(log_base=math.e), strict=True):
        assert natural.total == pytest.approx(decimal.total * math.log(10), rel=1e-12)
        assert natural.positive_share == pytest.approx(decimal.positive_share, rel=1e-12)


def test_counts_probabilities_gamma_and_alpha_are_free() -> None:
    _, focal = worked_example(
        num_negatives=7, num_positives=3, negative_p_t=0.6, positive_p_t=0.3, gamma=1.5, alpha=0.4, log_base=2
    )
    assert focal.negatives.sum == pytest.approx(7 * 0.6 * 0.4**1.5 * -math.log2(0.6))
    assert focal.positives.sum == pytest.approx(3 * 0.4 * 0.7**1.5 * -math.log2(0.3))
    _, none = worked_example(num_negatives=0, num_positives=0)
    assert none.total == 0
    assert math.isnan(none.positive_share)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"negative_p_t": 1.0}, "negative_p_t must lie between 0 and 1, got 1.0"),
        ({"num_positives": -1}, "counts must be >= 0, got 100000 and -1"),
        ({"log_base": 1.0}, "log_base must be positive and not 1"),
        ({"gamma": -1.0}, "gamma"),
    ],
)
def test_a_value_out_of_range_is_an_error(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        worked_example(**values)  # type: ignore[arg-type]


def test_the_table_shows_sums_and_shares() -> None:
    lines = [line.split() for line in format_example(worked_example()).splitlines()]
    assert lines[1][-7:] == ["100,000", "0.95", "1", "1", "0.022276", "2227.6", "0.9942"]
    assert lines[2][-3:] == ["1.301", "13.01", "0.0058"]
    assert lines[3] == ["cross-entropy:", "total", "2240.6"]
    assert lines[4][-5:] == ["0.0025", "0.75", "4.1768e-05", "4.1768", "0.5873"]
    assert lines[5][-5:] == ["0.9025", "0.25", "0.29354", "2.9354", "0.4127"]
    assert lines[6] == ["focal", "loss:", "total", "7.1123"]
