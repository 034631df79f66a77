import pytest
import torch
from torch.testing import assert_close

from detector.criterion import LossNormalizer, NormalizerMode
from tests.criterion.cases import MODES, normalizer_by_hand


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("counts", [[3, 0, 5], [0, 0]])
def test_normalizer_equals_its_definition_and_is_at_least_one(mode: NormalizerMode, counts: list[int]) -> None:
    num_foreground = torch.tensor(counts)
    normalizer = LossNormalizer(mode)(num_foreground, num_foreground.sum(), len(counts))
    expected = torch.tensor(normalizer_by_hand(mode, counts), dtype=torch.float32)
    assert_close(normalizer.expand(len(counts)), expected)
    assert (normalizer >= 1).all()


def test_running_mean_moves_by_a_tenth_and_only_with_good_steps() -> None:
    normalizer = LossNormalizer("ema")
    counts = torch.tensor([30, 50])  # 40 per image
    first = normalizer(counts, counts.sum(), 2)
    assert_close(first, torch.tensor(2 * (0.9 * 50 + 0.1 * 40)))
    assert_close(normalizer(counts, counts.sum(), 2), first, atol=0, rtol=0)  # asking moves nothing
    normalizer.update(counts.sum(), 2, ok=torch.tensor(False))
    assert_close(normalizer(counts, counts.sum(), 2), first, atol=0, rtol=0)
    normalizer.update(counts.sum(), 2, ok=torch.tensor(True))
    assert_close(normalizer.mean_foreground, torch.tensor(49.0))
    assert_close(normalizer(counts, counts.sum(), 2), torch.tensor(2 * (0.9 * 49 + 0.1 * 40)))


def test_running_mean_survives_a_checkpoint_bit_by_bit() -> None:
    normalizer = LossNormalizer("ema")
    normalizer.update(torch.tensor(77), 3, ok=torch.tensor(True))
    resumed = LossNormalizer("ema")
    resumed.load_state_dict(normalizer.state_dict())
    assert_close(resumed.mean_foreground, normalizer.mean_foreground, atol=0, rtol=0)
    normalizer.update(torch.tensor(7), 3, ok=torch.tensor(True))  # the copy has a life of its own
    assert resumed.mean_foreground != normalizer.mean_foreground
