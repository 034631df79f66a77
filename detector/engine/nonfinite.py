"""Write-ups of non-finite steps, ``nonfinite/step-NNNNNNNN`` of the run folder: a report and pictures of the batch."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import torch
from torch import Tensor

from detector.criterion import Criterion, Losses
from detector.data.dataset import DetectionDataset
from detector.drawing.boxes import draw_detections
from detector.engine.device import ResolvedPrecision
from detector.engine.matcher import Matcher
from detector.engine.nonfinite_search import MAX_NAMED, Findings, make_again
from detector.engine.processes import Processes
from detector.engine.run_folder import NONFINITE
from detector.engine.state import TrainState
from detector.structures import Batch

MAX_REPORTS: Final = 10
"""Write-ups from one start of a run; later steps are told in words only."""

MAX_PICTURES: Final = 8
"""Pictures from one process; its images with a loss that is not finite come first."""


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What a step was made of, kept on the device until its verdict is read.

    Attributes:
        step: number of the step, from 1.
        batches: micro-batches of this process.
        normalizers: of each of them.
        losses: of the whole step.
        grad_norm: 0-dim, likewise.
        lr: learning rate.
    """

    step: int
    batches: Sequence[Batch]
    normalizers: Sequence[Tensor]
    losses: Losses
    grad_norm: Tensor
    lr: float


