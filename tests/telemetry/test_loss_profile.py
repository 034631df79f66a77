import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss as torchvision_focal_loss

from detector.config import ClsLossConfig
from detector.structures import BACKGROUND, IGNORE
from detector.telemetry import loss_profiler
from detector.telemetry.loss_profile import HARDEST, NUM_P_BINS, SPLITS, LossProfile, Split, loss_edges
from detector.telemetry.loss_profile_figures import draw_loss_profile
from detector.telemetry.loss_profiler import GAMMAS, LossProfiler, build_loss_profiler, profiled_indices

K = 3
LEVELS = (300, 40)
MAX_ERROR = 0.019  # of a bin's share of the loss, see LossProfile


def make_logits(num_columns: int = K, num_images: int = 2, seed: int = 0) -> list[Tensor]:
    """Logits of easy and hard anchors: mostly far below 0, some near and above it."""
    generator = torch.Generator().manual_seed(seed)
    return [3 * torch.randn(num_images, size, num_columns, generator=generator).double() - 3 for size in LEVELS]


def make_labels(num_images: int = 2, seed: int = 1, lowest: int = IGNORE) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(lowest, K, (num_images, size), generator=generator) for size in LEVELS]


def profile_of(
    cls_logits: list[Tensor], target_labels: list[Tensor], config: ClsLossConfig | None = None, **options: Any
) -> LossProfile:
    profiler = build_loss_profiler(config or ClsLossConfig(), K, **options)
    profiler.add(cls_logits, target_labels)
    return profiler.finish(profiler.sums)


def flat(levels: list[Tensor]) -> npt.NDArray[np.float64]:
    """Return all anchors of all levels and images in float64: [R, C] or [R]."""
    return torch.cat([level.flatten(0, 1) for level in levels]).double().numpy()


def sigmoid_focal_by_hand(x: Any, labels: Any, alpha: float | None, gamma: float) -> npt.NDArray[np.float64]:
    """Return the focal loss of every anchor, by the formula."""
    losses = np.zeros(len(x))
    for row, (logits, label) in enumerate(zip(x, labels, strict=True)):
        for k, logit in enumerate(logits):
            p = 1 / (1 + math.exp(-logit))
            p_t = p if k == label else 1 - p
            alpha_t = 1.0 if alpha is None else (alpha if k == label else 1 - alpha)
            losses[row] += -alpha_t * (1 - p_t) ** gamma * math.log(p_t)
    return losses


def softmax_focal_by_hand(x: Any, labels: Any, alpha: float, gamma: float) -> npt.NDArray[np.float64]:
    losses = np.zeros(len(x))
    for row, (logits, label) in enumerate(zip(x, labels, strict=True)):
        p_t = math.exp(logits[label]) / sum(math.exp(logit) for logit in logits)  # -1, background, is the last one
        losses[row] = -(alpha if label >= 0 else 1 - alpha) * (1 - p_t) ** gamma * math.log(p_t)
    return losses


def of_split(values: npt.NDArray[np.float64], labels: Any, split: Split) -> npt.NDArray[np.float64]:
    return values[labels >= 0] if split == "foreground" else values[labels == BACKGROUND]


