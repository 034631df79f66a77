import pytest
import torch

from detector.config import ScheduleConfig
from detector.engine.schedule import Schedule, attach_schedule, build_schedule, is_due


def test_multistep_rises_linearly_and_falls_at_each_milestone():
    schedule = Schedule("multistep", max_steps=100, warmup_steps=10, warmup_factor=0.1, milestones=(50, 80))
    assert schedule.factor(0) == pytest.approx(0.1)
    assert schedule.factor(5) == pytest.approx(0.55)  # 0.1 + 0.9 * 5 / 10
    assert schedule.factor(10) == schedule.factor(49) == 1
    assert schedule.factor(50) == pytest.approx(0.1)
    assert schedule.factor(80) == pytest.approx(0.01)


def test_cosine_ends_at_its_smallest_factor():
    schedule = Schedule("cosine", max_steps=110, warmup_steps=10, min_factor=0.05)
    assert schedule.factor(10) == pytest.approx(1)
    assert schedule.factor(60) == pytest.approx(0.525)  # half-way between 1 and 0.05
    assert schedule.factor(110) == pytest.approx(0.05)


def test_epochs_become_steps_and_milestones_with_them():
    config = ScheduleConfig(epochs=12, milestones_epochs=(8, 11), warmup_steps=0)
    schedule, notes = build_schedule(config, num_images=118_287, batch_size=16)
    assert schedule.max_steps == 88_716  # ceil(12 * 118287 / 16)
    assert schedule.milestones == (59_144, 81_322)
    assert notes == []


def test_what_lies_beyond_a_short_run_is_dropped_with_a_note():
    config = ScheduleConfig(max_steps=50, warmup_steps=100, milestones=(40, 60, 80))
    schedule, notes = build_schedule(config, num_images=10, batch_size=2)
    assert schedule.warmup_steps == 0
    assert schedule.milestones == (40,)
    assert "milestones [60, 80]" in notes[0]
    assert "warm-up of 100 steps" in notes[1]


def test_a_resumed_scheduler_continues_with_the_same_rates_and_the_new_peak():
    schedule = Schedule("cosine", max_steps=20, warmup_steps=4)

    def rates(start: int) -> list[float]:
        parameter = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([parameter], lr=123.0)
        scheduler = attach_schedule(optimizer, schedule, 0.5, start)
        seen = []
        for _ in range(start, 20):
            seen.append(optimizer.param_groups[0]["lr"])
            parameter.grad = torch.zeros(1)
            optimizer.step()
            scheduler.step()
        return seen

    assert rates(7) == pytest.approx(rates(0)[7:])
    assert rates(0)[4] == pytest.approx(0.5)


def test_a_milestone_in_the_first_step_is_not_in_force_from_the_start():
    config = ScheduleConfig(epochs=2, milestones_epochs=(0.1,), warmup_steps=0)
    schedule, _ = build_schedule(config, num_images=12, batch_size=4)
    assert schedule.milestones == (1,)
    assert schedule.factor(0) == 1


def test_the_last_step_is_always_due():
    assert [step for step in range(1, 11) if is_due(step, 4, last_step=10)] == [4, 8, 10]
