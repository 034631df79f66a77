"""Compiled training against plain training; without inductor, whose kernels take minutes, but through its front end."""

from pathlib import Path

import pytest
import torch

from detector.config_io import load_config
from detector.engine import compilation
from detector.engine.checkpoint import load_checkpoint
from detector.engine.compilation import begin_step, check_compilation, compile_losses, compile_network
from detector.engine.reproducible import search_convolutions
from detector.engine.train import train
from detector.errors import UserError
from tests.engine.tiny import make_dataset, read_rows, tiny_config, write_config

BUCKETS = "data.buckets=[[96, 96]]"


def train_tiny(folder: Path, *overrides: str, resume: str | None = None) -> Path:
    config, origins = tiny_config(folder, BUCKETS, *overrides)
    train(config, origins, resume=resume, allow_changes=True)
    return Path(config.output_dir)


@pytest.mark.slow
def test_a_run_goes_on_compiled_with_the_same_losses_and_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compilation, "BACKEND", "aot_eager")
    plain = train_tiny(tmp_path, f"output_dir={tmp_path}/plain")
    checkpoint = str(plain / "checkpoints/step-00000002.pt")
    compiled = train_tiny(tmp_path, "compile=step", f"output_dir={tmp_path}/compiled", resume=checkpoint)
    for key in ("loss_cls_fg", "loss_cls_bg", "loss_box", "grad_norm"):
        expected = [row[key] for row in read_rows(plain, "train")][2:]
        assert [row[key] for row in read_rows(compiled, "train")][-2:] == pytest.approx(expected, rel=1e-4)
    plain_names, compiled_names = (
        list(load_checkpoint(folder / "checkpoints/last.pt")["model"]) for folder in (plain, compiled)
    )
    assert compiled_names == plain_names
    assert not torch._dynamo.utils.counters["graph_break"]


def test_off_changes_nothing():
    model = torch.nn.Linear(1, 1)
    assert compile_network(model, "off") is model
    assert compile_losses(lambda: None, "model") is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["compile=model"], "model makes one graph for every padded shape and needs data.buckets"),
        (["compile=step", f"data.buckets={[[96, 96 + i] for i in range(9)]}"], "at most 8 shapes, found 9"),
        (["compile=step", BUCKETS, "loss.backend=eager"], "compile: step compiles the loss and does not use eager"),
        (["cuda_graphs=true", "device=auto"], "set compile=model or compile=step too"),
        (["cuda_graphs=true", "compile=model", BUCKETS, "device=cpu"], "needs a GPU, found .*cpu"),
    ],
)
def test_what_cannot_be_compiled_is_said_before_anything_starts(tmp_path: Path, overrides: list[str], message: str):
    path = write_config(tmp_path, make_dataset(tmp_path / "data"))
    with pytest.raises(UserError, match=message):
        load_config(str(path), overrides)


def test_graphs_of_a_gpu_are_refused_on_a_cpu():
    with pytest.raises(UserError, match=r"the run is on cpu; use cuda_graphs=false \(compile=step works without\)"):
        check_compilation("step", torch.device("cpu"), cuda_graphs=True)


def test_graphs_of_a_gpu_want_one_forward_pass_a_step():
    with pytest.raises(UserError, match="a step must be one forward pass, found 2"):
        begin_step(2, cuda_graphs=True)
    begin_step(2, cuda_graphs=False)


@pytest.mark.parametrize(
    ("num_shapes", "deterministic", "expected"),
    [(2, False, True), (2, True, False), (9, False, False), (None, False, False)],
)
def test_cudnn_searches_where_shapes_are_few(
    monkeypatch: pytest.MonkeyPatch, num_shapes: int | None, deterministic: bool, expected: bool
):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", not expected)
    search_convolutions(num_shapes, deterministic=deterministic)
    assert torch.backends.cudnn.benchmark is expected