def assert_cumulative_is_that_of_sorted(profile: LossProfile, gamma: float, split: Split, losses: Any) -> None:
    losses = np.sort(losses)
    exact = np.concatenate(([0.0], np.cumsum(losses) / losses.sum()))
    fractions, shares = profile.cumulative(gamma, split)
    positions = fractions * len(losses)
    np.testing.assert_allclose(positions, np.round(positions), atol=1e-6)
    np.testing.assert_allclose(shares, exact[np.round(positions).astype(int)], rtol=1e-9, atol=1e-12)
    # Between the borders: too high, by a bounded part of what the bin holds.
    interpolated = np.interp(np.arange(len(losses) + 1) / len(losses), fractions, shares)
    bin_shares = np.diff(shares).max()
    assert (interpolated - exact).min() > -1e-12
    assert (interpolated - exact).max() < MAX_ERROR * bin_shares + 1e-12


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("gamma", GAMMAS)
def test_the_cumulative_loss_is_that_of_sorting_all_anchors(gamma: float, split: Split) -> None:
    logits, labels = make_logits(), make_labels()
    profile = profile_of(logits, labels)
    losses = of_split(sigmoid_focal_by_hand(flat(logits), flat(labels), 0.25, gamma), flat(labels), split)
    assert profile.num_anchors(split) == len(losses)
    assert_cumulative_is_that_of_sorted(profile, gamma, split, losses)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_a_softmax_network_is_profiled_with_softmax_and_background_last(gamma: float, split: Split) -> None:
    logits, labels = make_logits(K + 1), make_labels()
    profile = profile_of(logits, labels, ClsLossConfig(name="softmax_ce", alpha=0.25))
    by_hand = softmax_focal_by_hand(flat(logits), flat(labels).astype(int), 0.25, gamma)
    assert_cumulative_is_that_of_sorted(profile, gamma, split, of_split(by_hand, flat(labels), split))
    fg_loss, bg_loss = (of_split(by_hand, flat(labels), one).sum() for one in SPLITS)
    assert profile.foreground_loss_share(gamma) == pytest.approx(fg_loss / (fg_loss + bg_loss), rel=1e-5)


@pytest.mark.parametrize("alpha", [None, 0.25, 0.9])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_shares_of_loss_and_gradient_are_those_of_torchvision(gamma: float, alpha: float | None) -> None:
    logits, labels = make_logits(), make_labels()
    profile = profile_of(logits, labels, ClsLossConfig(alpha=alpha))
    x = torch.from_numpy(flat(logits)).requires_grad_()
    label = torch.from_numpy(flat(labels)).long()
    one_hot = (label.unsqueeze(-1) == torch.arange(K)).double()
    terms = torchvision_focal_loss(x, one_hot, alpha=-1 if alpha is None else alpha, gamma=gamma)
    (gradient,) = torch.autograd.grad(terms.sum(), x)
    for share, values in (
        (profile.foreground_loss_share(gamma), terms.detach()),
        (profile.foreground_gradient_share(gamma), gradient.abs()),
    ):
        foreground, background = values[label >= 0].sum(), values[label == BACKGROUND].sum()
        assert share == pytest.approx(float(foreground / (foreground + background)), rel=1e-5)


def test_p_t_is_counted_by_the_probability_of_the_right_answer() -> None:
    logits, labels = make_logits(), make_labels()
    profile = profile_of(logits, labels)
    p, label = 1 / (1 + np.exp(-flat(logits))), flat(labels).astype(int)
    own = np.array([row[k] for row, k in zip(p, label, strict=True) if k >= 0])
    background = 1 - p[label == BACKGROUND].max(axis=1)
    for counts, p_t in zip(profile.p_t, (own, background), strict=True):
        np.testing.assert_array_equal(counts, np.histogram(p_t, bins=NUM_P_BINS, range=(0, 1))[0])


def test_p_t_of_a_softmax_network_leaves_out_the_background_column() -> None:
    logits = torch.full((1, 2, K + 1), -20.0)
    logits[0, 0, 1] = logits[0, 1, K] = 20.0  # sure of class 1, sure of background
    profile = profile_of([logits], [torch.tensor([[1, BACKGROUND]])], ClsLossConfig(name="softmax_focal"))
    assert profile.p_t[:, -1].tolist() == [1, 1]
    assert profile.p_t.sum() == 2


