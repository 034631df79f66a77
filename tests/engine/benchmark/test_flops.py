"""detector/engine/benchmark/flops.py against a count of the real network, and by hand for one layer."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from detector.config import BackboneConfig, FpnConfig, HeadConfig, ModelConfig
from detector.engine.benchmark.flops import build_meta_network, count_training_flops
from detector.models import build_model


def small(**backbone: object) -> ModelConfig:
    return ModelConfig(
        backbone=BackboneConfig(name="resnet18", weights="none", **backbone),
        fpn=FpnConfig(channels=16),
        head=HeadConfig(num_convs=1),
    )


@pytest.mark.parametrize("backbone", [{"norm": "batch"}, {"norm": "frozen", "frozen_stages": 2}])
def test_without_numbers_it_counts_what_the_real_network_computes(backbone: dict[str, object]) -> None:
    model = build_model(small(**backbone), 3).train()
    with FlopCounterMode(display=False) as counter:
        outputs = model(torch.zeros(2, 3, 64, 96))
        sum(level.sum() for level in (*outputs.cls_logits, *outputs.bbox_deltas)).backward()
    network = build_meta_network(small(**backbone), 3)
    assert count_training_flops(network, (2, 64, 96)) == counter.get_total_flops() > 0


def test_it_grows_with_images_and_counts_the_same_again() -> None:
    network = build_meta_network(small(norm="batch"), 3)
    one = count_training_flops(network, (1, 64, 64))
    assert count_training_flops(network, (3, 64, 64)) == 3 * one
    assert count_training_flops(network, (1, 64, 64)) == one


def test_frozen_stages_save_their_gradients() -> None:
    whole, frozen = (
        count_training_flops(build_meta_network(small(norm="frozen", frozen_stages=stages), 3), (1, 64, 64))
        for stages in (0, 2)
    )
    assert frozen < whole
