"""A step that is not finite moves nothing: weights, momentum, moving average, batch statistics, normaliser."""

import copy

import pytest
import torch
from torch import nn

from detector.config import OptimizerConfig
from detector.criterion import LossNormalizer
from detector.engine.ema import WeightAverage
from detector.engine.guard import MAX_IN_A_ROW, BatchNormSnapshot, NonfiniteGuard
from detector.engine.optimizer import build_optimizer, masked_step
from detector.errors import DivergedError

OK, NOT_OK = torch.tensor(True), torch.tensor(False)


def make_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)


def set_gradients(model: nn.Module, value: float | None = None) -> None:
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator) if value is None else None
        if value is not None:
            parameter.grad = torch.full_like(parameter, value)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("skip_first", [True, False])
def test_a_skipped_step_leaves_the_optimiser_as_if_it_had_not_been(name: str, skip_first: bool):
    config = OptimizerConfig(name=name, lr=0.1)
    models = make_model(), make_model()
    optimizers = [build_optimizer(config, model) for model in models]
    for round_idx in range(3):
        if (round_idx == 0) == skip_first:
            set_gradients(models[0], float("nan"))
            masked_step(optimizers[0], NOT_OK)
        for model, optimizer in zip(models, optimizers, strict=True):
            set_gradients(model)
            masked_step(optimizer, OK)
    for skipped, plain in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(skipped, plain, rtol=0, atol=0)
    states = [optimizer.state_dict()["state"] for optimizer in optimizers]
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)


def test_fused_sgd_makes_the_updates_of_plain_sgd():
    config = OptimizerConfig(name="sgd", lr=0.1, weight_decay=0.01)
    model, reference = make_model(), make_model()
    optimizer = build_optimizer(config, model)
    plain = torch.optim.SGD(reference.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01, foreach=False)
    for _ in range(4):
        for one in (model, reference):
            set_gradients(one)
        masked_step(optimizer, OK)
        plain.step()
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_layout_of_a_gradient_does_not_change_its_update():
    model, reference = make_model(), make_model()
    optimizers = [build_optimizer(OptimizerConfig(lr=0.1), one) for one in (model, reference)]
    for one in (model, reference):
        set_gradients(one)
    model[0].weight.grad = model[0].weight.grad.contiguous()
    reference[0].weight.grad = reference[0].weight.grad.contiguous(memory_format=torch.channels_last)
    for optimizer in optimizers:
        masked_step(optimizer, OK)
    torch.testing.assert_close(model[0].weight, reference[0].weight, rtol=0, atol=0)


def test_norm_and_bias_escape_weight_decay_only_by_option():
    model = make_model()
    groups = build_optimizer(OptimizerConfig(decay_norm_and_bias=False), model).param_groups
    assert [group["weight_decay"] for group in groups] == [1e-4, 0.0]
    assert [parameter.ndim for parameter in groups[1]["params"]] == [1, 1, 1]  # bias, norm weight, norm bias
    assert len(build_optimizer(OptimizerConfig(), model).param_groups) == 1


def test_the_average_follows_the_formula_and_ignores_skipped_steps():
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
    average = WeightAverage(model, decay=0.5)
    average.update(model, OK)
    expected = 1.0
    for step, value in enumerate((2.0, 5.0, 3.0), start=1):
        with torch.no_grad():
            model.weight.fill_(value)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
        average.update(model, OK)
    assert average.module.weight.item() == pytest.approx(expected)
    with torch.no_grad():
        model.weight.fill_(100.0)
    average.update(model, NOT_OK)
    assert average.module.weight.item() == pytest.approx(expected)


def test_the_average_survives_a_checkpoint():
    model = make_model()
    averages = [WeightAverage(model, decay=0.9) for _ in range(2)]
    for _ in range(3):
        set_gradients(model)
        with torch.no_grad():
            torch._foreach_add_(list(model.parameters()), [p.grad for p in model.parameters()])
        averages[0].update(model, OK)
    averages[1].load_state_dict(copy.deepcopy(averages[0].state_dict()))
    for average in averages:
        average.update(model, OK)
    torch.testing.assert_close(averages[0].state_dict(), averages[1].state_dict(), rtol=0, atol=0)


def test_batch_statistics_are_put_back_after_a_skipped_step():
    model = make_model()
    snapshot = BatchNormSnapshot(model)
    model(torch.randn(2, 3, 8, 8))
    before = copy.deepcopy(model.state_dict())
    snapshot.take()
    model(torch.full((2, 3, 8, 8), float("inf")))
    assert not model[1].running_mean.isfinite().all()
    snapshot.restore_unless(NOT_OK)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    snapshot.take()
    model(torch.randn(2, 3, 8, 8))
    moved = model[1].running_mean.clone()
    snapshot.restore_unless(OK)
    torch.testing.assert_close(model[1].running_mean, moved, rtol=0, atol=0)


def test_the_running_normaliser_moves_only_with_finite_steps():
    normalizer = LossNormalizer("ema")
    normalizer.update(torch.tensor(1000), 4, NOT_OK)
    assert float(normalizer.mean_foreground) == 50
    normalizer.update(torch.tensor(1000), 4, OK)
    assert float(normalizer.mean_foreground) == pytest.approx(0.9 * 50 + 0.1 * 250)
    # The normaliser of a step contains that step's own count, as in detectron2.
    assert float(normalizer(torch.tensor([1]), torch.tensor(40), 4)) == pytest.approx(4 * (0.9 * 70 + 0.1 * 10))


def test_the_guard_tells_one_step_late_and_names_the_images():
    guard = NonfiniteGuard()
    one = torch.tensor(1.0)
    ok, message = guard.watch(1, torch.tensor(float("nan")), one, [11, 12])
    assert not ok
    assert message is None
    ok, message = guard.watch(2, one, one, [13])
    assert ok
    assert message == ("step 1: the loss is not finite; the step was skipped and nothing moved. Image ids: [11, 12]")
    ok, _ = guard.watch(3, one, torch.tensor(float("inf")), [14])
    assert not ok
    assert "step 3: the gradient is not finite" in str(guard.read())
    assert guard.num_skipped == 2


def test_an_overflow_under_a_loss_scaler_is_skipped_but_not_counted():
    guard = NonfiniteGuard(ignore_gradients=True)
    ok, _ = guard.watch(1, torch.tensor(1.0), torch.tensor(float("inf")), [1])
    assert not ok
    assert guard.read() is None
    assert guard.num_skipped == 0


def test_overflows_under_a_loss_scaler_that_never_end_are_reported():
    guard = NonfiniteGuard(ignore_gradients=True)
    for step in range(1, MAX_IN_A_ROW + 1):
        guard.watch(step, torch.tensor(1.0), torch.tensor(float("inf")), [step])
    with pytest.raises(DivergedError, match="the gradient is not finite"):
        guard.read()


def test_too_many_skipped_steps_in_a_row_end_the_run():
    guard = NonfiniteGuard()
    nan = torch.tensor(float("nan"))
    for step in range(1, MAX_IN_A_ROW + 1):
        guard.watch(step, nan, nan, [step])
    with pytest.raises(DivergedError, match=rf"step {MAX_IN_A_ROW} in a row.*optimizer\.lr"):
        guard.read()