def test_the_hardest_hold_what_sorting_says() -> None:
    logits, labels = make_logits(num_images=8), make_labels(num_images=8)
    profile = profile_of(logits, labels)
    for gamma in GAMMAS:
        by_hand = sigmoid_focal_by_hand(flat(logits), flat(labels), 0.25, gamma)
        for split in SPLITS:
            losses = np.sort(of_split(by_hand, flat(labels), split))
            for fraction in HARDEST[split]:
                num_easy = (1 - fraction) * len(losses)
                exact = (
                    1
                    - np.interp(num_easy, np.arange(len(losses) + 1), np.concatenate(([0], np.cumsum(losses))))
                    / losses.sum()
                )
                assert profile.hardest_share(gamma, split, fraction) == pytest.approx(exact, abs=MAX_ERROR * 0.2)


def test_with_equal_losses_every_fraction_holds_its_own_share() -> None:
    profile = profile_of([torch.zeros(1, 50, K)], [torch.full((1, 50), BACKGROUND)])
    for fraction in (0.0, 0.001, 0.2, 1.0):
        assert profile.hardest_share(2.0, "background", fraction) == pytest.approx(fraction)


def test_a_higher_gamma_leaves_more_of_the_background_s_loss_to_its_hardest_anchors() -> None:
    profile = profile_of(make_logits(), make_labels())
    shares = [profile.hardest_share(gamma, "background", 0.01) for gamma in profile.gammas]
    assert shares == sorted(shares)
    assert shares[-1] > 1.4 * shares[0]


def test_sums_add_up_over_batches_and_processes() -> None:
    logits, labels = make_logits(num_images=5), make_labels(num_images=5)
    whole = build_loss_profiler(ClsLossConfig(), K)
    whole.add(logits, labels)
    first, second = (build_loss_profiler(ClsLossConfig(), K) for _ in range(2))
    for profiler, images in ((first, slice(0, 1)), (first, slice(1, 3)), (second, slice(3, 5))):
        profiler.add([level[images] for level in logits], [level[images] for level in labels])
    torch.testing.assert_close(first.sums + second.sums, whole.sums)
    assert whole.sums.dtype == torch.float64
    assert whole.finish(first.sums + second.sums).num_images == 5


def test_only_the_chosen_images_are_added() -> None:
    logits, labels = make_logits(num_images=3), make_labels(num_images=3)
    profiler = build_loss_profiler(ClsLossConfig(), K)
    profiler.add(logits, labels, [False, True, False])
    expected = build_loss_profiler(ClsLossConfig(), K)
    expected.add([level[1:2] for level in logits], [level[1:2] for level in labels])
    torch.testing.assert_close(profiler.sums, expected.sums)
    assert profiler.finish(profiler.sums).num_images == 1


def test_parts_of_a_level_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = make_logits(), make_labels()
    expected = build_loss_profiler(ClsLossConfig(), K)
    expected.add(logits, labels)
    monkeypatch.setattr(loss_profiler, "CHUNK_LOGITS", 500)
    profiler = build_loss_profiler(ClsLossConfig(), K)
    profiler.add(logits, labels)
    torch.testing.assert_close(profiler.sums, expected.sums)


def test_ignored_anchors_count_nowhere_whatever_their_logits() -> None:
    logits, labels = make_logits(), make_labels()
    expected = profile_of(logits, labels).to_json()
    for level, level_labels in zip(logits, labels, strict=True):
        level[level_labels == IGNORE] = torch.tensor([math.nan, math.inf, -math.inf]).double()
    assert profile_of(logits, labels).to_json() == expected


def test_it_works_in_inference_mode_and_leaves_the_network_alone() -> None:
    labels = make_labels()
    network = torch.nn.Linear(4, K)
    features = [torch.randn(2, size, 4, generator=torch.Generator().manual_seed(2)) for size in LEVELS]
    with torch.inference_mode():
        logits = [network(level) for level in features]
        before = [level.clone() for level in logits]
        profile = profile_of(logits, [level.clone() for level in labels])
        assert not torch.is_grad_enabled()
        torch.testing.assert_close(logits, before)
    with_graph = profile_of([network(level) for level in features], labels)
    assert profile.to_json() == with_graph.to_json()
    assert network.weight.grad is None
    assert profile.foreground_gradient_share(2.0) > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_are_computed_in_float32(dtype: torch.dtype) -> None:
    logits = [level.to(dtype) for level in make_logits()]
    halves, floats = (profile_of(x, make_labels()).to_json() for x in (logits, [level.float() for level in logits]))
    assert halves == floats


