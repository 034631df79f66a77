import logging
import os
import pickle
from itertools import islice
from multiprocessing import active_children
from typing import Any

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from detector.config import DataConfig, SplitConfig
from detector.data.batch_source import BatchSource, Loaded
from detector.data.buffers import BatchBuffers
from detector.data.loader import BatchLoader, build_eval_loader, build_train_loader
from detector.data.padding import Padding
from detector.data.repeat_factors import RepeatFactors
from detector.data.stages import StageClock, StageSeconds
from detector.data.transforms import Transforms
from detector.errors import UserError
from detector.structures import Batch, Sample

AUGMENT = (
    {"name": "HorizontalFlip", "p": 0.5},
    {"name": "RandomCrop", "height": 30, "width": 30, "p": 0.3},
    {"name": "GaussNoise", "p": 0.5},
)


class FakeDataset:
    """Images of noise, made on demand; some of them cannot be read."""

    def __init__(self, num_images: int = 23, unreadable: frozenset[int] = frozenset()) -> None:
        generator = torch.Generator().manual_seed(0)
        self.sizes = torch.randint(40, 100, (num_images, 2), generator=generator)
        self.unreadable = unreadable

    def __len__(self) -> int:
        return len(self.sizes)

    def read(self, index: int, clock: StageClock) -> Sample:
        if index in self.unreadable:
            raise UserError(f"image {index}.jpg: cannot be decoded")
        height, width = self.sizes[index].tolist()
        generator = np.random.default_rng(index)
        m = index % 4
        corners = generator.uniform(0, 20, (m, 2))
        return Sample(
            image=generator.integers(0, 256, (height, width, 3), dtype=np.uint8),
            boxes=np.concatenate([corners, corners + 15], axis=1).astype(np.float32),
            labels=np.arange(m, dtype=np.int64),
            ignore=np.arange(m) == 2,
            image_id=100 + index,
            original_size=(height, width),
        )


class BrokenDataset(FakeDataset):
    def read(self, index: int, clock: StageClock) -> Sample:
        raise UserError(f"images/{index}.jpg: not found\nexpected it in the folder images")


def config(**changes: Any) -> DataConfig:
    split = SplitConfig(annotations="a.json", images="images")
    arguments: dict[str, Any] = {"short_side": (48, 64), "max_side": 96, "batch_size": 4, "num_workers": 0}
    return DataConfig(train=split, val=split, **{**arguments, **changes})


def train_loader(data: DataConfig, dataset: FakeDataset, **changes: Any) -> BatchLoader:
    return build_train_loader(data, dataset, Transforms(AUGMENT), **{"seed": 7, **changes})


def assert_same(actual: Batch, expected: Batch) -> None:
    assert actual.image_ids == expected.image_ids
    assert actual.original_sizes == expected.original_sizes
    for name in ("images", "sizes", "gt_boxes", "gt_labels", "gt_mask", "gt_ignore"):
        assert_close(getattr(actual, name), getattr(expected, name), atol=0, rtol=0, msg=name)


def test_batches_are_bit_identical_for_any_number_of_workers() -> None:
    dataset = FakeDataset()
    expected = list(islice(train_loader(config(), dataset), 8))
    for num_workers in (1, 3):
        batches = list(islice(train_loader(config(num_workers=num_workers), dataset), 8))
        for actual, same in zip(batches, expected, strict=True):
            assert_same(actual, same)
    assert len({batch.image_ids for batch in expected}) > 1


def test_resuming_at_a_step_gives_the_tail_with_the_same_augmentation() -> None:
    whole = list(islice(train_loader(config(images_per_forward=2), FakeDataset()), 12))
    resumed = list(islice(train_loader(config(images_per_forward=2), FakeDataset(), start_step=4), 4))
    for actual, expected in zip(resumed, whole[8:], strict=True):
        assert_same(actual, expected)


def test_an_image_drawn_again_is_augmented_differently() -> None:
    flip = Transforms(({"name": "HorizontalFlip", "p": 0.5},))
    data = config(short_side=(48,), batch_size=1)
    batches = list(islice(build_train_loader(data, FakeDataset(num_images=1), flip, seed=0), 20))
    assert 5 <= sum(torch.equal(batch.images, batches[0].images) for batch in batches) <= 15


