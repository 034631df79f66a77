import numpy as np
import torch
from torch.testing import assert_close

from detector.data.collate import collate
from detector.structures import Sample, Size


def sample_of(size: Size, num_boxes: int, image_id: int) -> Sample:
    generator = np.random.default_rng(image_id)
    corners = generator.random((num_boxes, 2)) * 3
    return Sample(
        image=generator.integers(1, 256, (*size, 3), dtype=np.uint8),
        boxes=np.concatenate([corners, corners + 2], axis=1).astype(np.float32),
        labels=generator.integers(0, 5, num_boxes),
        ignore=np.arange(num_boxes) % 3 == 2,
        image_id=image_id,
        original_size=(size[0] * 2, size[1] * 2),
    )


def test_every_sample_comes_back_from_the_batch() -> None:
    samples = [sample_of((8, 6), 2, 10), sample_of((5, 9), 0, 11), sample_of((7, 7), 4, 12)]
    batch = collate(samples, (32, 64))
    assert batch.images.shape == (3, 32, 64, 3)
    assert batch.images.dtype == torch.uint8
    assert batch.sizes.tolist() == [[8, 6], [5, 9], [7, 7]]
    assert batch.image_ids == (10, 11, 12)
    assert batch.original_sizes == ((16, 12), (10, 18), (14, 14))
    for i, sample in enumerate(samples):
        h, w = sample.image.shape[:2]
        m = len(sample.boxes)
        assert_close(batch.images[i, :h, :w], torch.from_numpy(sample.image))
        assert_close(batch.gt_boxes[i, :m], torch.from_numpy(sample.boxes))
        assert_close(batch.gt_labels[i, :m], torch.from_numpy(sample.labels))
        assert_close(batch.gt_ignore[i, :m], torch.from_numpy(sample.ignore))
        assert_close(batch.gt_mask[i, :m], torch.from_numpy(~sample.ignore))


def test_padding_is_zero_and_masked() -> None:
    batch = collate([sample_of((8, 6), 2, 1), sample_of((5, 9), 4, 2)], (8, 9))
    assert torch.count_nonzero(batch.images[0, :, 6:]) == 0
    assert torch.count_nonzero(batch.images[1, 5:]) == 0
    for padded in (batch.gt_boxes[0, 2:], batch.gt_labels[0, 2:], batch.gt_mask[0, 2:], batch.gt_ignore[0, 2:]):
        assert torch.count_nonzero(padded) == 0


def test_a_batch_without_objects_has_one_masked_row() -> None:
    batch = collate([sample_of((8, 6), 0, 1)], (8, 6))
    assert batch.gt_boxes.shape == (1, 1, 4)
    assert not batch.gt_mask.any()
    assert not batch.gt_ignore.any()


def test_the_padded_shape_grows_only_where_an_image_does_not_fit() -> None:
    assert collate([sample_of((40, 6), 1, 1)], (32, 64)).images.shape == (1, 40, 64, 3)


def test_read_only_arrays_are_welcome() -> None:
    sample = sample_of((4, 4), 1, 1)
    for array in (sample.image, sample.boxes, sample.labels, sample.ignore):
        array.setflags(write=False)
    assert collate([sample], (4, 4)).sizes.tolist() == [[4, 4]]
