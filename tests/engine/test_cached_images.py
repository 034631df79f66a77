from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from detector.config import DataConfig, SplitConfig
from detector.data.dataset import DetectionDataset, open_coco_dataset
from detector.data.decode import ImageError
from detector.data.demo_set import make_demo_set
from detector.data.loader import build_train_loader
from detector.data.transforms import Transforms
from detector.engine.benchmark import host_memory
from detector.engine.cached_images import cache_images, check_cache_fits
from detector.errors import UserError
from tests.data.test_loader import AUGMENT, assert_same


@pytest.fixture
def dataset(tmp_path: Path) -> DetectionDataset:
    make_demo_set(tmp_path, num_train=6, num_val=1)
    return open_coco_dataset(tmp_path / "annotations" / "train.json", tmp_path / "train")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_are_the_same_with_and_without_a_cache_and_need_no_files(
    dataset: DetectionDataset, num_workers: int
) -> None:
    split = SplitConfig(annotations="a.json", images="images")
    data = DataConfig(train=split, val=split, short_side=(48, 64), max_side=96, batch_size=4, num_workers=num_workers)
    expected = list(islice(build_train_loader(data, dataset, Transforms(AUGMENT), seed=1), 5))
    cached = cache_images(dataset)
    for index in range(len(dataset)):
        dataset.image_path(index).unlink()
    for actual, same in zip(build_train_loader(data, cached, Transforms(AUGMENT), seed=1), expected, strict=False):
        assert_same(actual, same)


def test_a_cached_sample_may_be_changed(dataset: DetectionDataset) -> None:
    cached = cache_images(dataset)
    expected = cached[0].image.copy()
    cached[0].image[:] = 0
    np.testing.assert_array_equal(cached[0].image, expected)


def test_an_unreadable_image_still_fails_when_it_is_needed(dataset: DetectionDataset) -> None:
    dataset.image_path(2).write_bytes(b"no image")
    cached = cache_images(dataset)
    assert cached[1].image.any()
    with pytest.raises(ImageError, match="cannot decode the image"):
        cached[2]


def test_a_cache_that_does_not_fit_is_refused(dataset: DetectionDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_memory, "available_memory", lambda: 100_000)
    with pytest.raises(UserError, match=r"data\.cache: ram needs \d+\.\d GB .* are available.*use data\.cache=none"):
        check_cache_fits([dataset])
    monkeypatch.setattr(host_memory, "available_memory", lambda: None)
    check_cache_fits([dataset])
