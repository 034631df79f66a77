"""The machine that figures belong to."""

import os
import platform
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
import torchvision

from detector.engine.device import ResolvedPrecision, describe_device, resolve_precision


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a figure was measured on.

    Attributes:
        name: of the GPU or the processor.
        device: ``cpu`` or ``cuda``; decides which targets hold.
        description: name, and what there is of it.
        instructions: widest vectors that torch uses on this processor.
        has_native_bf16: whether the hardware computes in bf16 itself.
        cores: that this process may use.
        threads: that torch uses.
        versions: of Python, torch, torchvision, and of CUDA where there is a GPU.
    """

    name: str
    device: str
    description: str
    instructions: str
    has_native_bf16: bool
    cores: int
    threads: int
    versions: dict[str, str]

    @property
    def slug(self) -> str:
        """The name in letters that a file name may have."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")

    def to_json(self) -> dict[str, object]:
        """Return all of it as JSON has it."""
        return asdict(self)

    def __str__(self) -> str:
        bf16 = "native bf16" if self.has_native_bf16 else "no native bf16"
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"{self.description} ({self.cores} cores, {self.instructions}, {bf16}); {versions}"


def describe_hardware(device: torch.device) -> Hardware:
    """Return what there is of a device, as torch uses it now."""
    versions = {
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }
    if device.type == "cuda":
        versions["CUDA"] = str(torch.version.cuda)
    description = describe_device(device)
    return Hardware(
        name=description.rpartition(", ")[0],
        device=device.type,
        description=description,
        instructions=torch.backends.cpu.get_cpu_capability(),
        has_native_bf16=resolve_precision("auto", device) == "bf16",
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        versions=versions,
    )


def usable_precisions(names: Sequence[ResolvedPrecision], device: torch.device) -> list[ResolvedPrecision]:
    """Return those that the hardware computes in itself; print why others are left out.

    Emulated bf16 convolutions of a CPU take twenty times as long as fp32's, and say nothing about bf16.
    """
    usable: list[ResolvedPrecision] = []
    for name in dict.fromkeys(names):
        if reason := why_not(name, device):
            print(f"{name} is left out: {reason}")
        else:
            usable.append(name)
    return usable


def why_not(precision: ResolvedPrecision, device: torch.device) -> str:
    """Return why nothing is measured in a precision here; empty where it is."""
    if precision == "fp16" and device.type == "cpu":
        return "fp16 needs a GPU"
    if precision == "bf16" and resolve_precision("auto", device) != "bf16":
        return f"bf16 is not native on {describe_device(device).rpartition(', ')[0]}"
    return ""
