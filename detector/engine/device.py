"""Which device and which arithmetic a run uses."""

import platform
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, TypeVar

import torch
from torch import nn

from detector.errors import UserError

DeviceName = Literal["auto", "cpu", "cuda"]
PrecisionName = Literal["auto", "fp32", "bf16", "fp16"]
ResolvedPrecision = Literal["fp32", "bf16", "fp16"]

Network = TypeVar("Network", bound=nn.Module)

_AUTOCAST_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(name: DeviceName, local_rank: int = 0, num_local: int = 1) -> torch.device:
    """Return the device, ``auto`` decided.

    Args:
        name: of the configuration.
        local_rank: process on this machine; it takes the GPU of that number.
        num_local: processes on this machine.

    Raises:
        UserError: if CUDA is asked for and absent, or there are more processes than GPUs, which all of them then meet.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError("device: cuda was asked for, but torch finds no GPU; use device=cpu or device=auto")
    num_gpus, num_processes = torch.cuda.device_count(), max(num_local, local_rank + 1)
    if num_processes > num_gpus:
        raise UserError(
            f"device: {num_processes} processes on a machine with {num_gpus} GPU(s), and each takes one of its own; "
            f"start no more than that (torchrun --nproc-per-node {num_gpus}), or use device=cpu"
        )
    return torch.device("cuda", local_rank)


def resolve_precision(name: PrecisionName, device: torch.device) -> ResolvedPrecision:
    """Return the precision, ``auto`` decided: bf16 where the hardware computes in it natively, else fp32.

    Raises:
        UserError: if fp16 is asked for on a CPU.
    """
    if name == "fp16" and device.type == "cpu":
        raise UserError("precision: fp16 needs a GPU; use precision=bf16 or precision=fp32 on a CPU")
    if name != "auto":
        return name
    return "bf16" if _has_native_bf16(device) else "fp32"


def autocast(precision: ResolvedPrecision, device: torch.device) -> AbstractContextManager[None]:
    """Return the context in which the network runs."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=_AUTOCAST_TYPES[precision])


def compute_type(precision: ResolvedPrecision) -> torch.dtype:
    """Return the type that convolutions compute in."""
    return _AUTOCAST_TYPES.get(precision, torch.float32)


def place_for_training(model: Network, device: torch.device) -> Network:
    """Move a network to its device, in channels-last memory: what the fastest convolutions take on every device."""
    return model.to(device).to(memory_format=torch.channels_last)


def describe_device(device: torch.device) -> str:
    """Return the hardware's name and what there is of it."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    return f"{_cpu_name()}, {torch.get_num_threads()} threads"


def _has_native_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    flags = _cpu_info("flags", "Features").split()
    return any(flag in flags for flag in ("avx512_bf16", "amx_bf16", "bf16"))


def _cpu_name() -> str:
    return _cpu_info("model name") or platform.processor() or platform.machine()


def _cpu_info(*keys: str) -> str:
    """Return the first such entry of /proc/cpuinfo; empty where there is none (other systems than Linux)."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 (a kernel file, not a path of ours)
            for line in file:
                name, _, value = line.partition(":")
                if name.strip() in keys:
                    return value.strip()
    except OSError:
        pass
    return ""
