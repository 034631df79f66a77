import pytest
import torch
import torch.nn.functional as F

from detector.ops.fast_convolutions import MIN_CHANNELS, FastConvolutions
from detector.ops.winograd import num_tiles, transform_weight, winograd_conv2d

SIZES = [(1, 1), (4, 4), (5, 9), (13, 22), (40, 3)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradients_are_those_of_the_direct_convolution(
    size: tuple[int, int], memory_format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 5, *size, dtype=torch.float64).contiguous(memory_format=memory_format).requires_grad_()
    weight = torch.randn(7, 5, 3, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(7, dtype=torch.float64, requires_grad=True)
    expected = F.conv2d(x, weight, bias, padding=1)
    upstream = torch.randn_like(expected)
    found = winograd_conv2d(x, transform_weight(weight), bias)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert found.is_contiguous(memory_format=torch.channels_last)
    for own, reference in zip(
        torch.autograd.grad(found, (x, weight, bias), upstream),
        torch.autograd.grad(expected, (x, weight, bias), upstream),
        strict=True,
    ):
        torch.testing.assert_close(own, reference, rtol=1e-11, atol=1e-11)


def test_many_parts_make_the_same_result_as_one() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 4, 130, 61, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    expected = F.conv2d(x, weight, padding=1)
    found = winograd_conv2d(x, transform_weight(weight))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(found.square().sum(), (x, weight)),
        torch.autograd.grad(expected.square().sum(), (x, weight)),
        rtol=1e-10,
        atol=1e-10,
    )


def test_only_the_gradients_that_are_wanted_are_computed() -> None:
    x, weight = torch.randn(1, 4, 8, 8), torch.randn(4, 4, 3, 3, requires_grad=True)
    winograd_conv2d(x, transform_weight(weight)).sum().backward()
    assert weight.grad is not None
    frozen = transform_weight(weight.detach())
    x.requires_grad_()
    winograd_conv2d(x, frozen).sum().backward()
    assert x.grad is not None
    assert not winograd_conv2d(x.detach(), frozen).requires_grad


def test_rounding_in_float32_stays_below_a_few_millionths() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 256, 16, 16).relu(), torch.randn(256, 256, 3, 3) * 0.02
    exact = F.conv2d(x.double(), weight.double(), padding=1)
    error = (winograd_conv2d(x, transform_weight(weight)) - exact).norm() / exact.norm()
    assert error < 4e-6


def test_the_number_of_threads_changes_no_bit() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 64, 88, 61, requires_grad=True), torch.randn(72, 64, 3, 3, requires_grad=True)
    num_threads = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            y = winograd_conv2d(x, transform_weight(weight))
            results.append((y.detach(), *torch.autograd.grad(y.square().sum(), (x, weight))))
    finally:
        torch.set_num_threads(num_threads)
    for others in results[1:]:
        torch.testing.assert_close(others, results[0], rtol=0, atol=0)


def test_tiles_cover_the_outputs() -> None:
    assert num_tiles(2, 8, 9) == 2 * 2 * 3


def make_network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(MIN_CHANNELS, MIN_CHANNELS, 3, padding=1)
    return torch.nn.Sequential(conv, torch.nn.ReLU(inplace=True), conv)


def count_transforms(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    transformed: list[int] = []

    def counting(weight: torch.Tensor) -> torch.Tensor:
        transformed.append(id(weight))
        return transform_weight(weight)

    monkeypatch.setattr("detector.ops.fast_convolutions.transform_weight", counting)
    return transformed


def test_weights_that_serve_several_inputs_are_transformed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    transformed = count_transforms(monkeypatch)
    network = make_network()
    levels = [torch.randn(2, MIN_CHANNELS, size, size) for size in (64, 32)]
    expected = [network(level) for level in levels]
    with FastConvolutions():
        found = [network(level) for level in levels]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert len(transformed) == 1


def test_weights_used_without_gradients_first_get_theirs_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    transformed = count_transforms(monkeypatch)
    network, x = make_network(), torch.randn(1, MIN_CHANNELS, 64, 64)
    with FastConvolutions():
        with torch.no_grad():
            network(x)
        network(x).sum().backward()
    assert len(transformed) == 2
    assert network[0].weight.grad is not None


@pytest.mark.parametrize(
    ("channels", "size", "options"),
    [
        (MIN_CHANNELS // 2, 64, {"padding": 1}),
        (MIN_CHANNELS, 8, {"padding": 1}),
        (MIN_CHANNELS, 32, {"padding": 1}),
        (256, 20, {"padding": 1}),
        (MIN_CHANNELS, 64, {"padding": 0}),
        (MIN_CHANNELS, 64, {"padding": 1, "stride": 2}),
        (MIN_CHANNELS, 64, {"padding": 2, "dilation": 2}),
        (MIN_CHANNELS, 64, {"padding": 1, "groups": 2}),
        (MIN_CHANNELS, 64, {"padding": "same"}),
    ],
)
def test_convolutions_of_another_kind_stay_as_they_are(
    monkeypatch: pytest.MonkeyPatch, channels: int, size: int, options: dict[str, object]
) -> None:
    transformed = count_transforms(monkeypatch)
    conv = torch.nn.Conv2d(channels, channels, 3, **options)  # type: ignore[arg-type]
    x = torch.randn(1, channels, size, size)
    with FastConvolutions():
        found = conv(x)
    assert torch.equal(found, conv(x))
    assert not transformed
