"""The curves of the laboratory against formulas written here."""

import numpy as np
import pytest

from detector.lab.curves import loss_curves


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
@pytest.mark.parametrize("alpha", [None, 0.25])
def test_loss_and_gradient_are_those_of_the_paper(gamma: float, alpha: float | None) -> None:
    curves = loss_curves([gamma], [alpha], num_points=99)
    p_t, weight = curves.p_t, 1.0 if alpha is None else alpha
    np.testing.assert_allclose(p_t, np.linspace(0.01, 0.99, 99), rtol=1e-12)
    (loss,), (gradient,) = curves.losses.values(), curves.gradients.values()
    np.testing.assert_allclose(loss, -weight * (1 - p_t) ** gamma * np.log(p_t), rtol=1e-9, atol=1e-14)
    # Lin et al. 2017, App. B.
    derivative = (1 - p_t) ** gamma * (gamma * p_t * np.log(p_t) + p_t - 1)
    np.testing.assert_allclose(gradient, weight * np.abs(derivative), rtol=1e-9, atol=1e-14)


def test_there_is_a_named_curve_for_each_gamma_with_each_alpha() -> None:
    curves = loss_curves([0, 2], [None, 0.25])
    assert list(curves.losses) == ["γ 0", "γ 0, α .25", "γ 2", "γ 2, α .25"]
    assert list(curves.gradients) == list(curves.losses)
    assert curves.p_t.shape == curves.losses["γ 2"].shape == curves.gradients["γ 2"].shape == (999,)


def test_a_wrong_gamma_is_an_error() -> None:
    with pytest.raises(ValueError, match="gamma"):
        loss_curves([-1])
