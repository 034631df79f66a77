import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torchvision.ops import FrozenBatchNorm2d as TorchvisionFrozenBatchNorm2d

from detector.models.norm import FrozenBatchNorm2d, group_norm, make_norm_layer


def random_state(channels: int = 6) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    names = ("weight", "bias", "running_mean")
    state = {name: torch.randn(channels, generator=generator) for name in names}
    return state | {"running_var": torch.rand(channels, generator=generator) + 0.1}


def make_frozen(state: dict[str, torch.Tensor]) -> FrozenBatchNorm2d:
    frozen = FrozenBatchNorm2d(len(state["weight"]))
    frozen.load_state_dict(state)
    return frozen


def test_frozen_batch_norm_equals_torchvision_in_value_and_gradient() -> None:
    state = random_state()
    ours, theirs = make_frozen(state), TorchvisionFrozenBatchNorm2d(6)
    theirs.load_state_dict(state)
    x = torch.randn(2, 6, 5, 4, generator=torch.Generator().manual_seed(1), requires_grad=True)
    actual, expected = ours(x), theirs(x)
    assert_close(actual, expected, atol=1e-5, rtol=1e-5)
    (gradient,), (expected_gradient,) = (torch.autograd.grad(y.square().sum(), x) for y in (actual, expected))
    assert_close(gradient, expected_gradient, atol=1e-4, rtol=1e-5)


def test_frozen_batch_norm_never_changes_and_has_nothing_to_train() -> None:
    state = random_state()
    frozen = make_frozen(state).train()
    frozen(torch.randn(4, 6, 3, 3))
    assert not list(frozen.parameters())
    assert_close(frozen.state_dict(), state, atol=0, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_frozen_batch_norm_keeps_half_types_while_it_computes_in_float32(dtype: torch.dtype) -> None:
    frozen = make_frozen(random_state())
    x = torch.randn(2, 6, 5, 4, generator=torch.Generator().manual_seed(1)).to(dtype)
    y = frozen(x)
    assert y.dtype == dtype
    assert_close(y, frozen(x.float()).to(dtype), atol=0, rtol=0)


def test_frozen_batch_norm_keeps_channels_last_memory() -> None:
    x = torch.randn(2, 6, 5, 4).to(memory_format=torch.channels_last)
    assert make_frozen(random_state())(x).is_contiguous(memory_format=torch.channels_last)


def test_frozen_batch_norm_takes_the_weights_of_a_batch_norm() -> None:
    batch_norm = nn.BatchNorm2d(6).eval()
    batch_norm.load_state_dict(random_state(), strict=False)
    frozen = FrozenBatchNorm2d(6)
    incompatible = frozen.load_state_dict(batch_norm.state_dict(), strict=False)
    assert incompatible.missing_keys == []
    assert incompatible.unexpected_keys == ["num_batches_tracked"]
    x = torch.randn(2, 6, 3, 3)
    assert_close(frozen(x), batch_norm(x), atol=0, rtol=0)


@pytest.mark.parametrize(
    ("channels", "num_groups"), [(256, 32), (64, 32), (48, 24), (32, 16), (8, 4), (34, 17), (9, 3), (7, 1), (1, 1)]
)
def test_group_norm_takes_as_many_of_32_groups_as_divide_the_channels(channels: int, num_groups: int) -> None:
    assert group_norm(channels).num_groups == num_groups


def test_group_norm_of_few_channels_takes_a_level_of_one_cell() -> None:
    assert group_norm(32)(torch.randn(1, 32, 1, 1)).isfinite().all()


@pytest.mark.parametrize(
    ("name", "kind"),
    [("frozen", FrozenBatchNorm2d), ("batch", nn.BatchNorm2d), ("sync", nn.SyncBatchNorm), ("group", nn.GroupNorm)],
)
def test_every_name_makes_its_layer(name, kind) -> None:  # type: ignore[no-untyped-def]
    assert type(make_norm_layer(name)(16)) is kind