def test_processes_together_see_the_samples_of_the_global_batch() -> None:
    dataset, flip_only = FakeDataset(), Transforms(AUGMENT[:1])
    whole = list(islice(build_train_loader(config(), dataset, flip_only, seed=7), 5))
    parts = [
        list(islice(build_train_loader(config(), dataset, flip_only, seed=7, rank=rank, num_processes=2), 5))
        for rank in range(2)
    ]
    for batch, first, second in zip(whole, *parts, strict=True):
        assert first.image_ids + second.image_ids == batch.image_ids
        assert_close(torch.cat([first.images, second.images]), batch.images, atol=0, rtol=0)


def test_iterating_again_starts_again_even_after_reading_ahead() -> None:
    loader = train_loader(config(num_workers=1), FakeDataset())
    first = list(islice(loader, 3))
    for actual, expected in zip(islice(loader, 3), first, strict=True):
        assert_same(actual, expected)


def test_iterating_leaves_the_global_random_state_alone() -> None:
    state = torch.random.get_rng_state()
    next(iter(train_loader(config(), FakeDataset())))
    assert_close(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_evaluation_yields_every_image_once_without_augmentation(num_workers: int) -> None:
    dataset = FakeDataset()
    seen: dict[int, Batch] = {}
    for rank in range(2):
        loader = build_eval_loader(
            config(num_workers=num_workers), dataset, short_side=48, batch_size=3, rank=rank, num_processes=2
        )
        batches = list(loader)
        assert len(batches) == len(loader)
        for batch in batches:
            for i, image_id in enumerate(batch.image_ids):
                assert image_id not in seen
                seen[image_id] = batch
                height, width = dataset.sizes[image_id - 100].tolist()
                assert batch.original_sizes[i] == (height, width)
                assert min(batch.sizes[i].tolist()) == 48 or max(batch.sizes[i].tolist()) == 96
    assert sorted(seen) == list(range(100, 123))


def test_an_evaluation_image_is_the_same_for_any_batch_size() -> None:
    dataset = FakeDataset()
    for batch_size in (2, 5):
        for batch in build_eval_loader(config(), dataset, short_side=48, batch_size=batch_size):
            for i, image_id in enumerate(batch.image_ids):
                subset = FakeDataset()
                subset.sizes = dataset.sizes[: image_id - 99]
                alone = [b for b in build_eval_loader(config(), subset, short_side=48, batch_size=1)]
                single = next(b for b in alone if b.image_ids == (image_id,))
                assert_close(batch.images[i : i + 1], single.images, atol=0, rtol=0)
            break


def test_a_transform_that_changes_shapes_still_fits_the_batch() -> None:
    rotate = Transforms(({"name": "RandomRotate90", "p": 1},))
    for batch in islice(build_train_loader(config(), FakeDataset(), rotate, seed=0), 10):
        assert (batch.sizes <= torch.tensor(batch.images.shape[1:3])).all()
        assert all(side % 32 == 0 for side in batch.images.shape[1:3])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_error_of_the_user_arrives_with_its_plain_message(num_workers: int) -> None:
    loader = train_loader(config(num_workers=num_workers), BrokenDataset())
    with pytest.raises(UserError, match=r"^images/\d+\.jpg: not found\nexpected it in the folder images$"):
        next(iter(loader))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_unreadable_images_are_replaced_by_the_next_and_named_once(
    num_workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = FakeDataset(unreadable=frozenset({4, 5, 22}))
    loader = train_loader(config(num_workers=num_workers, on_unreadable="skip"), dataset)
    readable = train_loader(config(), FakeDataset())
    with caplog.at_level(logging.WARNING):
        batches = list(islice(loader, 15))
    replacement = {104: 106, 105: 106, 122: 100}
    for batch, expected in zip(batches, islice(readable, 15), strict=True):
        assert batch.image_ids == tuple(replacement.get(i, i) for i in expected.image_ids)
    assert sorted(record.message.partition(" (")[0] for record in caplog.records) == [
        f"skipped because of data.on_unreadable = skip: image {i}.jpg: cannot be decoded" for i in (22, 4, 5)
    ]


def test_a_folder_of_unreadable_images_stops_even_when_they_may_be_skipped() -> None:
    loader = train_loader(config(on_unreadable="skip"), BrokenDataset())
    with pytest.raises(UserError, match=r"data\.on_unreadable: 23 images in a row cannot be read, .* not found"):
        next(iter(loader))


def test_evaluation_never_skips_an_unreadable_image() -> None:
    dataset = FakeDataset(unreadable=frozenset({4}))
    with pytest.raises(UserError, match=r"image 4\.jpg: cannot be decoded"):
        list(build_eval_loader(config(on_unreadable="skip"), dataset, short_side=48, batch_size=2))


def test_an_image_larger_than_every_bucket_is_an_error() -> None:
    data = config(buckets=((32, 64), (64, 32)), aspect_grouping=True)
    with pytest.raises(UserError, match=r"data\.buckets: .* fits in none of the buckets 32x64, 64x32"):
        next(iter(train_loader(data, FakeDataset())))


def test_the_batch_must_divide_among_processes() -> None:
    with pytest.raises(UserError, match=r"data\.batch_size: 4 images cannot be shared equally by 3 processes"):
        train_loader(config(), FakeDataset(), num_processes=3)


def test_spawned_workers_give_the_same_batches() -> None:
    # Spawned workers unpickle what forked ones inherit, and pickling moves the dataset's tensors to shared memory.
    dataset = FakeDataset()
    expected = list(islice(train_loader(config(), dataset), 4))
    loader = train_loader(config(num_workers=1), FakeDataset())
    loader._loader.multiprocessing_context = torch.multiprocessing.get_context("forkserver")
    for actual, same in zip(islice(loader, 4), expected, strict=True):
        assert_same(actual, same)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_batches_in_use_are_never_written_to_again(num_workers: int) -> None:
    # More than there are slots, so some come in memory of their own.
    held = list(islice(train_loader(config(num_workers=num_workers), FakeDataset()), 12))
    for batch, expected in zip(held, train_loader(config(), FakeDataset()), strict=False):
        assert_same(batch, expected)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_that_are_let_go_leave_their_memory_to_later_ones(num_workers: int) -> None:
    loader = train_loader(config(num_workers=num_workers), FakeDataset())
    addresses = [batch.images.data_ptr() for batch in islice(loader, 30)]
    assert len(set(addresses)) <= loader.buffers.num_free + num_workers * 2


def test_evaluating_again_gives_the_same_batches_and_keeps_no_memory_in_between() -> None:
    before = {*active_children()}
    loader = build_eval_loader(config(num_workers=2), FakeDataset(), short_side=48, batch_size=3)
    first = []
    for batch in loader:
        first.append(batch.images.clone())
        del batch
    assert os.fstat(loader.buffers._fd).st_blocks == 0
    assert {*active_children()} <= before  # nor any process
    next(iter(loader))  # a pass that is given up
    for actual, expected in zip(loader, first, strict=True):
        assert_close(actual.images, expected, atol=0, rtol=0)


def test_the_seconds_of_all_stages_come_with_a_batch() -> None:
    loader = train_loader(config(), FakeDataset())
    loaded = next(iter(loader._loader))
    assert loaded.seconds.read == loaded.seconds.decode == 0  # this dataset reads nothing
    assert loaded.seconds.augment > 0
    assert loaded.seconds.resize > 0


def test_a_loader_adds_up_the_seconds_since_they_were_last_taken() -> None:
    loader = train_loader(config(), FakeDataset())
    assert loader.take_seconds() == StageSeconds()
    list(islice(loader, 3))
    taken = loader.take_seconds()
    assert taken.augment > 0
    assert taken.resize > 0
    assert loader.take_seconds() == StageSeconds()


def test_what_workers_get_can_be_pickled() -> None:
    source = BatchSource(FakeDataset(), Padding(32), 96, Transforms(AUGMENT), 7, "skip", buffers=BatchBuffers(1, 8))
    assert isinstance(pickle.loads(pickle.dumps(source)), BatchSource)
    loaded = Loaded(None, "message", ("note",), StageSeconds())
    assert pickle.loads(pickle.dumps(loaded)) == loaded


def test_a_training_loader_has_no_length() -> None:
    with pytest.raises(TypeError):
        len(train_loader(config(), FakeDataset()))


def test_repeat_factors_and_their_threshold_go_together() -> None:
    repeats = RepeatFactors(np.full(23, 2.0), np.ones(2), np.ones(2, dtype=np.int64), 46)
    for data, given in ((config(), repeats), (config(repeat_thresh=0.1), None)):
        with pytest.raises(ValueError, match=r"data\.repeat_thresh is (None|0\.1), but repeats is "):
            train_loader(data, FakeDataset(), repeats=given)
    loader = train_loader(
        config(repeat_thresh=0.1, aspect_grouping=False, batch_size=46), FakeDataset(), repeats=repeats
    )
    ids = next(iter(loader)).image_ids
    assert sorted(ids) == sorted([*range(100, 123)] * 2)