@pytest.mark.parametrize(("label", "missing"), [(BACKGROUND, "foreground"), (0, "background")])
def test_a_split_without_anchors_is_null_in_json_and_named_in_the_figure(label: int, missing: Split) -> None:
    profile = profile_of([make_logits()[0]], [torch.full((2, LEVELS[0]), label)])
    assert profile.num_anchors(missing) == 0
    assert math.isnan(profile.hardest_share(2.0, missing, 0.2))
    row = json.loads(json.dumps(profile.to_json(), allow_nan=False))["by_gamma"][-1]
    assert set(row[f"{missing}_held_by_hardest"].values()) == {None}
    assert row["fg_share"] == row["fg_gradient_share"] == (0.0 if missing == "foreground" else 1.0)
    for figure in draw_loss_profile(profile).values():
        empty = figure.axes[SPLITS.index(missing)]
        assert any("nothing to show" in text.get_text() for text in empty.texts)


def test_without_any_anchors_there_is_nothing_but_nulls() -> None:
    profile = profile_of([torch.zeros(1, 0, K)], [torch.zeros(1, 0, dtype=torch.int64)])
    row = profile.to_json()
    assert (row["num_images"], row["num_foreground"], row["num_background"]) == (1, 0, 0)
    assert [one["fg_share"] for one in row["by_gamma"]] == [None] * len(GAMMAS)
    draw_loss_profile(profile)


def test_a_loss_that_is_not_finite_is_null_and_stops_nothing() -> None:
    logits, labels = make_logits(), make_labels(lowest=BACKGROUND)
    logits[0][0, 0] = math.nan
    labels[0][0, 0] = 1
    profile = profile_of(logits, labels)
    row = profile.to_json()["by_gamma"][0]
    assert row["fg_share"] is None
    assert row["foreground_held_by_hardest"]["0.2"] is None
    assert row["background_held_by_hardest"]["0.2"] > 0.2
    draw_loss_profile(profile)


@pytest.mark.parametrize("scale", [0.0, 1e-3, 40.0, 100.0])
def test_tiny_and_huge_losses_are_all_counted(scale: float) -> None:
    logits = [torch.where(torch.rand(level.shape) < 0.5, -scale, scale) for level in make_logits()]
    profile = profile_of(logits, make_labels(), gammas=(0.0, 5.0))
    labels = flat(make_labels())
    for split in SPLITS:
        for gamma in profile.gammas:
            assert profile.counts[profile.gammas.index(gamma), SPLITS.index(split)].sum() == len(
                of_split(labels, labels, split)
            )
            fractions, shares = profile.cumulative(gamma, split)
            assert (fractions[0], fractions[-1], shares[0], shares[-1]) == (0, 1, 0, 1)


@pytest.mark.parametrize(
    ("changes", "run_gamma"),
    [
        ({}, 2.0),
        ({"gamma": 5.0}, 5.0),
        ({"name": "sigmoid_ce", "alpha": 0.75, "gamma": 3.0}, 0.0),
        ({"name": "ohem"}, 0.0),
        ({"name": "quality_focal", "gamma": 1.5}, 1.5),
        ({"name": "varifocal", "alpha": 0.75}, 2.0),
        ({"name": "focal_star"}, None),
    ],
)
def test_the_run_s_own_gamma_is_among_the_curves(changes: dict[str, Any], run_gamma: float | None) -> None:
    profile = profile_of(make_logits(), make_labels(), ClsLossConfig(**changes))
    assert profile.run_gamma == run_gamma
    expected = {*GAMMAS} if run_gamma is None else {*GAMMAS, run_gamma}
    assert profile.gammas == tuple(sorted(expected))
    assert [row["gamma"] for row in profile.to_json()["by_gamma"]] == sorted(expected)


