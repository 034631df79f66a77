"""The order in which images are dealt: entered anywhere, and with repeat factors as often as these say."""

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.data.order import GroupedOrder, group_images, images_per_epoch, sample_systematically

Images = list[tuple[bool, float]]
"""Group and repeat factor of each image."""

images = st.lists(
    st.tuples(st.booleans(), st.one_of(st.just(1.0), st.floats(1, 6), st.sampled_from([1.5, 2.0, 3.0]))),
    min_size=1,
    max_size=25,
)


def arrays(chosen: Images) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    return np.array([group for group, _ in chosen]), np.array([factor for _, factor in chosen])


def num_dealt(chosen: Images) -> dict[bool, int]:
    """Images that an epoch deals of each group, by exact arithmetic."""
    sums: Counter[bool] = Counter()
    for group, factor in chosen:
        sums[group] += Fraction(factor)  # type: ignore[assignment]
    return {group: round(total) for group, total in sums.items()}


def streams(order: GroupedOrder, groups: npt.NDArray[np.bool_], num_steps: int) -> dict[bool, list[int]]:
    """The images of each group in the order in which batches use them."""
    dealt: dict[bool, list[int]] = {False: [], True: []}
    for step in range(num_steps):
        batch = order.batch(step)
        assert len(set(groups[batch].tolist())) == 1, "a batch holds one group"
        dealt[bool(groups[batch[0]])] += batch.tolist()
    return dealt


def test_without_repeat_factors_the_order_is_that_of_earlier_versions() -> None:
    groups = np.array([0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 0], dtype=bool)
    order = GroupedOrder(groups, batch_size=4, seed=7)
    assert [order.batch(step).tolist() for step in range(9)] == [  # stored before there were repeat factors
        [9, 2, 3, 0],
        [10, 8, 6, 5],
        [4, 1, 7, 1],
        [6, 2, 8, 0],
        [9, 10, 3, 5],
        [4, 7, 1, 4],
        [6, 2, 10, 9],
        [0, 5, 3, 8],
        [2, 5, 9, 0],
    ]


@settings(max_examples=60, deadline=None)
@given(images, st.integers(1, 9), st.integers(0, 3))
def test_every_epoch_deals_a_fixed_number_of_each_group_and_each_image_its_share(
    chosen: Images, batch_size: int, seed: int
) -> None:
    groups, factors = arrays(chosen)
    order = GroupedOrder(groups, batch_size, seed, factors)
    expected = num_dealt(chosen)
    assert images_per_epoch(groups, factors) == sum(expected.values())
    num_steps = 3 * sum(expected.values()) // batch_size
    for group, stream in streams(order, groups, num_steps).items():
        if group not in expected:
            assert stream == []
            continue
        total = math.fsum(factors[groups == group])
        for first in range(0, len(stream) - expected[group] + 1, expected[group]):
            counts = Counter(stream[first : first + expected[group]])
            for image in np.flatnonzero(groups == group).tolist():
                share = factors[image] * expected[group] / total
                assert math.floor(share - 1e-9) <= counts[image] <= math.ceil(share + 1e-9)


@settings(max_examples=60, deadline=None)
@given(images, st.integers(1, 9), st.integers(0, 3), st.integers(0, 60))
def test_any_step_entered_afresh_is_that_of_the_whole_sequence(
    chosen: Images, batch_size: int, seed: int, start: int
) -> None:
    groups, factors = arrays(chosen)
    whole = GroupedOrder(groups, batch_size, seed, factors)
    sequence = [whole.batch(step).tolist() for step in range(start + 8)]
    fresh = GroupedOrder(groups, batch_size, seed, factors)
    assert [fresh.batch(step).tolist() for step in range(start, start + 8)] == sequence[start:]
    assert whole.batch(start // 2).tolist() == sequence[start // 2]  # and back again


def test_the_mean_over_epochs_is_the_factor() -> None:
    factors = np.array([1.0, 1.0, 1.3, 1.0, 2.5, 1.0, 4.2, 1.0])  # sum 13
    order = GroupedOrder(np.zeros(8, dtype=bool), 13, 0, factors)
    num_epochs = 3000
    counts = sum(np.bincount(order.batch(epoch), minlength=8) for epoch in range(num_epochs))
    np.testing.assert_allclose(np.asarray(counts) / num_epochs, factors, atol=0.03)
    offsets = [np.bincount(order.batch(epoch), minlength=8)[2] for epoch in range(20)]
    assert set(offsets) == {1, 2}  # not the same images each time


def test_repeated_images_are_spread_over_the_epoch() -> None:
    factors = np.ones(200)
    factors[:10] = 9.0
    order = GroupedOrder(np.zeros(200, dtype=bool), 280, 0, factors)
    places = np.flatnonzero(order.batch(0) == 3)
    assert len(places) == 9
    assert places.max() - places.min() > 100


@given(
    st.lists(st.floats(1, 50), min_size=1, max_size=60),
    st.one_of(st.sampled_from([0.0, float(np.nextafter(1, 0))]), st.floats(0, 1, exclude_max=True)),
)
def test_the_number_drawn_is_exact_for_every_offset(factors: list[float], offset: float) -> None:
    count = round(math.fsum(factors))
    times = sample_systematically(np.array(factors), count, offset)
    assert times.sum() == count
    assert times.min() >= 0


def test_equal_factors_deal_every_image_equally_often() -> None:
    order = GroupedOrder(np.zeros(12, dtype=bool), 24, 5, np.full(12, 2.0))
    for epoch in range(50):
        assert np.bincount(order.batch(epoch)).tolist() == [2] * 12


@pytest.mark.parametrize(("by_aspect", "expected"), [(True, [True, False, False]), (False, [False] * 3)])
def test_groups_are_orientations(by_aspect: bool, expected: list[bool]) -> None:
    sizes = np.array([[20, 10], [10, 10], [10, 20]])
    assert group_images(sizes, by_aspect=by_aspect).tolist() == expected
