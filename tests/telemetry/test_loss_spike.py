"""A loss that leaps is told once, noise is not."""

from dataclasses import replace

import numpy as np
import pytest

from detector.telemetry import TrainRow
from tests.telemetry.test_diagnosis import found, healthy_rows, learning_rows, steps_of


def with_loss(rows: list[TrainRow], idx: int, factor: float) -> list[TrainRow]:
    return [*rows[:idx], replace(rows[idx], loss=rows[idx].loss * factor), *rows[idx + 1 :]]


def spikes(rows: list[TrainRow]) -> list[str]:
    return [finding.text for finding in found(rows) if finding.name == "loss_spike"]


@pytest.mark.parametrize("idx", [10, 20, 34])
def test_a_leap_of_a_healthy_loss_is_told_at_its_step(idx: int) -> None:
    rows = with_loss(healthy_rows(), idx, 20)
    assert steps_of(rows) == {"loss_spike": rows[idx].step}
    (text,) = spikes(rows)
    assert f"the loss leapt to {rows[idx].loss:.3g} at step {rows[idx].step}, " in text
    assert "optimizer.clip_grad_norm" in text


def test_it_is_told_once() -> None:
    assert len(spikes(with_loss(with_loss(healthy_rows(), 15, 30), 30, 30))) == 1


def test_a_small_leap_and_the_first_rows_are_left_in_peace() -> None:
    assert not spikes(with_loss(healthy_rows(), 30, 2.5))
    assert not spikes(with_loss(healthy_rows(), 9, 30))
    assert not spikes(healthy_rows())


def test_a_batch_with_hardly_any_object_is_no_leap() -> None:
    rows = with_loss(healthy_rows(), 30, 20)
    rows[30] = replace(rows[30], num_foreground=12, normalizer=12)
    assert not spikes(rows)


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), 0.0, -1.0])
def test_losses_without_a_logarithm_are_no_leap_and_hide_none(loss: float) -> None:
    rows = healthy_rows()
    rows[20] = replace(rows[20], loss=loss)
    assert not spikes(rows)
    assert spikes(with_loss(rows, 30, 20))


@pytest.mark.parametrize("deviation", [0.05, 0.2, 0.4])
def test_noise_of_any_size_is_no_leap(deviation: float) -> None:
    rng, rows = np.random.default_rng(0), healthy_rows(400)
    noisy = [replace(row, loss=row.loss * float(np.exp(rng.normal(0, deviation)))) for row in rows]
    assert not spikes(noisy)


def test_a_noisy_loss_must_leap_further() -> None:
    rows = learning_rows(seed=0, noise=0.4)
    assert not spikes(with_loss(rows, 100, 3))
    assert spikes(with_loss(rows, 100, 1000))
