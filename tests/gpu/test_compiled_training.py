"""Training through compiled graphs, replayed as CUDA graphs or not, against plain training on the same GPU."""

from pathlib import Path

import pytest

from detector.engine.train import train
from tests.engine.tiny import read_rows, tiny_config

pytestmark = [pytest.mark.gpu, pytest.mark.slow]


def losses_of(folder: Path, name: str, *overrides: str) -> list[float]:
    output = folder / name
    config, origins = tiny_config(
        folder,
        "device=cuda",
        "data.buckets=[[96, 96]]",
        "data.images_per_forward=4",
        f"output_dir={output}",
        *overrides,
    )
    train(config, origins)
    return [row["loss"] for row in read_rows(output, "train")]


@pytest.mark.usefixtures("_exact_convolutions")
@pytest.mark.parametrize("cuda_graphs", ["false", "true"])
@pytest.mark.parametrize("mode", ["model", "step"])
def test_compiled_training_has_the_losses_of_plain_training(tmp_path: Path, mode: str, cuda_graphs: str):
    plain = losses_of(tmp_path, "plain")
    compiled = losses_of(tmp_path, "compiled", f"compile={mode}", f"cuda_graphs={cuda_graphs}")
    assert compiled == pytest.approx(plain, rel=2e-3)
