from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from detector.cli.export import main as export
from detector.config_io import dump_config
from detector.engine.checkpoint import load_checkpoint
from detector.engine.checkpoint_files import save_checkpoint
from detector.engine.inference import load_detector
from detector.engine.resume import find_resume
from detector.errors import UserError
from detector.models import build_model
from tests.engine.tiny import tiny_config


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Return a checkpoint whose averaged weights are twice the raw ones."""
    config, _ = tiny_config(tmp_path)
    model = build_model(config.model, 2).to(memory_format=torch.channels_last)
    raw = model.state_dict()
    content: dict[str, Any] = {
        "step": 7,
        "config": dump_config(config),
        "categories": {"ids": [7, 30], "names": ["rød", "green"]},
        "model": raw,
        "ema": {"model": {name: 2 * value for name, value in raw.items()}, "num_updates": 7},
        "optimizer": {},
    }
    return save_checkpoint(tmp_path / "checkpoints", content, step=7, is_best=True, keep=1)


@pytest.mark.parametrize(("options", "key"), [([], "ema"), (["--weights", "raw"], "model")])
def test_exported_weights_are_those_of_the_checkpoint_and_make_a_detector(
    checkpoint: Path, tmp_path: Path, options: list[str], key: str
) -> None:
    path = tmp_path / "out" / "weights.safetensors"
    assert export(["--checkpoint", str(checkpoint), "--output", str(path), *options]) == 0
    content = load_checkpoint(checkpoint)
    expected = content["model"] if key == "model" else content["ema"]["model"]
    torch.testing.assert_close(load_file(path), dict(expected), rtol=0, atol=0)
    loaded = load_detector(path)
    assert loaded.categories.names == ("rød", "green")
    assert (loaded.step, loaded.config.seed) == (7, 0)
    direct = load_detector(checkpoint, weights={"model": "raw"}.get(key, key))
    torch.testing.assert_close(loaded.model.state_dict(), direct.model.state_dict(), rtol=0, atol=0)


def test_exported_weights_are_no_run_to_be_continued(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    assert export(["--checkpoint", str(checkpoint), "--output", str(path)]) == 0
    with pytest.raises(UserError, match=r"weights alone, .* by --init-from .*weights\.safetensors"):
        find_resume(tmp_path / "run", str(path))


def test_a_flipped_bit_of_exported_weights_is_found(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    assert export(["--checkpoint", str(checkpoint), "--output", str(path)]) == 0
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged: its SHA-256"):
        load_checkpoint(path)


def test_a_safetensors_file_of_another_program_is_named(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"other\.safetensors: a safetensors file, but not one of this program"):
        load_checkpoint(tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(UserError, match=r"text\.safetensors: not a readable safetensors file"):
        load_checkpoint(tmp_path / "text.safetensors")


def test_a_wrong_name_is_refused_before_anything_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(["--checkpoint", "missing.pt", "--output", str(tmp_path / "weights.bin")]) == 2
    assert "expected a name that ends with .safetensors" in capsys.readouterr().err
