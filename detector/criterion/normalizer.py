"""What the losses are divided by.

Letters: N images.
"""

from typing import Literal

import torch
from torch import Tensor

NormalizerMode = Literal["batch", "image", "ema"]


class LossNormalizer:
    """What the losses of a step are divided by, from the foreground anchors of all its images.

    - ``batch``: foreground anchors of the whole step, at least 1.
    - ``image``: number of images x max(1, the image's own foreground anchors), i.e. the mean over images of
      sum / foreground (Lin et al. 2017, Sec. 4.1; torchvision).
    - ``ema``: running mean (momentum 0.9, start 50 per image) of the foreground anchors per image x images; detectron2
      does so per GPU and loses the state on resume, here it is part of the checkpoint.

    Args:
        mode: one of the three.
    """

    MOMENTUM = 0.9
    START = 50.0

    def __init__(self, mode: NormalizerMode = "batch") -> None:
        self.mode = mode
        self.mean_foreground = torch.tensor(self.START)

    def __call__(self, num_foreground: Tensor, total_foreground: Tensor, num_images: int) -> Tensor:
        """Return the normaliser of a step.

        Args:
            num_foreground: [N] foreground anchors of the images at hand.
            total_foreground: scalar, foreground anchors of all images of the step, over all processes and
                micro-batches.
            num_images: images of the step, likewise.

        Returns:
            Scalar, or [N] for ``image``; float32, at least 1.
        """
        match self.mode:
            case "batch":
                return total_foreground.clamp(min=1).float()
            case "image":
                return num_foreground.clamp(min=1).float() * num_images
            case "ema":
                return (self._next_mean(total_foreground, num_images) * num_images).clamp(min=1)

    def update(self, total_foreground: Tensor, num_images: int, ok: Tensor) -> None:
        """Keep the running mean of this step if ``ok`` (0-dim bool on the device) holds; without reading it."""
        if self.mode == "ema":
            mean = self._next_mean(total_foreground, num_images)
            self.mean_foreground = torch.where(ok, mean, self.mean_foreground.to(mean.device))

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state that a checkpoint keeps."""
        return {"mean_foreground": self.mean_foreground.cpu()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over the state of a checkpoint."""
        self.mean_foreground = state["mean_foreground"].clone()

    def _next_mean(self, total_foreground: Tensor, num_images: int) -> Tensor:
        mean = self.mean_foreground.to(total_foreground.device)
        return self.MOMENTUM * mean + (1 - self.MOMENTUM) * total_foreground.float() / num_images
