"""A lack of memory: what is said of it, and how many images a forward pass takes where they do not all fit."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from detector.cli.errors import exit_code
from detector.config_io import dump_config
from detector.data.largest_batch import LargestBatch, build_largest_batch
from detector.engine import fit_memory
from detector.engine.fit_memory import choose, settle_images_per_forward, try_steps
from detector.engine.out_of_memory import explained_out_of_memory
from detector.engine.processes import Processes
from detector.engine.resume import keep_resolved
from detector.engine.run import Run, build_run
from detector.engine.step import Stepper
from detector.errors import ResourceError
from tests.engine.tiny import tiny_config

LARGEST = LargestBatch(size=(800, 1344), num_boxes=93, num_classes=2)


@pytest.fixture
def run(tmp_path: Path) -> Any:
    run = build_run(*tiny_config(tmp_path, "ema.decay=0.9", "optimizer.name=adamw", "model.backbone.norm=batch"))
    yield run
    run.recorder.close()


def test_the_message_names_the_batch_and_what_to_change(run: Run) -> None:
    batch = next(iter(run.loader))
    device = torch.device("cpu")
    with pytest.raises(ResourceError) as caught, explained_out_of_memory(7, [batch], run.config, device):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes.\nstack\nstack")
    message = str(caught.value)
    height, width = batch.images.shape[1:3]
    assert message.startswith("out of memory in step 7 on cpu: DefaultCPUAllocator: can't allocate memory: you tried")
    assert "stack" not in message
    assert f"forward pass 1 of 1: 4 images padded to {height} x {width}; image ids {list(batch.image_ids)}" in message
    assert f"sizes {batch.sizes.tolist()}, boxes {batch.gt_mask.sum(dim=1).tolist()}" in message
    assert "data.images_per_forward=2, which changes nothing but rounding" in message
    assert "(data.batch_size stays 4)" in message
    assert message.endswith("then continue with --resume --allow-changes")
    with pytest.raises(ZeroDivisionError), explained_out_of_memory(7, [batch], run.config, device):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")]
)
def test_a_lack_of_memory_anywhere_ends_without_a_traceback(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> int:
        raise error

    assert exit_code(fail) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: out of memory: ")
    assert "eval.batch_size" in printed
    assert "Traceback" not in printed


def test_the_smallest_number_of_all_processes_is_taken_and_told(tmp_path: Path) -> None:
    config, _ = tiny_config(tmp_path, "data.batch_size=16")
    chosen, (note,) = choose(config, 8, [8, 4, 2], LARGEST)
    assert chosen.data.images_per_forward == 2
    assert chosen.data.batch_size == 16
    assert "auto: 2 images of up to 800 x 1344 pixels with 93 boxes fit" in note
    assert "the gradients of 4 forward passes are added up" in note
    same, (note,) = choose(config, 8, [8, 8], LARGEST)
    assert same == config
    assert note.endswith("fit into the memory, all of a process's share")
    with pytest.raises(ResourceError, match=r"not even fit with one image \(800 x 1344 pixels with 93 boxes\)"):
        choose(config, 8, [8, None], LARGEST)


def test_a_try_makes_steps_of_the_share_and_leaves_the_state_as_it_was(run: Run, monkeypatch: Any) -> None:
    """The search on a pretended GPU: a forward pass of more than two images runs out of memory."""
    tried: list[list[int]] = []

    def make_stepper() -> Stepper:
        stepper = Stepper(run.state, run.stepper.matcher, run.stepper.criterion)
        make_step = stepper._forward_backward

        def limited(batch: Any, *arguments: Any, **options: Any) -> Any:
            if len(batch.image_ids) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return make_step(batch, *arguments, **options)

        monkeypatch.setattr(stepper, "_forward_backward", limited)
        original = stepper.__call__

        def watched(batches: Any) -> Any:
            tried.append([len(batch.image_ids) for batch in batches])
            return original(batches)

        return watched  # type: ignore[return-value]

    class Device:
        type = "cuda"

    fractions: list[float] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, _device: fractions.append(share))
    monkeypatch.setattr(
        fit_memory, "try_steps", lambda stepper, largest, share, _device: try_steps(stepper, largest, share, cpu)
    )
    cpu = torch.device("cpu")
    before = copy.deepcopy(run.state.to_checkpoint("", run.train_dataset.categories))
    config, notes = settle_images_per_forward(
        run.config,
        run.train_dataset.table,
        run.state,
        make_stepper,
        Device(),
        Processes(),  # type: ignore[arg-type]
    )
    assert config.data.images_per_forward == 2
    assert len(notes) == 1
    assert tried == [[4], [2, 2], [2, 2]]
    assert fractions == [fit_memory.MEMORY_SHARE, 1.0]
    after = run.state.to_checkpoint("", run.train_dataset.categories)
    for name in ("model", "ema"):
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=0)
    assert after["optimizer"]["state"] == before["optimizer"]["state"] == {}
    assert after["normalizer"] == before["normalizer"]
    assert all(parameter.grad is None for parameter in run.state.model.parameters())


def test_the_largest_batch_is_what_is_tried(run: Run) -> None:
    largest = build_largest_batch(run.config.data, run.train_dataset.table)
    shapes: list[tuple[int, ...]] = []
    steps = try_steps(lambda batches: shapes.extend(tuple(b.images.shape) for b in batches), largest, 4, run.device)  # type: ignore[arg-type]
    steps(2)
    assert shapes == [(2, *largest.size, 3)] * 4


def test_on_a_cpu_auto_is_the_share_of_a_process_and_nothing_is_tried(run: Run) -> None:
    assert run.config.data.images_per_forward == "auto"
    assert run.num_forwards == 1


def test_a_run_that_continues_keeps_the_number_it_began_with(tmp_path: Path) -> None:
    config, _ = tiny_config(tmp_path)
    saved = config.model_copy(update={"data": config.data.model_copy(update={"images_per_forward": 2})})
    checkpoint = ("last.pt", {"config": dump_config(saved), "provenance": {"processes": 1}})
    assert keep_resolved(config, checkpoint, num_processes=1).data.images_per_forward == 2
    assert keep_resolved(config, checkpoint, num_processes=2).data.images_per_forward == "auto"  # for another share
    without_provenance = ("last.pt", {"config": dump_config(saved)})
    assert keep_resolved(config, without_provenance, num_processes=2).data.images_per_forward == 2
    explicit = config.model_copy(update={"data": config.data.model_copy(update={"images_per_forward": 4})})
    assert keep_resolved(explicit, checkpoint, num_processes=1).data.images_per_forward == 4
    assert re.search("images_per_forward: 2", dump_config(saved))
