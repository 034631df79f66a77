"""Adding up the loss of every anchor, for several gammas, in memory that does not grow with the images.

Letters: N images, L levels, Rl anchors of a level, K classes, C logits per anchor: K, or K + 1 with softmax
(background last); G gammas.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from detector.config import ClsLossConfig
from detector.criterion import ClassLoss, build_class_loss
from detector.ops.precision import at_least_float32
from detector.structures import BACKGROUND
from detector.telemetry.loss_profile import NUM_LOSS_BINS, NUM_P_BINS, LossProfile, loss_edges, num_sums, p_edges

BoolArray = npt.NDArray[np.bool_]

GAMMAS: Final = (0.0, 0.5, 1.0, 2.0)
"""The gammas of the paper's Figure 4; the run's own is added."""

NUM_PROFILE_IMAGES = 100
"""Images that a profile is made of: on COCO they have the 1e7 background anchors of the paper."""

CHUNK_LOGITS = 2**22
"""Logits whose loss and gradient are computed at once: 16 MiB for each intermediate result, whatever the image."""


class LossProfiler:
    """Adds up what a :class:`LossProfile` is made of, over the batches of an evaluation.

    The network is not touched: gradients are those by the logits, computed on copies.

    Args:
        class_losses: the focal loss with each gamma.
        run_gamma: of the network's own loss; None if it has none.
    """

    def __init__(self, class_losses: Mapping[float, ClassLoss], *, run_gamma: float | None = None) -> None:
        self.class_losses = dict(sorted(class_losses.items()))
        self.run_gamma = run_gamma
        num_gammas = len(self.class_losses)
        self._loss_edges = torch.from_numpy(loss_edges())
        self._p_edges = torch.from_numpy(p_edges())[1:-1]
        self._num_images = 0
        # On the host: adding by index is in no fixed order on a GPU, and repeated runs shall give the same bits.
        self._p_t = np.zeros((2, NUM_P_BINS))
        self._gradients = np.zeros((num_gammas, 2))
        self._counts = np.zeros((num_gammas, 2, NUM_LOSS_BINS))
        self._losses = np.zeros((num_gammas, 2, NUM_LOSS_BINS))

    def add(
        self, cls_logits: Sequence[Tensor], target_labels: Sequence[Tensor], chosen: Sequence[bool] | None = None
    ) -> None:
        """Add some images; also inside ``torch.inference_mode``.

        Args:
            cls_logits: L tensors [N, Rl, C] of any floating type.
            target_labels: L tensors [N, Rl] int64: 0 ... K-1, ``BACKGROUND``, or another negative number: not counted.
            chosen: [N] the images of the batch to be added; None for all.
        """
        image_idxs = [idx for idx in range(len(cls_logits[0])) if chosen is None or chosen[idx]]
        for logits, labels in zip(cls_logits, target_labels, strict=True):
            rows = max(1, CHUNK_LOGITS // logits.shape[-1])
            for idx in image_idxs:
                for chunk, chunk_labels in zip(logits[idx].split(rows), labels[idx].split(rows), strict=True):
                    self._add_chunk(chunk, chunk_labels)
        self._num_images += len(image_idxs)

    @property
    def sums(self) -> Tensor:
        """[num_sums(G)] float64 so far, on the host, to be added over processes."""
        parts = (self._p_t, self._gradients, self._counts, self._losses)
        return torch.from_numpy(np.concatenate([[float(self._num_images)], *(part.ravel() for part in parts)]))

    def finish(self, sums: Tensor) -> LossProfile:
        """Return the profile of (added) sums.

        Raises:
            ValueError: they are not those of a profiler with these gammas.
        """
        expected = num_sums(len(self.class_losses))
        if sums.shape != (expected,):
            raise ValueError(f"expected [{expected}] sums for {len(self.class_losses)} gammas, got {list(sums.shape)}")
        return LossProfile.from_sums(sums, tuple(self.class_losses), self.run_gamma)

    def _add_chunk(self, cls_logits: Tensor, target_labels: Tensor) -> None:
        """Add the anchors of one level of one image, or a part of them: [R, C] and [R]."""
        # Autograd keeps no tensor made in inference mode; a copy made outside it is an ordinary tensor.
        with torch.inference_mode(False), torch.enable_grad():
            logits = at_least_float32(cls_logits.clone()).detach().requires_grad_()
            labels = target_labels.clone()
            host_labels = labels.cpu().numpy()
            splits = (host_labels >= 0, host_labels == BACKGROUND)
            for idx, class_loss in enumerate(self.class_losses.values()):
                anchor_loss = class_loss.per_anchor(logits[None], labels[None], None)[0]
                (gradient,) = torch.autograd.grad(anchor_loss.sum(), logits)
                self._add_losses(idx, splits, anchor_loss.detach().double(), gradient.abs().sum(dim=-1))
            self._add_p_t(logits.detach(), labels, splits)

    def _add_losses(self, idx: int, splits: tuple[BoolArray, ...], anchor_loss: Tensor, gradient: Tensor) -> None:
        # What is NaN falls into the last bin, with what is too large.
        bins = torch.bucketize(anchor_loss, self._loss_edges.to(anchor_loss.device), right=True).cpu().numpy()
        losses, gradients = anchor_loss.cpu().numpy(), gradient.double().cpu().numpy()
        for split_idx, of_split in enumerate(splits):
            chosen = bins[of_split]
            self._counts[idx, split_idx] += np.bincount(chosen, minlength=NUM_LOSS_BINS)
            self._losses[idx, split_idx] += np.bincount(chosen, losses[of_split], minlength=NUM_LOSS_BINS)
            self._gradients[idx, split_idx] += gradients[of_split].sum()

    def _add_p_t(self, cls_logits: Tensor, target_labels: Tensor, splits: tuple[BoolArray, ...]) -> None:
        class_loss = next(iter(self.class_losses.values()))  # gamma changes no probability
        probabilities = class_loss.probabilities(cls_logits)
        own = probabilities.gather(-1, target_labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        p_t = torch.where(target_labels >= 0, own, 1.0 - probabilities.amax(dim=-1)).double().cpu()
        bins = torch.bucketize(p_t, self._p_edges, right=True).numpy()
        for split_idx, of_split in enumerate(splits):
            self._p_t[split_idx] += np.bincount(bins[of_split], minlength=NUM_P_BINS)


def profiled_indices(num_images: int, *, num_profiled: int = NUM_PROFILE_IMAGES) -> list[int]:
    """Return which images of a dataset to profile: at most ``num_profiled``, evenly spread, rising.

    They follow from the dataset alone, so batch size and number of processes change no profile.
    """
    num_profiled = min(num_profiled, num_images)
    return [idx * num_images // num_profiled for idx in range(num_profiled)]


def build_loss_profiler(config: ClsLossConfig, num_classes: int, *, gammas: Iterable[float] = GAMMAS) -> LossProfiler:
    """Return the profiler for a network that was trained with some class loss.

    What is profiled is the focal loss on the network's outputs, sigmoid or softmax as the network's; its alpha is that
    of the network's loss, where that has one in the focal loss's sense.

    Args:
        config: the class loss of the network.
        num_classes: K.
        gammas: to which that of the network's loss is added.

    Raises:
        UserError: if ``alpha`` is a list that does not fit the classes.
    """
    run_gamma = _run_gamma(config)
    name = "softmax_focal" if config.activation == "softmax" else "sigmoid_focal"
    # Varifocal loss weighs the terms of no class with its alpha, and the object's with its IoU.
    alpha = config.alpha if "alpha" in config.acting_keys and config.name != "varifocal" else None
    every = {*gammas} if run_gamma is None else {*gammas, run_gamma}
    losses = {
        gamma: build_class_loss(config.model_copy(update={"name": name, "alpha": alpha, "gamma": gamma}), num_classes)
        for gamma in every
    }
    return LossProfiler(losses, run_gamma=run_gamma)


def _run_gamma(config: ClsLossConfig) -> float | None:
    """Return the exponent that makes the focal loss the loss of the network, or come nearest to it."""
    match config.name:
        case "sigmoid_focal" | "softmax_focal" | "quality_focal" | "varifocal":
            return config.gamma
        case "sigmoid_ce" | "softmax_ce" | "ohem":
            return 0.0
        case "focal_star":
            return None
