import pytest
import torch
from torch.testing import assert_close

from detector.data.normalize import IMAGENET_MEAN, IMAGENET_STD, normalize_images


def images_and_sizes() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 16, 24, 3), generator=generator, dtype=torch.uint8)
    return images, torch.tensor([[16, 24], [5, 24], [16, 1]])


def test_inside_of_the_image_equals_the_formula() -> None:
    images, sizes = images_and_sizes()
    normalized = normalize_images(images, sizes)
    expected = (images.double() / 255 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    for i, (h, w) in enumerate(sizes.tolist()):
        assert_close(normalized[i, :, :h, :w].double(), expected[i, :h, :w].permute(2, 0, 1), atol=1e-6, rtol=0)


def test_outside_of_the_image_is_exactly_zero_whatever_the_pixels_are() -> None:
    images, sizes = images_and_sizes()
    normalized = normalize_images(images, sizes)
    for i, (h, w) in enumerate(sizes.tolist()):
        assert torch.count_nonzero(normalized[i, :, h:]) == 0
        assert torch.count_nonzero(normalized[i, :, :, w:]) == 0
        assert torch.count_nonzero(normalized[i, :, :h, :w]) == 3 * h * w


def test_output_is_float32_nchw_in_channels_last_memory() -> None:
    normalized = normalize_images(*images_and_sizes())
    assert normalized.shape == (3, 3, 16, 24)
    assert normalized.dtype == torch.float32
    assert normalized.is_contiguous(memory_format=torch.channels_last)


def test_meta_tensors_give_a_meta_tensor() -> None:
    images, sizes = images_and_sizes()
    assert normalize_images(images.to("meta"), sizes.to("meta")).device.type == "meta"


def test_input_is_left_alone() -> None:
    images, sizes = images_and_sizes()
    before = images.clone()
    normalize_images(images, sizes)
    assert_close(images, before, atol=0, rtol=0)


@pytest.mark.gpu
def test_on_the_device_it_equals_the_host_without_waiting() -> None:
    images, sizes = images_and_sizes()
    on_device = images.cuda(), sizes.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        normalized = normalize_images(*on_device)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert normalized.is_contiguous(memory_format=torch.channels_last)
    assert_close(normalized.cpu(), normalize_images(images, sizes), atol=1e-6, rtol=0)