class NonfiniteReporter:
    """Writes up non-finite steps: which images, boxes and losses, and the first module that is not finite.

    It makes the step's micro-batches again, with the weights as they are: before any later step has moved them.

    Args:
        output_dir: run folder.
        dataset: where image ids come from.
        state: network and loss scaler.
        matcher: anchors and targets.
        criterion: losses.
        precision: arithmetic of the network.
        processes: who shares the step; each looks at its own images, and the main one writes what all have found.
    """

    def __init__(
        self,
        output_dir: Path,
        dataset: DetectionDataset,
        state: TrainState,
        matcher: Matcher,
        criterion: Criterion,
        *,
        precision: ResolvedPrecision,
        processes: Processes,
    ) -> None:
        self._folder = output_dir / NONFINITE
        self._dataset = dataset
        self._state = state
        self._matcher = matcher
        self._criterion = criterion
        self._precision = precision
        self._processes = processes
        self._num_reports = 0

    def __call__(self, record: StepRecord, what: str) -> str:
        """Write up a step; all processes come here together.

        Args:
            record: of the step.
            what: is not finite, "loss" or "gradient".

        Returns:
            One sentence for the user: what was found and where it is written up. Trouble with the write-up is told in
            it too, as it must not end the run.
        """
        if self._num_reports >= MAX_REPORTS:
            return f"(no more than {MAX_REPORTS} steps are written up)"
        self._num_reports += 1
        try:
            own, pictures = self._look(record)
        except RuntimeError as error:  # no memory left for a second pass
            own, pictures = {"rank": self._processes.rank, "error": str(error)}, {}
        parts = self._processes.gather_all((own, pictures))
        reports = [report for report, _ in parts]
        folder = self._folder / f"step-{record.step:08d}"
        problem = ""
        if self._processes.is_main:
            try:
                _write(folder, _describe(record, what, self._precision, reports), [files for _, files in parts])
            except OSError as error:
                problem = f", but that could not be written: {error.strerror or error}"
        return f"{_sentence(reports)}; see {folder / 'report.json'}{problem}"

    def _look(self, record: StepRecord) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return the report of this process, and its pictures by name."""
        scaler = self._state.scaler
        images: list[dict[str, Any]] = []
        shown: list[tuple[bool, Batch, int]] = []
        findings = []
        for batch, normalizer in zip(record.batches, record.normalizers, strict=True):
            anchors, targets = self._matcher(batch)
            found = make_again(
                self._state.model,
                self._criterion,
                batch.images,
                batch.sizes,
                anchors,
                targets,
                normalizer,
                precision=self._precision,
                scale=1.0 if scaler is None else scaler.get_scale(),
            )
            findings.append(found)
            for idx, losses in enumerate(found.image_losses):
                images.append(self._describe_image(batch, idx) | {"losses": _readable(losses)})
                shown.append((all(map(math.isfinite, losses.values())), batch, idx))
        shown.sort(key=lambda entry: entry[0])
        pictures = {}
        for _, batch, idx in shown[:MAX_PICTURES]:
            pictures[f"image-{batch.image_ids[idx]}.jpg"] = self._draw(batch, idx)
        return _summary(self._processes.rank, findings) | {"images": images}, pictures

    def _describe_image(self, batch: Batch, idx: int) -> dict[str, Any]:
        table = self._dataset.table
        image_id = batch.image_ids[idx]
        row = int((torch.as_tensor(table.image_ids) == image_id).nonzero()[0])
        is_box = batch.gt_mask[idx] | batch.gt_ignore[idx]
        return {
            "image_id": image_id,
            "file": str(self._dataset.image_path(row)),
            "size": batch.sizes[idx].tolist(),
            "original_size": list(batch.original_sizes[idx]),
            "boxes": _readable(batch.gt_boxes[idx][is_box].tolist()),
            "classes": [self._dataset.categories.names[label] for label in batch.gt_labels[idx][is_box].tolist()],
            "is_ignored": batch.gt_ignore[idx][is_box].tolist(),
        }

    def _draw(self, batch: Batch, idx: int) -> bytes:
        """Return an image as the network sees it, with its boxes, as a JPEG file."""
        height, width = batch.sizes[idx].tolist()
        is_box = (batch.gt_mask[idx] | batch.gt_ignore[idx]).cpu()
        picture = draw_detections(
            batch.images[idx, :height, :width].cpu().numpy(),
            batch.gt_boxes[idx].cpu()[is_box],
            batch.gt_labels[idx].cpu()[is_box],
            None,
            self._dataset.categories.names,
            ignore=batch.gt_ignore[idx].cpu()[is_box],
        )
        return bytes(cv2.imencode(".jpg", picture[..., ::-1])[1])


def _summary(rank: int, findings: Sequence[Findings]) -> dict[str, Any]:
    """Return what the micro-batches of a process show together; the first that is not finite speaks for all."""
    worst = next((found for found in findings if not found.is_finite), findings[0])
    return {
        "rank": rank,
        "is_finite_when_made_again": worst.is_finite,
        "first_module": worst.first_module,
        "parameters_not_finite": worst.parameters[:MAX_NAMED],
        "gradients_not_finite": worst.gradients[:MAX_NAMED],
        "num_gradients_not_finite": len(worst.gradients),
        "levels": worst.levels,
    }


def _describe(
    record: StepRecord, what: str, precision: ResolvedPrecision, reports: list[dict[str, Any]]
) -> dict[str, Any]:
    losses = {name: float(getattr(record.losses, name)) for name in ("total", "loss_cls", "loss_box")}
    split = {name: float(getattr(record.losses, name)) for name in ("loss_cls_fg", "loss_cls_bg")}
    return {
        "step": record.step,
        "not_finite": what,
        "losses": _readable(losses | split),
        "grad_norm": _readable(float(record.grad_norm)),
        "lr": float(record.lr),
        "precision": precision,
        "processes": reports,
    }


def _sentence(reports: Sequence[dict[str, Any]]) -> str:
    """Return in words what was found, of the first process that has found something."""
    for report in reports:
        where = f" (process {report['rank']})" if len(reports) > 1 else ""
        if report.get("parameters_not_finite"):
            return f"The weights are not finite, first of all {report['parameters_not_finite'][0]}{where}"
        if report.get("first_module"):
            return f"The first module with an output that is not finite is {report['first_module']}{where}"
        if report.get("is_finite_when_made_again") is False:
            part = "the gradient" if report["num_gradients_not_finite"] else "the loss"
            return f"All outputs of the network are finite, but not {part}{where}"
    if (error := next((report["error"] for report in reports if "error" in report), None)) is not None:
        return f"Making the step again failed ({error.splitlines()[0]})"
    return "Made again, the same step is finite"


def _readable(value: Any) -> Any:
    """Return numbers for strict JSON, which has no word for NaN and the infinities: these as text."""
    match value:
        case dict():
            return {name: _readable(part) for name, part in value.items()}
        case list():
            return [_readable(part) for part in value]
        case float() if not math.isfinite(value):
            return str(value)
        case _:
            return value


def _write(folder: Path, report: dict[str, Any], pictures: Sequence[dict[str, bytes]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (entry for files in pictures for entry in files.items()):
        (folder / name).write_bytes(content)
    (folder / "report.json").write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
