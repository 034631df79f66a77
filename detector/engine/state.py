"""Everything of a run that changes while it trains, and therefore everything that a checkpoint holds."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from detector.criterion import LossNormalizer
from detector.engine.ema import WeightAverage
from detector.errors import UserError
from detector.models import RetinaNet
from detector.structures import Categories


@dataclass(slots=True)
class TrainState:
    """The moving parts of a run.

    Attributes:
        model: network, on its device.
        optimizer: with its momentum.
        normalizer: of the losses.
        ema: moving average of the weights, if the run has one.
        scaler: loss scaler, if the run computes in fp16.
        step: optimiser steps done.
        best_ap: highest AP so far; None before the first evaluation.
        best_step: where it was.
        is_initialised: whether the run began with the weights of another one.
        evaluation_due: whether the evaluation after ``step`` has not been made: a request to stop came before its end.
    """

    model: RetinaNet
    optimizer: Optimizer
    normalizer: LossNormalizer
    ema: WeightAverage | None = None
    scaler: torch.amp.GradScaler | None = None
    step: int = 0
    best_ap: float | None = None
    best_step: int = 0
    is_initialised: bool = False
    evaluation_due: bool = False

    @property
    def model_for_evaluation(self) -> RetinaNet:
        """The averaged model if there is one, else the model."""
        if self.ema is None:
            return self.model
        assert isinstance(self.ema.module, RetinaNet)
        return self.ema.module

    def record_best(self, ap: float, step: int) -> bool:
        """Keep the AP of an evaluation after ``step`` if it is the highest so far (the first on ties); say if it is."""
        if self.best_ap is not None and ap <= self.best_ap:
            return False
        self.best_ap, self.best_step = ap, step
        return True

    def to_checkpoint(self, config_yaml: str, categories: Categories) -> dict[str, Any]:
        """Return the content of a checkpoint: all of the above, the resolved configuration and the classes."""
        return {
            "step": self.step,
            "config": config_yaml,
            "categories": {"ids": list(categories.ids), "names": list(categories.names)},
            "model": self.model.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
            "normalizer": self.normalizer.state_dict(),
            "best": {"ap": self.best_ap, "step": self.best_step},
            "is_initialised": self.is_initialised,
            "evaluation_due": self.evaluation_due,
            "torch_version": str(torch.__version__),
        }

    def load_checkpoint(self, content: dict[str, Any], source: str, categories: Categories) -> None:
        """Continue from a checkpoint.

        Args:
            content: what :func:`detector.engine.checkpoint.load_checkpoint` returned.
            source: the file's name, for messages.
            categories: the classes of the data at hand.

        Raises:
            UserError: if classes, network or optimiser are not those of the checkpoint.
        """
        if (difference := _class_difference(checkpoint_categories(content), categories)) is not None:
            raise UserError(
                f"{source}: the checkpoint was trained on other classes: {difference}. To start a new run from its "
                f"weights, class by class by name, use --init-from {source}"
            )
        if (content["ema"] is None) != (self.ema is None):
            has, wants = ("no", "one") if content["ema"] is None else ("one", "none")
            raise UserError(f"{source}: the checkpoint has {has} moving average of weights, ema.decay asks for {wants}")
        load_model_weights(self.model, content["model"], source)
        _load_optimizer(self.optimizer, content["optimizer"], source)
        if self.ema is not None:
            self.ema.load_state_dict(content["ema"])
        if self.scaler is not None and content["scaler"] is not None:
            self.scaler.load_state_dict(content["scaler"])
        self.normalizer.load_state_dict(content["normalizer"])
        self.step = content["step"]
        self.best_ap, self.best_step = content["best"]["ap"], content["best"]["step"]
        self.is_initialised = content.get("is_initialised", False)  # older checkpoints lack it, and the next one
        self.evaluation_due = content.get("evaluation_due", False)


def _load_optimizer(optimizer: Optimizer, saved: dict[str, Any], source: str) -> None:
    """Take over momentum and the like; learning rate, decay and other options stay those of the configuration."""
    # An option is a key of the parameter groups; the schedule adds one to those that are saved.
    options = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    if {*saved["param_groups"][0]} - {"initial_lr"} != {*optimizer.param_groups[0]} - {"initial_lr"}:
        raise UserError(
            f"{source}: the checkpoint's optimiser is not the {type(optimizer).__name__} that optimizer.name asks for. "
            "To start from its weights with another optimiser use --init-from"
        )
    try:
        optimizer.load_state_dict(saved)
    except ValueError as error:
        raise UserError(f"{source}: the optimiser's state does not fit this configuration ({error})") from error
    for group, own in zip(optimizer.param_groups, options, strict=True):
        group.update(own)
    _align_layouts(optimizer)


def _align_layouts(optimizer: Optimizer) -> None:
    """Bring momentum to the memory layout of its parameter: the run may have had another one on other hardware.

    The fused updates walk both in the order of memory, see :func:`detector.engine.optimizer.masked_step`.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def checkpoint_categories(content: dict[str, Any]) -> Categories:
    """Return the classes that a checkpoint was trained on."""
    return Categories(tuple(content["categories"]["ids"]), tuple(content["categories"]["names"]))


def _class_difference(trained: Categories, found: Categories) -> str | None:
    """Say how the classes of the data differ from those of a checkpoint; None where they do not."""
    gone = [name for name in trained.names if name not in found.names]
    new = [name for name in found.names if name not in trained.names]
    if gone or new:
        sides = (("only in the checkpoint", gone), ("only in the data", new))
        return "; ".join(f"{side}: {', '.join(names)}" for side, names in sides if names)
    if trained.names != found.names:
        row = next(i for i, name in enumerate(trained.names) if name != found.names[i])
        ours, theirs = trained.names[row], found.names[row]
        return f"the same names in another order: class {row} is {ours!r} in the checkpoint and {theirs!r} in the data"
    rows = [i for i, own in enumerate(trained.ids) if own != found.ids[i]]
    if rows:
        row = rows[0]
        return (
            f"the same names with other ids ({len(rows)} differ): {trained.names[row]!r} is {trained.ids[row]} in the "
            f"checkpoint and {found.ids[row]} in the data"
        )
    return None


def load_model_weights(model: nn.Module, weights: dict[str, torch.Tensor], source: str) -> None:
    """Fill a model, exactly.

    Raises:
        UserError: if names or shapes differ.
    """
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if len(str(error).splitlines()) > 1 else str(error)
        raise UserError(f"{source}: the weights do not fit the network of this configuration: {first}") from error
