"""The figures of a loss profile."""

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from detector.drawing.loss_profile_plots import LossPanel, plot_cumulative_loss, plot_p_t
from detector.drawing.plots import render
from detector.telemetry.loss_profile import LossProfile, Split, p_edges

LEGEND_FRACTION: dict[Split, float] = {"foreground": 0.2, "background": 0.01}
"""Of which hardest part of the anchors the legend tells the share of the loss."""


def draw_loss_profile(profile: LossProfile) -> dict[str, Figure]:
    """Return the figures by name: ``cumulative_loss`` and ``p_t``."""
    return {
        "cumulative_loss": plot_cumulative_loss(_panel(profile, "foreground"), _panel(profile, "background")),
        "p_t": plot_p_t(p_edges(), *profile.p_t),
    }


def render_loss_profile(profile: LossProfile) -> dict[str, npt.NDArray[np.uint8]]:
    """Return the figures of :func:`draw_loss_profile` as [H, W, 3] uint8 RGB pixels."""
    return {name: render(figure) for name, figure in draw_loss_profile(profile).items()}


def _panel(profile: LossProfile, split: Split) -> LossPanel:
    curves = {gamma: profile.cumulative(gamma, split) for gamma in profile.gammas}
    names = {gamma: _name(profile, gamma, split) for gamma in profile.gammas}
    return LossPanel(
        title=f"{split}: {profile.num_anchors(split):,} anchors of {profile.num_images} images",
        lines={names[gamma]: curve for gamma, curve in curves.items() if curve[0].size},
        bold=None if profile.run_gamma is None else names[profile.run_gamma],
    )


def _name(profile: LossProfile, gamma: float, split: Split) -> str:
    fraction = LEGEND_FRACTION[split]
    of_run = " (this run)" if gamma == profile.run_gamma else ""
    share = profile.hardest_share(gamma, split, fraction)
    return f"γ = {gamma:g}{of_run}: the hardest {fraction:.0%} hold {share:.1%}"