@pytest.mark.parametrize("changes", [{"name": "ohem"}, {"name": "varifocal", "alpha": 0.75}, {"alpha": None}])
def test_an_alpha_that_is_none_of_the_focal_loss_weighs_nothing(changes: dict[str, Any]) -> None:
    profile = profile_of(make_logits(), make_labels(), ClsLossConfig(**changes))
    by_hand = sigmoid_focal_by_hand(flat(make_logits()), flat(make_labels()), None, 1.0)
    foreground, background = (of_split(by_hand, flat(make_labels()), split).sum() for split in SPLITS)
    assert profile.foreground_loss_share(1.0) == pytest.approx(foreground / (foreground + background), rel=1e-5)


def test_other_gammas_may_be_asked_for() -> None:
    profile = profile_of(make_logits(), make_labels(), gammas=(3.0, 0.1))
    assert profile.gammas == (0.1, 2.0, 3.0)
    with pytest.raises(ValueError, match=r"no profile for gamma 0\.5, only for 0\.1, 2, 3"):
        profile.cumulative(0.5, "foreground")


def test_sums_of_other_gammas_are_refused() -> None:
    profiler = build_loss_profiler(ClsLossConfig(), K)
    other = build_loss_profiler(ClsLossConfig(gamma=5.0), K)
    with pytest.raises(ValueError, match=r"expected \[\d+\] sums for 4 gammas, got \[\d+\]"):
        profiler.finish(other.sums)


def test_before_the_first_batch_all_sums_are_zero() -> None:
    profiler = LossProfiler({})
    assert not profiler.sums.any()
    assert profiler.finish(profiler.sums).num_images == 0


def test_json_has_the_headline_numbers_in_plain_types() -> None:
    profile = profile_of(make_logits(), make_labels())
    content = profile.to_json()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["num_images"] == 2
    assert content["run_gamma"] == 2.0
    assert sum(content["p_t_foreground"]) == content["num_foreground"]
    assert sum(content["p_t_background"]) == content["num_background"]
    row = content["by_gamma"][-1]
    assert set(row) == {
        "gamma",
        "fg_share",
        "fg_gradient_share",
        "foreground_held_by_hardest",
        "background_held_by_hardest",
    }
    assert list(row["foreground_held_by_hardest"]) == ["0.2"]
    assert list(row["background_held_by_hardest"]) == ["0.2", "0.01", "0.001"]
    assert row["background_held_by_hardest"]["0.01"] == profile.hardest_share(2.0, "background", 0.01)


def test_the_bins_are_as_narrow_as_the_error_bound_says() -> None:
    edges = loss_edges()
    assert (edges[0], edges[-1]) == pytest.approx((1e-30, 1e4))
    assert (edges[1:] / edges[:-1] - 1).max() / 4 < MAX_ERROR


def test_the_profiled_images_are_spread_over_the_dataset() -> None:
    assert profiled_indices(0) == []
    assert profiled_indices(3) == [0, 1, 2]
    assert profiled_indices(7, num_profiled=3) == [0, 2, 4]
    chosen = profiled_indices(5000)
    assert len(set(chosen)) == 100
    assert chosen == sorted(chosen)
    assert chosen[-1] > 4900


def test_the_legend_says_what_the_hardest_hold_and_which_gamma_is_the_run_s() -> None:
    profile = profile_of(make_logits(), make_labels())
    figures = draw_loss_profile(profile)
    assert list(figures) == ["cumulative_loss", "p_t"]
    legends = [axes.get_legend() for axes in figures["cumulative_loss"].axes]
    texts = [[text.get_text() for text in legend.get_texts()] for legend in legends if legend is not None]
    assert [len(lines) for lines in texts] == [4, 4]
    share = profile.hardest_share(2.0, "background", 0.01)
    assert texts[1][-1] == f"γ = 2 (this run): the hardest 1% hold {share:.1%}"
    assert [("this run" in line) for line in texts[0]] == [False, False, False, True]
