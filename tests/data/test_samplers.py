from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.data.padding import Padding
from detector.data.resize import resized_size
from detector.data.samplers import EvalSampler, SampleKey, TrainSampler, split_batch
from detector.errors import UserError


def random_sizes(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(20, 200, (n, 2), generator=torch.Generator().manual_seed(seed))


def train_sampler(sizes: torch.Tensor, **changes: object) -> TrainSampler:
    arguments: dict[str, object] = {
        "batch_size": 8,
        "seed": 3,
        "short_sides": (64, 80, 96),
        "max_side": 160,
        "padding": Padding(32),
    }
    return TrainSampler(sizes, **{**arguments, **changes})  # type: ignore[arg-type]


def indices_of(batches: list[list[SampleKey]]) -> list[list[int]]:
    return [[key.index for key in batch] for batch in batches]


def grouped_batches_one_by_one(sizes: torch.Tensor, batch_size: int, seed: int, num_epochs: int) -> list[list[int]]:
    """Deal image after image into two bins: what the vectorised order has to equal."""
    bins: dict[bool, list[int]] = {False: [], True: []}
    batches = []
    for epoch in range(num_epochs):
        for index in np.random.default_rng((seed, epoch, 1)).permutation(len(sizes)).tolist():
            bin_ = bins[bool(sizes[index, 0] > sizes[index, 1])]
            bin_.append(index)
            if len(bin_) == batch_size:
                batches.append(list(bin_))
                bin_.clear()
    return batches


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 5), st.integers(0, 200))
def test_grouped_order_equals_dealing_image_after_image(n: int, batch_size: int, seed: int, start: int) -> None:
    sizes = random_sizes(n, seed)
    num_epochs = 2 + 3 * batch_size
    expected = grouped_batches_one_by_one(sizes, batch_size, seed, num_epochs)
    sampler = train_sampler(sizes, batch_size=batch_size, seed=seed)
    assert indices_of([sampler.global_batch(step) for step in range(len(expected))]) == expected
    step = start % len(expected)
    assert indices_of([train_sampler(sizes, batch_size=batch_size, seed=seed).global_batch(step)]) == [expected[step]]


