"""The optimiser, and an update that a flag on the device can turn off."""

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from detector.config import OptimizerConfig


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> Optimizer:
    """Return the optimiser of the trainable parameters.

    Fused: one kernel per step that also reads ``found_inf``, see :func:`masked_step`. SGD's momentum buffers are made
    here, as zeros: the fused update would leave them uninitialised if its very first step were masked, and with zeros
    the first step is the same.
    """
    groups = _parameter_groups(model, config.weight_decay, decay_norm_and_bias=config.decay_norm_and_bias)
    match config.name:
        case "sgd":
            optimizer: Optimizer = SGD(groups, lr=config.resolved_lr, momentum=config.momentum, fused=True)
            if config.momentum:
                for group in optimizer.param_groups:
                    for parameter in group["params"]:
                        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        case "adamw":
            optimizer = AdamW(groups, lr=config.resolved_lr, betas=config.betas, fused=True)
    return optimizer


def masked_step(optimizer: Optimizer, ok: Tensor) -> None:
    """Update the parameters if ``ok`` (0-dim bool on the device) holds; else leave them and the state as they are.

    The flag is not read by the host: fused optimisers skip the update in the kernel (the way ``GradScaler`` uses them).
    Gradients are brought to their parameter's memory layout where autograd has not done so: the fused CPU kernels of
    torch 2.15 walk both in memory order and would silently add the wrong elements.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None and not _same_layout(parameter.grad, parameter):
                parameter.grad = torch.empty_like(parameter).copy_(parameter.grad)
    optimizer.found_inf = (~ok).float()  # type: ignore[attr-defined]
    optimizer.step()


def _parameter_groups(model: nn.Module, weight_decay: float, *, decay_norm_and_bias: bool) -> list[dict[str, object]]:
    decayed: list[nn.Parameter] = []
    undecayed: list[nn.Parameter] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            # Biases and normalisation parameters are the vectors among the parameters.
            (decayed if decay_norm_and_bias or parameter.ndim > 1 else undecayed).append(parameter)
    groups: list[dict[str, object]] = [{"params": decayed, "weight_decay": weight_decay}]
    if undecayed:
        groups.append({"params": undecayed, "weight_decay": 0.0})
    return groups


def _same_layout(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors of one shape have their elements in the same order in memory."""
    return all(size == 1 or x == y for size, x, y in zip(a.shape, a.stride(), b.stride(), strict=True))
