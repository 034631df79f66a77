"""Moving average of the weights, with masked updates.

By hand, because ``torch.optim.swa_utils.AveragedModel`` makes the host wait for the GPU in every update: its counter is
read on the GPU or copied to it.
"""

import copy

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of a model's parameters; its buffers are copied.

    Args:
        model: what to average.
        decay: weight of the old average; early on (1 + n) / (10 + n) after n updates where that is less, so that a
            short run is not held back by its random start.

    Attributes:
        module: the averaged model.
        num_updates: updates so far, skipped ones too.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.module = copy.deepcopy(model).requires_grad_(False)
        self.num_updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module, ok: Tensor) -> None:
        """Move towards the model's weights if ``ok`` (0-dim bool on the device) holds; the host does not read it."""
        averages: list[Tensor] = list(self.module.parameters())
        weights: list[Tensor] = list(model.parameters())
        if self.num_updates == 0:
            torch._foreach_copy_(averages, weights)  # a skipped step has not moved them either
        else:
            decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
            step = torch.where(ok, 1 - decay, 0.0)
            difference = list(torch._foreach_sub(weights, averages))
            torch._foreach_mul_(difference, step)
            torch._foreach_add_(averages, difference)
        for average, buffer in zip(self.module.buffers(), model.buffers(), strict=True):
            average.copy_(buffer)
        self.num_updates += 1

    def state_dict(self) -> dict[str, object]:
        """Return the averaged weights and the number of updates."""
        return {"model": self.module.state_dict(), "num_updates": self.num_updates}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Take over the state of a checkpoint."""
        self.module.load_state_dict(state["model"])  # type: ignore[arg-type]
        self.num_updates = int(state["num_updates"])  # type: ignore[call-overload]
