import pytest
import torch
from torch.testing import assert_close

from detector.criterion import Criterion, LossNormalizer, NormalizerMode, ValidationLosses
from tests.criterion_cases import MODES, make_case, normalizer_by_hand, select_images, sums_by_hand


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


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rows", [[slice(0, 4)], [slice(0, 1), slice(1, 4)], [slice(i, i + 1) for i in range(4)]])
def test_validation_losses_do_not_depend_on_the_batches(mode: NormalizerMode, rows: list[slice]) -> None:
    outputs, targets, anchors = make_case()
    validation = ValidationLosses(Criterion(), mode)
    for part in rows:
        validation.add(*select_images(outputs, targets, part), anchors)
    mean = ValidationLosses.mean(validation.sums.detach())
    sums = sums_by_hand(outputs, targets, anchors, alpha=0.25, gamma=2.0, beta=0.0)
    divisors = normalizer_by_hand("image" if mode == "image" else "batch", [image[3] for image in sums])
    fg, bg, box = (sum(image[i] / d for image, d in zip(sums, divisors, strict=True)) for i in range(3))
    expected = {"loss": fg + bg + box, "loss_cls": fg + bg, "loss_box": box, "loss_cls_fg": fg, "loss_cls_bg": bg}
    assert_close(mean, expected, rtol=1e-6, atol=0)


def test_validation_losses_of_processes_add_up_and_one_may_have_seen_nothing() -> None:
    outputs, targets, anchors = make_case()
    whole, first, second = (ValidationLosses(Criterion(), "batch") for _ in range(3))
    whole.add(outputs, targets, anchors)
    first.add(outputs, targets, anchors)
    assert_close(ValidationLosses.mean(first.sums + second.sums), ValidationLosses.mean(whole.sums))
    assert set(ValidationLosses.mean(second.sums).values()) == {0.0}
