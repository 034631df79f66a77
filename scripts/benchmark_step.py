"""One training step of ours against torchvision's RetinaNet, in one process, alternating.

    python scripts/benchmark_step.py                                 # R50, 2 x 3 x 512 x 512, fp32 and bf16
    python scripts/benchmark_step.py --precisions fp32 --size 256 256 --repeats 5 --json step.json

Both train the same network (ResNet-50 with frozen batch norm, stem and first stage frozen, FPN, 80 classes) on the same
images and boxes with SGD; a step is everything from uint8 or float images to updated weights. torchvision's step holds
its resize and normalisation (at scale 1), ours the normalisation.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision
from torch import nn
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.detection.retinanet import RetinaNet
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from detector.anchors import AnchorGenerator
from detector.config import BackboneConfig, ModelConfig, OptimizerConfig
from detector.criterion import Criterion, LossNormalizer
from detector.engine.device import autocast, describe_device, place_for_training, resolve_device
from detector.engine.matcher import Matcher
from detector.engine.optimizer import build_optimizer
from detector.engine.state import TrainState
from detector.engine.step import Stepper
from detector.models import build_model
from detector.structures import Batch

NUM_CLASSES = 80
NUM_BOXES = 10
LR = 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--size", type=int, nargs=2, default=(512, 512), metavar=("H", "W"))
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16", "fp16"])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--ours-only", action="store_true", help="leave torchvision out")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    args = parser.parse_args()
    torch.manual_seed(0)
    device = resolve_device(args.device)
    batch = _make_batch(args.batch, tuple(args.size)).to(device)

    steps: dict[str, Callable[[], None]] = {}
    for precision in args.precisions:
        steps[f"ours {precision}"] = _our_step(batch, precision, device)
        if not args.ours_only:
            steps[f"torchvision {precision}"] = _torchvision_step(batch, precision, device)
    seconds = _measure(steps, args.warmup, args.repeats, device)

    print(f"{describe_device(device)}; torch {torch.__version__}; {args.batch} x 3 x {args.size[0]} x {args.size[1]}")
    reference = seconds.get("torchvision fp32")
    figures = {}
    for name, value in seconds.items():
        ratio = value / reference if reference else float("nan")
        figures[name] = {"seconds": value, "images_per_second": args.batch / value, "of_torchvision_fp32": ratio}
        print(f"{name:<18} {value:8.4f} s  {args.batch / value:7.2f} images/s  {ratio:5.2f} x torchvision's fp32 time")
    if device.type == "cuda":
        figures["peak_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        print(f"peak memory {figures['peak_memory_gib']:.2f} GiB")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _make_batch(num_images: int, size: tuple[int, int]) -> Batch:
    height, width = size
    corner = torch.rand(num_images, NUM_BOXES, 2) * torch.tensor([width * 0.6, height * 0.6])
    side = 16 + torch.rand(num_images, NUM_BOXES, 2) * torch.tensor([width * 0.35, height * 0.35])
    return Batch(
        images=torch.randint(0, 256, (num_images, height, width, 3), dtype=torch.uint8),
        sizes=torch.tensor([size] * num_images),
        gt_boxes=torch.cat((corner, corner + side), dim=2),
        gt_labels=torch.randint(0, NUM_CLASSES, (num_images, NUM_BOXES)),
        gt_mask=torch.ones(num_images, NUM_BOXES, dtype=torch.bool),
        gt_ignore=torch.zeros(num_images, NUM_BOXES, dtype=torch.bool),
        image_ids=tuple(range(num_images)),
        original_sizes=(size,) * num_images,
    )


def _our_step(batch: Batch, precision: str, device: torch.device) -> Callable[[], None]:
    backbone = BackboneConfig(name="resnet50", weights="none", norm="frozen", frozen_stages=2)
    model = build_model(ModelConfig(backbone=backbone), NUM_CLASSES)
    _calm(model)
    model = place_for_training(model, device).train()
    state = TrainState(model, build_optimizer(OptimizerConfig(lr=LR), model), LossNormalizer("batch"))
    if precision == "fp16":
        state.scaler = torch.amp.GradScaler(device.type)
    matcher = Matcher(
        AnchorGenerator(), fg_iou_thresh=0.5, bg_iou_thresh=0.4, allow_low_quality_matches=True, ignore_ioa_thresh=0.5
    )
    stepper = Stepper(state, matcher, Criterion(), precision=precision)

    def step() -> None:
        stepper([batch])
        state.step += 1

    return step


def _torchvision_step(batch: Batch, precision: str, device: torch.device) -> Callable[[], None]:
    resnet = torchvision.models.resnet50(weights=None, norm_layer=torchvision.ops.FrozenBatchNorm2d)
    backbone = _resnet_fpn_extractor(resnet, 3, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256))
    size = tuple(batch.images.shape[1:3])
    model = RetinaNet(backbone, NUM_CLASSES, min_size=min(size), max_size=max(size))
    _calm(model)
    model = model.to(device).train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=LR, momentum=0.9, weight_decay=1e-4)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    images = list(batch.images.permute(0, 3, 1, 2).float().contiguous() / 255)
    targets = [{"boxes": b, "labels": t} for b, t in zip(batch.gt_boxes, batch.gt_labels, strict=True)]

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(precision, device):
            losses = model(images, targets)
        scaler.scale(sum(losses.values())).backward()
        scaler.step(optimizer)
        scaler.update()

    return step


def _calm(model: nn.Module) -> None:
    """Scale the frozen norms down: random convolutions would otherwise double the activations in every block."""
    for module in model.modules():
        if type(module).__name__ == "FrozenBatchNorm2d":
            module.weight.fill_(0.5)


def _measure(steps: dict[str, Callable[[], None]], warmup: int, repeats: int, device: torch.device) -> dict[str, float]:
    """Return the median seconds of each step; one of each in turn, so that all see the same machine."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for round_idx in range(warmup + repeats):
        for name, step in steps.items():
            _synchronize(device)
            start = time.perf_counter()
            step()
            _synchronize(device)
            if round_idx >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
