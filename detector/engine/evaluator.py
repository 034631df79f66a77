"""The evaluation loop: images to detections, validation losses and the COCO numbers."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from pycocotools.coco import COCO
from torch import Tensor, nn

from detector.config.model import NUM_LEVELS
from detector.criterion import Criterion, NormalizerMode, ValidationLosses
from detector.engine.device import ResolvedPrecision
from detector.engine.forward import forward
from detector.engine.late_detections import late_detections
from detector.engine.matcher import Matcher
from detector.engine.processes import Processes
from detector.evaluation.coco import CocoScores, score
from detector.evaluation.results import CocoResults, to_coco_results
from detector.evaluation.scorers import ResolvedScorer
from detector.postprocess import Postprocess
from detector.structures import Batch, Categories, Detections, HeadOutputs
from detector.telemetry.loss_profile import LossProfile
from detector.telemetry.loss_profiler import LossProfiler

Advance = Callable[[int], None]


class EvaluationStopped(Exception):  # noqa: N818 (it is no error)
    """An evaluation was given up on request, in all processes."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What evaluating a network on a dataset gives; :meth:`Evaluator.score` makes the COCO numbers of its results.

    Attributes:
        results: detections in COCO's terms: original category ids and pixels.
        losses: validation losses by the names of ``metrics.jsonl``.
        split: their split by level and class, likewise.
        profile: where the class loss comes from; None if it was not asked for.
        detections: of the images that pictures were asked for, by image id.
        num_images: images evaluated.
    """

    results: CocoResults
    losses: dict[str, float]
    split: dict[str, Any]
    profile: LossProfile | None
    detections: dict[int, Detections]
    num_images: int


class Evaluator:
    """Evaluates networks on one dataset.

    Args:
        loader: gives the images, each once over all processes.
        ground_truth: the annotation file as it is.
        categories: classes of the network.
        matcher: anchors, and targets for the validation loss.
        criterion: validation loss.
        normalizer: how training normalises.
        postprocess: outputs to detections.
        new_profiler: makes what adds up a loss profile.
        profiled_ids: images that a loss profile is made of.
        scorer: what computes the COCO numbers.
        precision: arithmetic of the network.
        device: where it runs.
        processes: who shares the work.
    """

    def __init__(
        self,
        loader: Iterable[Batch],
        ground_truth: COCO,
        categories: Categories,
        matcher: Matcher,
        criterion: Criterion,
        *,
        normalizer: NormalizerMode,
        postprocess: Postprocess,
        new_profiler: Callable[[], LossProfiler],
        profiled_ids: Iterable[int],
        scorer: ResolvedScorer,
        precision: ResolvedPrecision,
        device: torch.device,
        processes: Processes,
    ) -> None:
        self.loader = loader
        self.ground_truth = ground_truth
        self.categories = categories
        self.matcher = matcher
        self.criterion = criterion
        self.normalizer = normalizer
        self.postprocess = postprocess
        self.new_profiler = new_profiler
        self.profiled_ids = frozenset(profiled_ids)
        self.scorer = scorer
        self.precision = precision
        self.device = device
        self.processes = processes

    def __call__(
        self,
        model: nn.Module,
        *,
        picture_ids: Iterable[int] = (),
        with_profile: bool = False,
        advance: Advance | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Evaluation | None:
        """Evaluate a model, in evaluation mode and back.

        Args:
            model: RetinaNet on the device; :func:`detector.engine.forward.network_for_inference` makes a faster one.
            picture_ids: images whose detections are wanted.
            with_profile: whether the loss profile is wanted; the same in all processes.
            advance: told the number of images after each batch.
            should_stop: asked before each batch whether to give up.

        Returns:
            The result on the main process, None on the others.

        Raises:
            EvaluationStopped: a process was to give up.
        """
        losses = ValidationLosses(
            self.criterion, self.normalizer, num_classes=len(self.categories), num_levels=NUM_LEVELS
        )
        profiler = self.new_profiler() if with_profile else None
        was_training = model.training
        model.eval()
        try:
            results, pictures, num_images = self._run(model, losses, profiler, set(picture_ids), advance, should_stop)
        finally:
            model.train(was_training)
        if self.processes.any(should_stop()):
            raise EvaluationStopped
        sums = self.processes.sum(losses.sums.to(self.device))
        profile = None if profiler is None else profiler.finish(self.processes.sum(profiler.sums.to(self.device)))
        parts = self.processes.gather((results, pictures, num_images))
        if parts is None:
            return None
        return Evaluation(
            results=CocoResults.concatenate(part[0] for part in parts),
            losses=losses.mean(sums),
            split=losses.split(sums),
            profile=profile,
            detections={image_id: found for part in parts for image_id, found in part[1].items()},
            num_images=sum(part[2] for part in parts),
        )

    def score(self, results: CocoResults) -> CocoScores:
        """Return the 12 COCO numbers of detections, and those of each class."""
        return score(self.ground_truth, results, scorer=self.scorer)

    @torch.inference_mode()
    def _run(
        self,
        model: nn.Module,
        losses: ValidationLosses,
        profiler: LossProfiler | None,
        picture_ids: set[int],
        advance: Advance | None,
        should_stop: Callable[[], bool],
    ) -> tuple[CocoResults, dict[int, Detections], int]:
        results: list[CocoResults] = []
        pictures: dict[int, Detections] = {}
        num_images = 0
        outputs = self._outputs(model, losses, profiler, should_stop)
        for batch, detections in late_detections(outputs, self.postprocess):
            results.append(to_coco_results(batch.image_ids, detections, self.categories))
            pictures |= {i: one for i, one in zip(batch.image_ids, detections, strict=True) if i in picture_ids}
            num_images += len(detections)
            if advance is not None:
                advance(len(detections))
        return CocoResults.concatenate(results), pictures, num_images

    def _outputs(
        self,
        model: nn.Module,
        losses: ValidationLosses,
        profiler: LossProfiler | None,
        should_stop: Callable[[], bool],
    ) -> Iterator[tuple[Batch, HeadOutputs, Tensor]]:
        """Yield each batch, as it is on the host, with raw outputs and anchors, and add up its losses."""
        for host_batch in self.loader:
            if should_stop():
                break
            batch = host_batch.to(self.device)
            outputs = forward(model, batch.images, batch.sizes, self.precision)
            anchors, targets = self.matcher(batch)
            losses.add(outputs, targets, anchors, batch.gt_labels, batch.gt_mask)
            if profiler is not None:
                labels = targets.target_labels.split(outputs.anchors_per_level, dim=1)
                profiler.add(outputs.cls_logits, labels, [i in self.profiled_ids for i in host_batch.image_ids])
            yield host_batch, outputs, anchors
