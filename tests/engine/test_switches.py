"""Training with each switch for speed gives the losses of training without any, on a CPU."""

from pathlib import Path
from typing import Final

import pytest

from detector.engine import compilation
from detector.engine.train import train
from tests.engine.tiny import read_rows, tiny_config

BASE: Final = ("data.batch_size=8", "data.buckets=[[96, 96]]", "schedule.max_steps=5", "eval.every=5",
               "eval.num_pictures=0", "convolution=direct")  # fmt: skip
LOSSES: Final = ("loss_cls_fg", "loss_cls_bg", "loss_box", "grad_norm")

EXACT: Final = 0.0
ROUNDING: Final = 1e-4
"""Of the same sums in another order, after 5 steps."""
WINOGRAD: Final = 1e-3
"""Of convolutions whose error is 2e-6 instead of 6e-7 of the result's norm, after 5 steps."""


def losses_of(folder: Path, *overrides: str) -> list[list[float]]:
    config, origins = tiny_config(folder, *BASE, *overrides)
    train(config, origins)
    return [[row[key] for key in LOSSES] for row in read_rows(Path(config.output_dir), "train")]


@pytest.mark.slow
def test_every_switch_gives_the_same_loss_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "BACKEND", "aot_eager")  # inductor's kernels take minutes
    plain = losses_of(tmp_path, f"output_dir={tmp_path}/plain")
    assert len(plain) == 5
    switches = {
        "convolution=winograd": WINOGRAD,
        "compile=model": ROUNDING,
        "compile=step": ROUNDING,
        "data.images_per_forward=2": ROUNDING,
        "loss.backend=eager": EXACT,
        "assign.backend=eager": EXACT,
        "data.cache=ram": EXACT,
        "data.num_workers=1": EXACT,
    }
    for number, (switch, tolerance) in enumerate(switches.items()):
        curve = losses_of(tmp_path, switch, f"output_dir={tmp_path}/{number}")
        for step, (actual, expected) in enumerate(zip(curve, plain, strict=True), start=1):
            assert actual == pytest.approx(expected, rel=tolerance, abs=0), f"{switch}, step {step}"
        if tolerance == WINOGRAD:
            assert curve != plain, "no convolution is large enough for it"
