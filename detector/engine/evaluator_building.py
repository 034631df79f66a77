"""The evaluator that a configuration describes, and whether a dataset has the network's classes."""

from functools import partial
from pathlib import Path

import torch
from pycocotools.coco import COCO

from detector.config import Config
from detector.criterion import build_criterion
from detector.data.dataset import DetectionDataset
from detector.data.loader import build_eval_loader
from detector.data.samplers import split_batch
from detector.engine.device import ResolvedPrecision
from detector.engine.evaluator import Evaluator
from detector.engine.matcher import build_matcher
from detector.engine.processes import Processes
from detector.errors import UserError
from detector.evaluation.scorers import resolve_scorer
from detector.postprocess import build_postprocess
from detector.structures import Categories
from detector.telemetry.loss_profiler import build_loss_profiler, profiled_indices


def build_evaluator(
    config: Config,
    dataset: DetectionDataset,
    ground_truth: COCO,
    categories: Categories,
    *,
    precision: ResolvedPrecision,
    device: torch.device,
    processes: Processes,
) -> Evaluator:
    """Return the evaluator of a dataset that a configuration describes.

    Raises:
        UserError: if dataset and network have different classes.
    """
    check_categories(dataset.categories, categories, dataset.table.path)
    data = config.data
    if config.eval.batch_size is not None:
        batch_size = config.eval.batch_size
    else:
        batch_size, _ = split_batch(data.batch_size, data.images_per_forward, processes.num_processes)
    loader = build_eval_loader(
        data,
        dataset,
        short_side=config.eval_short_side,
        batch_size=batch_size,
        rank=processes.rank,
        num_processes=processes.num_processes,
        pin_memory=device.type == "cuda",
    )
    return Evaluator(
        loader,
        ground_truth,
        categories,
        build_matcher(config),
        build_criterion(config.loss, len(categories), device),
        normalizer=config.loss.normalizer,
        postprocess=build_postprocess(config.eval, activation=config.model.head.activation),
        new_profiler=partial(build_loss_profiler, config.loss.cls, len(categories)),
        scorer=resolve_scorer(config.eval.scorer),
        profiled_ids=[int(dataset.table.image_ids[idx]) for idx in profiled_indices(len(dataset))],
        precision=precision,
        device=device,
        processes=processes,
    )


def check_categories(found: Categories, expected: Categories, annotations: Path) -> None:
    """See that the annotations of a file have the network's classes.

    Raises:
        UserError: if they differ, naming the first difference.
    """
    if found == expected:
        return
    ours = dict(zip(expected.ids, expected.names, strict=True))
    theirs = dict(zip(found.ids, found.names, strict=True))
    differing = [i for i in sorted({*ours, *theirs}) if ours.get(i) != theirs.get(i)]
    first = differing[0]
    raise UserError(
        f"{annotations}: other classes than those of the network to be evaluated ({len(differing)} differ): category "
        f"id {first} is {_quoted(theirs.get(first))} there and {_quoted(ours.get(first))} in the network"
    )


def _quoted(name: str | None) -> str:
    return "missing" if name is None else repr(name)
