"""Detection with ours against torchvision's RetinaNet, in one process, alternating.

    python scripts/benchmark_inference.py                                     # R50, 1 x 3 x 800 x 1088, fp32 (and bf16)
    python scripts/benchmark_inference.py --batch 8 --size 800 1344 --json inference.json

Both run the same network (ResNet-50, FPN, 80 classes) on the same images, from images to detections on the host:
torchvision's ``retinanet_resnet50_fpn`` in evaluation mode with its resize (at scale 1) and normalisation, ours with
the normalisation, the copy for inference, and the post-processing. The class head's last bias is raised so that
about a thousand (anchor, class) pairs of an image pass the threshold, as in a trained network.
"""

import argparse
from collections.abc import Callable

import torch
import torchvision
from benchmarking import (
    Figure,
    calm_frozen_norms,
    count_flops,
    describe_hardware,
    make_parser,
    measure_ceilings,
    peak_memory,
    print_figures,
    print_table,
    random_batch,
    table_row,
    time_in_turn,
    timing_options,
    usable_precisions,
    write_figures,
)
from torch import nn
from torchvision.models.detection import retinanet_resnet50_fpn

from detector.anchors import AnchorGenerator
from detector.config import BackboneConfig, ModelConfig
from detector.engine.device import ResolvedPrecision, autocast, resolve_device
from detector.engine.forward import ConvolutionName, forward, network_for_inference, uses_winograd
from detector.models import RetinaNet, build_model
from detector.postprocess import postprocess
from detector.structures import Batch

NUM_CLASSES = 80
CLS_BIAS = -3.0
"""sigmoid(-3) is .047, just below the threshold of .05: the noise of the head decides which pairs pass."""


def main() -> None:
    parser = make_parser(__doc__, repeats=5, warmup=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1088), metavar=("H", "W"))
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16", "fp16"])
    parser.add_argument("--direct", action="store_true", help="time ours with direct convolutions too")
    parser.set_defaults(seconds=80)
    args = parser.parse_args()
    torch.manual_seed(0)
    device = resolve_device(args.device)
    hardware = describe_hardware(device)
    precisions = usable_precisions(args.precisions, device)
    batch = random_batch(args.batch, tuple(args.size)).to(device)

    calls: dict[str, Callable[[], object]] = {}
    network, peer = _our_network(), _torchvision_network(tuple(args.size))
    for precision in precisions:
        calls[f"ours {precision}"] = _ours(network, batch, precision, device)
        if args.direct and uses_winograd("auto", device, precision):
            calls[f"ours {precision}, direct convolutions"] = _ours(network, batch, precision, device, "direct")
        calls[f"torchvision {precision}"] = _torchvision(peer.to(device), batch, precision, device)
    timings = time_in_turn(calls, device=device, **timing_options(args))

    print(hardware)
    ceilings = measure_ceilings(device, precisions)
    print(ceilings)
    flops = count_flops(calls[f"torchvision {precisions[0]}"])
    rows = []
    for name, timing in timings.items():
        precision = next(known for known in precisions if known in name)
        row = table_row(
            name,
            timing,
            clock=args.clock,
            peer=timings[f"torchvision {precision}"],
            images=args.batch,
            flops=flops,
            flops_ceiling=ceilings.convolution[precision],
            peak_bytes=peak_memory(calls[name], device),
        )
        rows.append(row)
    print_table(rows)
    figures = []
    for precision in args.precisions:
        key = f"inference.speedup.{precision}"
        if precision not in precisions:
            figures.append(Figure(key, None, note=f"{precision} is not native on this hardware"))
            continue
        ours, theirs = timings[f"ours {precision}"], timings[f"torchvision {precision}"]
        speedup = ours.speedup_over(theirs, args.clock)
        figures.append(Figure(key, speedup.median, speedup.low, speedup.high))
    print_figures(figures, hardware)
    if args.json:
        write_figures(args.json, figures, hardware, details=_details(args, rows))


def _details(args: argparse.Namespace, rows: list[dict[str, str]]) -> dict[str, object]:
    return {"batch": args.batch, "size": list(args.size), "clock": args.clock, "rows": rows}


def _our_network() -> RetinaNet:
    backbone = BackboneConfig(name="resnet50", weights="none", norm="frozen")
    network = build_model(ModelConfig(backbone=backbone), NUM_CLASSES)
    calm_frozen_norms(network)
    nn.init.constant_(network.cls_subnet.last.bias, CLS_BIAS)  # type: ignore[arg-type]
    return network


def _torchvision_network(size: tuple[int, int]) -> nn.Module:
    network = retinanet_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=NUM_CLASSES, min_size=min(size), max_size=max(size)
    )
    # Without weights it has batch norm; with them, which everyone uses, the frozen one.
    _freeze_norms(network)
    calm_frozen_norms(network)
    nn.init.constant_(network.head.classification_head.cls_logits.bias, CLS_BIAS)
    return network.eval()


def _freeze_norms(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, torchvision.ops.FrozenBatchNorm2d(child.num_features))
        else:
            _freeze_norms(child)


def _ours(
    network: RetinaNet,
    batch: Batch,
    precision: ResolvedPrecision,
    device: torch.device,
    convolution: ConvolutionName = "auto",
) -> Callable[[], object]:
    copy = network_for_inference(network, device, precision, convolution)
    generator = AnchorGenerator()
    sizes = list(batch.original_sizes)

    @torch.inference_mode()
    def detect() -> object:
        outputs = forward(copy, batch.images, batch.sizes, precision)
        height, width = batch.images.shape[1:3]
        anchors = generator(generator.feature_shapes((height, width)), device)
        return [found.to("cpu") for found in postprocess(outputs, anchors, sizes, sizes)]

    return detect


def _torchvision(
    network: nn.Module, batch: Batch, precision: ResolvedPrecision, device: torch.device
) -> Callable[[], object]:
    images = list(batch.images.permute(0, 3, 1, 2).float().contiguous() / 255)

    @torch.inference_mode()
    def detect() -> object:
        with autocast(precision, device):
            found = network(images)
        return [{key: value.cpu() for key, value in one.items()} for one in found]

    return detect


if __name__ == "__main__":
    main()
