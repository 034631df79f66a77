"""What a checkpoint keeps of the machine, and what is said where it is another one."""

from typing import Any

import pytest
import torch

from detector.engine.provenance import _driver_version, check_provenance, describe_driver

NOW: dict[str, Any] = {
    "data": {"train": {"sha256": "a", "images": 2, "boxes": 3}},
    "processes": 1, "hardware": "cpu", "driver": "none", "torch": "2.14", "libraries": "OpenCV 5.0",
}  # fmt: skip


def notes_of(before: dict[str, Any]) -> list[str]:
    return check_provenance(NOW, ("last.pt", {"provenance": before}), allow_changes=False)


@pytest.mark.parametrize(("key", "value"), [("libraries", "OpenCV 4.9"), ("driver", "driver 1"), ("processes", 2)])
def test_what_computes_otherwise_is_named(key: str, value: Any) -> None:
    (note,) = notes_of({**NOW, key: value})
    assert note == f"exact within rounding only, as what computes is another: {key} {value} -> {NOW[key]}"


def test_the_same_machine_and_older_checkpoints_have_no_note() -> None:
    assert notes_of(NOW) == []
    assert notes_of({key: NOW[key] for key in ("data", "processes", "hardware", "torch")}) == []


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024", "550.54.15"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  575.57.08  Release Build", "575.57.08"),
        ("", "unknown"),
    ],
)
def test_the_drivers_version_is_read_from_its_own_words(text: str, version: str) -> None:
    assert _driver_version(text) == version


def test_a_cpu_has_no_driver() -> None:
    assert describe_driver(torch.device("cpu")) == "none"
