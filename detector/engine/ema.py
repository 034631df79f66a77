"""Moving average of the weights, by ``torch.optim.swa_utils``, with masked updates."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class WeightAverage:
    """Exponential moving average of a model's parameters; its buffers are copied.

    Args:
        model: what to average.
        decay: weight of the old average; early on (1 + n) / (10 + n) after n updates where that is less, so that a
            short run is not held back by its random start.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._ok: Tensor | None = None
        self._averaged = AveragedModel(model, multi_avg_fn=self._lerp)
        self._averaged.requires_grad_(False)

    @property
    def module(self) -> nn.Module:
        """The averaged model."""
        module: nn.Module = self._averaged.module
        return module

    def update(self, model: nn.Module, ok: Tensor) -> None:
        """Move towards the model's weights if ``ok`` (0-dim bool on the device) holds; the host does not read it."""
        self._ok = ok
        self._averaged.update_parameters(model)
        self._ok = None

    def state_dict(self) -> dict[str, object]:
        """Return the averaged weights and the number of updates."""
        return {"model": self.module.state_dict(), "num_updates": int(self._averaged.n_averaged)}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Take over the state of a checkpoint."""
        self.module.load_state_dict(state["model"])  # type: ignore[arg-type]
        self._averaged.n_averaged.fill_(int(state["num_updates"]))  # type: ignore[call-overload]

    def _lerp(self, averages: Sequence[Tensor], weights: Sequence[Tensor], num_updates: Tensor | int) -> None:
        assert self._ok is not None
        decay = torch.as_tensor((1 + num_updates) / (10 + num_updates)).clamp(max=self.decay)
        step = torch.where(self._ok, 1 - decay.to(self._ok.device), 0.0)
        difference = torch._foreach_sub(list(weights), list(averages))
        torch._foreach_mul_(difference, step)
        torch._foreach_add_(list(averages), difference)
