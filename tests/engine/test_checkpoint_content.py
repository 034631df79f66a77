"""A checkpoint of a stranger may hold anything: what is missing or odd is named."""

from pathlib import Path
from typing import Any

import pytest
import torch

from detector.engine.checkpoint import FORMAT, VERSION
from detector.engine.checkpoint_content import check_content, load_trained
from detector.errors import UserError


def content(**changes: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "step": 3,
        "config": "seed: 0",
        "categories": {"ids": [1, 7], "names": ["cat", "dog"]},
        "model": {"weight": torch.zeros(2)},
        "ema": {"model": {"weight": torch.zeros(2)}, "num_updates": 3},
        "optimizer": {"state": {}, "param_groups": [{"params": [0], "lr": 0.1}]},
        "scaler": None,
        "normalizer": {"mean_foreground": torch.tensor(50.0)},
        "best": {"ap": None, "step": 0},
    }
    return {key: value for key, value in (whole | changes).items() if value is not ...}


def test_a_whole_checkpoint_is_fine(tmp_path: Path) -> None:
    check_content(content(), "a.pt")
    check_content(content(ema=None, scaler={"scale": 2.0}, best={"ap": 0.5, "step": 2}), "a.pt")
    torch.save(content(optimizer=...), tmp_path / "a.pt")  # which a run that continues needs, and nobody else
    assert load_trained(tmp_path / "a.pt")["step"] == 3


@pytest.mark.parametrize(
    "key", ["step", "config", "categories", "model", "ema", "optimizer", "scaler", "normalizer", "best"]
)
def test_a_missing_part_is_named(key: str) -> None:
    with pytest.raises(UserError, match=rf"a\.pt: the checkpoint has no '{key}', expected"):
        check_content(content(**{key: ...}), "a.pt")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("step", -1),
        ("guard", 5),
        ("guard", {"num_skipped": 0}),
        ("provenance", {"data": {"train": {}}}),
        ("provenance", None),
        ("evaluation_due", 1),
        ("step", True),
        ("step", 1.5),
        ("config", None),
        ("categories", {"ids": [1], "names": []}),
        ("categories", {"ids": ["1"], "names": ["cat"]}),
        ("categories", {"ids": [1]}),
        ("categories", {"ids": [], "names": []}),
        ("model", None),
        ("model", {"weight": [1.0]}),
        ("ema", {}),
        ("ema", {"model": {}, "num_updates": "3"}),
        ("optimizer", {"state": {}}),
        ("optimizer", {"state": {}, "param_groups": [{}]}),
        ("scaler", "none"),
        ("normalizer", {"mean_foreground": 50.0}),
        ("best", {"ap": "high", "step": 0}),
        ("best", {"step": 0}),
    ],
)
def test_a_part_that_is_something_else_is_named(key: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"a\.pt: the checkpoint's '{key}' is \w+ .*, expected "):
        check_content(content(**{key: value}), "a.pt")
