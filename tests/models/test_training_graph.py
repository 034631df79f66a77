"""What autograd and autocast do for the network in training: nothing for what is frozen, nothing twice."""

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from detector.config import BackboneConfig, FpnConfig, HeadConfig, ModelConfig
from detector.models import RetinaNet, build_model


def make_model(frozen_stages: int) -> RetinaNet:
    torch.manual_seed(0)
    backbone = BackboneConfig(name="resnet18", weights="none", norm="frozen", frozen_stages=frozen_stages)
    return build_model(ModelConfig(backbone=backbone, fpn=FpnConfig(channels=16), head=HeadConfig(num_convs=2)), 3)


def test_frozen_stages_keep_no_graph():
    model = make_model(frozen_stages=2)
    outputs: dict[str, Tensor] = {}
    for name in ("layer1", "layer2"):
        model.backbone.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: outputs.update({name: output})
        )
    saved: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(torch.randn(1, 3, 64, 64))
    assert not outputs["layer1"].requires_grad
    assert outputs["layer2"].requires_grad
    # Of the stem's and the first stage's maps, at half and a quarter of the image, only the last is an input of layer2.
    large = {tensor.data_ptr() for tensor in saved if tensor.ndim == 4 and tensor.shape[-1] in (32, 16)}
    assert outputs["layer1"].data_ptr() in large
    assert not any(tensor.shape[-1] == 32 for tensor in saved if tensor.ndim == 4)


class _Casts(TorchDispatchMode):
    """Counts copies of parameters to bfloat16, by shape."""

    def __init__(self, parameters: set[int]) -> None:
        super().__init__()
        self.parameters, self.counts = parameters, dict.fromkeys(parameters, 0)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._to_copy.default and kwargs.get("dtype") is torch.bfloat16:
            pointer = args[0].data_ptr()
            if pointer in self.parameters:
                self.counts[pointer] += 1
        return func(*args, **(kwargs or {}))


def test_weights_of_the_subnets_are_cast_once_for_all_levels():
    model = make_model(frozen_stages=0)
    weights = {p.data_ptr() for subnet in (model.cls_subnet, model.box_subnet) for p in subnet.parameters()}
    casts = _Casts(weights)
    with torch.autocast("cpu", dtype=torch.bfloat16), casts:
        model(torch.randn(1, 3, 64, 64))
    assert set(casts.counts.values()) == {1}
