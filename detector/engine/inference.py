"""A trained detector, from a checkpoint to detections on any image."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from detector.config import Config
from detector.config_io import load_config, load_config_text
from detector.data.collate import collate
from detector.data.padding import Padding
from detector.data.resize import resize_sample, resized_size
from detector.engine.checkpoint_content import load_trained
from detector.engine.device import PrecisionName, ResolvedPrecision, resolve_device, resolve_precision
from detector.engine.forward import forward, network_for_inference
from detector.engine.matcher import Matcher, build_matcher
from detector.engine.state import checkpoint_categories, load_model_weights
from detector.errors import UserError
from detector.models import RetinaNet, build_model
from detector.postprocess import build_postprocess
from detector.structures import Categories, Detections, Sample


@dataclass(frozen=True, slots=True)
class LoadedDetector:
    """A network with all that is needed to use it.

    Attributes:
        model: from :func:`detector.engine.forward.network_for_inference`, on the device.
        config: of its run.
        categories: its classes.
        step: optimiser steps that it was trained for.
        device: where it runs.
        precision: arithmetic of the network.
        matcher: its anchors.
    """

    model: RetinaNet
    config: Config
    categories: Categories
    step: int
    device: torch.device
    precision: ResolvedPrecision
    matcher: Matcher

    @torch.inference_mode()
    def detect(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Detections]:
        """Return the detections of some images.

        Args:
            images: [H, W, 3] uint8 RGB, of any sizes; those of one call share a forward pass and its padding.

        Returns:
            Detections on the CPU, one per image, in its own pixels.
        """
        if not images:
            return []
        data = self.config.data
        samples = []
        for image in images:
            size = (image.shape[0], image.shape[1])
            sample = Sample(
                image=image,
                boxes=np.zeros((0, 4), np.float32),
                labels=np.zeros(0, np.int64),
                ignore=np.zeros(0, np.bool_),
                image_id=0,
                original_size=size,
            )
            samples.append(resize_sample(sample, resized_size(size, self.config.eval_short_side, data.max_side)))
        sizes = [(sample.image.shape[0], sample.image.shape[1]) for sample in samples]
        padding = Padding(data.pad_multiple, data.buckets)
        batch = collate(samples, padding.padded(sizes)).to(self.device)
        outputs = forward(self.model, batch.images, batch.sizes, self.precision)
        postprocess = build_postprocess(self.config.eval, activation=self.config.model.head.activation)
        candidates = postprocess.select(outputs, self.matcher.anchors(batch.images)).to("cpu")
        return postprocess.detect(candidates, sizes, batch.original_sizes)


def load_detector(
    checkpoint: Path,
    *,
    config: Config | None = None,
    device: str = "auto",
    precision: str = "auto",
    weights: str | None = None,
) -> LoadedDetector:
    """Load a detector from a checkpoint.

    Args:
        checkpoint: file of a run.
        config: in place of the one in the checkpoint; the network must be the same.
        device: auto, cpu or cuda.
        precision: auto, fp32, bf16 or fp16.
        weights: "ema", "raw", or None for the average if the checkpoint has one.

    Raises:
        UserError: if the checkpoint or one of the values is wrong.
    """
    content = load_trained(checkpoint)
    config = config or load_config_text(content["config"], str(checkpoint))
    categories = checkpoint_categories(content)
    resolved_device = resolve_device(_one_of("device", device, ("auto", "cpu", "cuda")))
    name: PrecisionName = _one_of("precision", precision, ("auto", "fp32", "bf16", "fp16"))
    model = build_model(config.model, len(categories), load_weights=False)
    load_model_weights(model, choose_weights(content, weights, checkpoint), str(checkpoint))
    resolved_precision = resolve_precision(name, resolved_device)
    return LoadedDetector(
        model=network_for_inference(model, resolved_device, resolved_precision, config.convolution),
        config=config,
        categories=categories,
        step=content["step"],
        device=resolved_device,
        precision=resolved_precision,
        matcher=build_matcher(config),
    )


def resolve_config(checkpoint: Path, config: Path | None, overrides: Iterable[str]) -> Config:
    """Return a configuration file's content, or without one that of the checkpoint, with overrides."""
    if config is not None:
        return load_config(config, tuple(overrides))
    return load_config_text(load_trained(checkpoint)["config"], str(checkpoint), tuple(overrides))


def choose_weights(content: dict[str, Any], weights: str | None, checkpoint: Path) -> dict[str, torch.Tensor]:
    """Return a checkpoint's weights: "ema", "raw", or with None the average if it has one.

    Raises:
        UserError: the average is asked for and it has none.
    """
    if weights == "ema" and content["ema"] is None:
        raise UserError(f"--weights ema: {checkpoint} has no moving average of weights (ema.decay was off)")
    average = content["ema"]
    chosen: dict[str, torch.Tensor] = content["model"] if average is None or weights == "raw" else average["model"]
    return chosen


def _one_of(key: str, value: str, accepted: tuple[str, ...]) -> Any:
    if value not in accepted:
        raise UserError(f"{key}: expected one of {', '.join(accepted)}, found {value!r}")
    return value
