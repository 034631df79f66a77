"""The cumulative loss of a trained detector: Figure 4 of the focal loss paper, of one's own checkpoint."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from detector.data.dataset import DetectionDataset
from detector.data.loader import build_eval_loader
from detector.data.opening import open_val
from detector.data.stages import StageClock
from detector.drawing.plots import save_figure
from detector.engine.evaluate import Progress, no_progress, validation_overrides
from detector.engine.evaluator import Advance
from detector.engine.evaluator_building import check_categories
from detector.engine.forward import forward
from detector.engine.inference import LoadedDetector, load_detector, resolve_config
from detector.errors import UserError
from detector.evaluation.json_files import check_writable, write_atomically
from detector.structures import Sample
from detector.telemetry.loss_profile import HARDEST, SPLITS, LossProfile
from detector.telemetry.loss_profile_figures import draw_loss_profile
from detector.telemetry.loss_profiler import (
    GAMMAS,
    NUM_PROFILE_IMAGES,
    LossProfiler,
    build_loss_profiler,
    profiled_indices,
)

FIGURE_FILES: Final = {"cumulative_loss": "loss_cdf.png", "p_t": "p_t.png"}
PROFILE_FILE: Final = "loss_profile.json"


def loss_cdf(
    checkpoint: Path,
    *,
    annotations: Path | None = None,
    images: Path | None = None,
    overrides: Iterable[str] = (),
    weights: str | None = None,
    gammas: Iterable[float] = GAMMAS,
    num_images: int = NUM_PROFILE_IMAGES,
    output: Path = Path(),
    progress: Progress | None = None,
) -> LossProfile:
    """Profile the focal loss of a checkpoint and write the figures and the numbers.

    Args:
        checkpoint: file of a run.
        annotations: COCO file in place of the configuration's ``data.val.annotations``.
        images: folder in place of ``data.val.images``.
        overrides: ``key=value`` for the configuration.
        weights: "ema" or "raw"; None = ema if the checkpoint has it.
        gammas: exponents to profile, >= 0; that of the run is added.
        num_images: at most so many, evenly spread over the annotation file.
        output: folder, made if missing, for ``loss_cdf.png``, ``p_t.png`` and ``loss_profile.json``.
        progress: shows how far it is, such as :meth:`detector.telemetry.RunConsole.progress`.

    Raises:
        UserError: if anything the user gave is wrong.
    """
    _prepare(output)
    config = resolve_config(checkpoint, None, [*overrides, *validation_overrides(annotations, images)])
    detector = load_detector(
        checkpoint, config=config, device=config.device, precision=config.precision, weights=weights
    )
    dataset = open_val(config.data, detector.categories).dataset
    check_categories(dataset.categories, detector.categories, dataset.table.path)
    profiler = build_loss_profiler(config.loss.cls, len(detector.categories), gammas=gammas)
    chosen = Subset(dataset, profiled_indices(len(dataset), num_profiled=num_images))
    with (progress or no_progress)("profiling", len(chosen)) as advance:
        _profile(detector, chosen, profiler, advance)
    profile = profiler.finish(profiler.sums)
    for name, figure in draw_loss_profile(profile).items():
        save_figure(figure, output / FIGURE_FILES[name])
    write_atomically(output / PROFILE_FILE, [json.dumps(profile.to_json(), allow_nan=False, indent=2), "\n"])
    return profile


def format_loss_profile(profile: LossProfile) -> str:
    """Return shares of the loss as a table for a terminal; several lines without a newline at the end."""
    hardest = [(split, fraction) for split in SPLITS for fraction in HARDEST[split]]
    upper = ["", "foreground's", "foreground's", *("hardest" for _ in hardest)]
    lower = [
        "gamma",
        "share of loss",
        "of gradient",
        *(f"{100 * fraction:g}% of {split[0]}g" for split, fraction in hardest),
    ]
    rows = [upper, lower]
    for gamma in profile.gammas:
        shares = [profile.foreground_loss_share(gamma), profile.foreground_gradient_share(gamma)]
        shares += [profile.hardest_share(gamma, split, fraction) for split, fraction in hardest]
        rows.append([f"{gamma:g}{' *' if gamma == profile.run_gamma else ''}", *map(_percent, shares)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.append(
        f"{profile.num_anchors('foreground'):,} foreground (fg) and {profile.num_anchors('background'):,} background "
        f"(bg) anchors of {profile.num_images} images"
        + ("" if profile.run_gamma is None else "; *: the gamma it was trained with")
    )
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Subset:
    """Some images of a dataset; see :class:`detector.data.batch_source.ImageDataset`.

    Attributes:
        dataset: the whole.
        indices: of its images.
    """

    dataset: DetectionDataset
    indices: list[int]

    @property
    def sizes(self) -> Tensor:
        """[I, 2] int64, annotated (height, width) of the images in pixels."""
        return self.dataset.sizes[self.indices]

    def __len__(self) -> int:
        """I, the number of images."""
        return len(self.indices)

    def read(self, index: int, clock: StageClock) -> Sample:
        """Read image ``index`` in [0, I)."""
        return self.dataset.read(self.indices[index], clock)


@torch.inference_mode()
def _profile(detector: LoadedDetector, dataset: Subset, profiler: LossProfiler, advance: Advance) -> None:
    config = detector.config
    loader = build_eval_loader(
        config.data,
        dataset,
        short_side=config.eval_short_side,
        batch_size=config.eval.batch_size or 1,
        pin_memory=detector.device.type == "cuda",
    )
    for host_batch in loader:
        batch = host_batch.to(detector.device)
        outputs = forward(detector.model, batch.images, batch.sizes, detector.precision)
        _, targets = detector.matcher(batch)
        profiler.add(outputs.cls_logits, targets.target_labels.split(outputs.anchors_per_level, dim=1))
        advance(len(host_batch.image_ids))


def _prepare(output: Path) -> None:
    """Make the folder, and see before the work starts that its files can be written."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {output}: cannot be made a folder: {error.strerror}") from error
    for name in (*FIGURE_FILES.values(), PROFILE_FILE):
        check_writable(output / name)


def _percent(share: float) -> str:
    return f"{share:.2%}" if math.isfinite(share) else "-"