@pytest.mark.parametrize("aspect_grouping", [True, False])
def test_every_image_comes_once_an_epoch_up_to_the_carry(aspect_grouping: bool) -> None:
    sizes = random_sizes(101)
    batches = list(islice(train_sampler(sizes, aspect_grouping=aspect_grouping), 10 * 101 // 8))
    seen = Counter(index for batch in indices_of(batches) for index in batch)
    carry = 2 * (8 - 1)
    assert sum(abs(10 - seen[index]) for index in range(101)) <= carry


def test_without_grouping_epochs_are_permutations_one_after_the_other() -> None:
    keys = islice(train_sampler(random_sizes(12), aspect_grouping=False), 6)
    flat = [key.index for batch in keys for key in batch]
    for epoch in range(4):
        assert sorted(flat[epoch * 12 : (epoch + 1) * 12]) == list(range(12))
    assert flat[:12] != flat[12:24]


def test_batches_hold_one_orientation() -> None:
    sizes = random_sizes(50)
    for batch in islice(train_sampler(sizes), 40):
        assert len({bool(sizes[key.index, 0] > sizes[key.index, 1]) for key in batch}) == 1


def test_resuming_at_a_step_gives_the_tail() -> None:
    sizes = random_sizes(37)
    whole = list(islice(train_sampler(sizes, images_per_forward=4), 60))
    resumed = list(islice(train_sampler(sizes, images_per_forward=4, start_step=17), 26))
    assert resumed == whole[34:]


@pytest.mark.parametrize(("num_processes", "images_per_forward"), [(1, 4), (2, 4), (2, 2), (4, 1), (8, 1)])
def test_processes_and_micro_batches_share_out_the_global_batch(num_processes: int, images_per_forward: int) -> None:
    sizes = random_sizes(37)
    whole = list(islice(train_sampler(sizes), 5))
    steps: list[list[SampleKey]] = [[] for _ in whole]
    for rank in range(num_processes):
        sampler = train_sampler(sizes, rank=rank, num_processes=num_processes, images_per_forward=images_per_forward)
        stream = iter(sampler)
        for step in steps:
            for _ in range(sampler.num_micro_batches):
                micro_batch = next(stream)
                assert len(micro_batch) == images_per_forward
                step.extend(micro_batch)
    assert steps == whole  # with the same positions, short sides and padded shape


def test_position_counts_samples_since_step_0() -> None:
    batches = list(islice(train_sampler(random_sizes(20), start_step=5), 3))
    assert [key.position for batch in batches for key in batch] == list(range(40, 64))


def test_the_padded_shape_is_the_least_that_holds_the_whole_batch() -> None:
    sizes = random_sizes(30)
    for batch in islice(train_sampler(sizes), 20):
        resized = [resized_size(tuple(sizes[k.index].tolist()), k.short_side, 160) for k in batch]  # type: ignore[arg-type]
        height, width = (int(np.ceil(max(side) / 32) * 32) for side in zip(*resized, strict=True))
        assert {key.padded_size for key in batch} == {(height, width)}


def test_short_sides_are_drawn_evenly_and_depend_only_on_seed_and_position() -> None:
    sizes = random_sizes(30)
    keys = [key for batch in islice(train_sampler(sizes, batch_size=10), 60) for key in batch]
    other = [key for batch in islice(train_sampler(sizes[:7], batch_size=5), 120) for key in batch]
    assert [key.short_side for key in keys] == [key.short_side for key in other]
    assert min(Counter(key.short_side for key in keys).values()) > 160  # of 600 / 3 = 200
    assert [k.short_side for b in islice(train_sampler(sizes, seed=4, batch_size=10), 60) for k in b] != [
        key.short_side for key in keys
    ]


def test_samplers_keep_sizes_of_their_own() -> None:
    # Pickling a dataset for spawned workers moves its tensors elsewhere; a view of their old memory would be garbage.
    sizes = random_sizes(20)
    expected = list(islice(train_sampler(sizes), 4))
    sampler = train_sampler(sizes)
    sizes.zero_()
    assert list(islice(sampler, 4)) == expected


def test_entering_a_long_run_takes_well_under_a_second() -> None:
    import time

    sizes = random_sizes(118_000)
    start = time.process_time()  # not the clock: other processes may be busy
    sampler = train_sampler(sizes, batch_size=16, start_step=88_000)
    next(iter(sampler))
    assert time.process_time() - start < 1


def test_more_processes_than_the_batch_divides_into_is_an_error() -> None:
    with pytest.raises(UserError, match=r"data\.batch_size: 8 images cannot be shared equally by 3 processes"):
        train_sampler(random_sizes(4), num_processes=3)


def test_images_per_forward_must_divide_the_share_of_a_process() -> None:
    with pytest.raises(UserError, match=r"data\.images_per_forward: 8 does not divide the 4 images .* 2 process"):
        train_sampler(random_sizes(4), num_processes=2, images_per_forward=8)
    assert split_batch(16, 2, 2) == (2, 4)
    assert split_batch(16, "auto", 2) == (8, 1)


def test_an_empty_training_set_is_an_error() -> None:
    with pytest.raises(UserError, match=r"data\.train: the annotation file has no images"):
        train_sampler(torch.zeros(0, 2, dtype=torch.int64))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 60), st.integers(1, 7), st.integers(1, 3))
def test_evaluation_covers_every_image_exactly_once(n: int, batch_size: int, num_processes: int) -> None:
    sizes = random_sizes(n)
    shapes, seen = {}, []
    for rank in range(num_processes):
        sampler = EvalSampler(
            sizes,
            short_side=96,
            max_side=160,
            padding=Padding(32),
            batch_size=batch_size,
            rank=rank,
            num_processes=num_processes,
        )
        batches = list(sampler)
        assert batches == list(sampler)
        assert len(batches) == len(sampler)
        for batch in batches:
            assert 1 <= len(batch) <= batch_size
            for key in batch:
                seen.append(key.index)
                shapes[key.index] = key.padded_size
                size = resized_size(tuple(sizes[key.index].tolist()), 96, 160)  # type: ignore[arg-type]
                assert key.padded_size == batch[0].padded_size == Padding(32).padded([size])
    assert sorted(seen) == list(range(n))


def test_padding_rounds_up_to_the_multiple() -> None:
    assert Padding(32).padded([(33, 64), (1, 65)]) == (64, 96)
    assert Padding(1).padded([(33, 64)]) == (33, 64)


def test_padding_takes_the_smallest_fitting_bucket() -> None:
    padding = Padding(32, ((100, 100), (64, 128), (128, 64)))
    assert padding.padded([(60, 120)]) == (64, 128)
    assert padding.padded([(60, 60)]) == (64, 128)  # the first of equal area
    assert padding.padded([(70, 90)]) == (100, 100)


def test_no_fitting_bucket_is_an_error_that_names_sizes() -> None:
    padding = Padding(32, ((64, 128), (128, 64)))
    with pytest.raises(UserError, match=r"data\.buckets: 2 image\(s\) need a batch of 100x120 .* 64x128, 128x64"):
        padding.padded([(60, 120), (100, 60)])


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(1, 500)), min_size=1), st.integers(1, 64))
def test_a_padded_shape_pads_to_itself(sizes: list[tuple[int, int]], multiple: int) -> None:
    padding = Padding(multiple)
    padded = padding.padded(sizes)
    assert padding.padded([padded, *sizes]) == padded
