"""Checkpoints written beside training, and a kill or a full disk in between."""

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from detector.engine import checkpoint_files, checkpoint_writer
from detector.engine.checkpoint import find_newest_checkpoint, load_checkpoint
from detector.engine.checkpoint_files import save_checkpoint, tidy_checkpoints
from detector.engine.checkpoint_writer import CheckpointWriter, SaveOutcome
from detector.engine.checksum import read_digests
from detector.engine.host_copy import HostCopier
from detector.errors import UserError


def content(step: int) -> dict[str, Any]:
    return {"step": step, "value": torch.full((1000,), step), "best": {"ap": 0.5, "step": step}}


class Killed(BaseException):
    """What a kill is to the code that it meets."""


def count_calls(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Save once and return the calls by which files come to the disk, in order."""
    calls: list[str] = []
    interrupt(monkeypatch, calls, at=-1)
    save_checkpoint(folder, content(2), step=2, is_best=True, keep=1)
    return calls


def interrupt(monkeypatch: pytest.MonkeyPatch, calls: list[str], *, at: int) -> None:
    """Raise Killed instead of call number ``at`` to anything that gives or takes a name or flushes."""

    def watched(name: str, function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            if len(calls) == at:
                raise Killed
            calls.append(name)
            return function(*arguments, **options)

        return call

    for owner, name in ((os, "fsync"), (os, "link"), (Path, "replace"), (Path, "unlink")):
        monkeypatch.setattr(owner, name, watched(name, getattr(owner, name)))


def test_a_kill_at_any_moment_leaves_checkpoints_that_fit_their_checksums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        num_calls = len(count_calls(tmp_path / "counted", patch))
    assert num_calls > 10
    for at in range(num_calls):
        folder = tmp_path / str(at)
        save_checkpoint(folder, content(1), step=1, is_best=True, keep=1)
        save_checkpoint(folder, content(1) | {"other": 1}, step=2, is_best=False, keep=2)  # of a course given up
        with monkeypatch.context() as patch:
            interrupt(patch, [], at=at)
            with pytest.raises(Killed):
                save_checkpoint(folder, content(2), step=2, is_best=True, keep=1)
        found, problems = find_newest_checkpoint(folder)
        assert (problems, found is not None) == ([], True), at
        for name in ("last", "best"):
            load_checkpoint(folder / f"{name}.pt")
        assert found is not None
        tidy_checkpoints(folder, found[1]["step"], best_step=found[1]["best"]["step"])
        assert load_checkpoint(folder / "last.pt")["step"] == found[1]["step"]
        assert load_checkpoint(folder / "best.pt")["best"] == found[1]["best"]
        assert not list(folder.glob("*.tmp"))


def test_names_are_flushed_before_the_older_files_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, content(1), step=1, is_best=False, keep=1)
    order: list[str] = []
    flush, remove = checkpoint_files.flush_folder, checkpoint_files.remove_with_digest
    monkeypatch.setattr(checkpoint_files, "flush_folder", lambda path: (order.append("flush"), flush(path)))
    monkeypatch.setattr(checkpoint_files, "remove_with_digest", lambda path: (order.append(path.name), remove(path)))
    save_checkpoint(tmp_path, content(2), step=2, is_best=False, keep=1)
    assert order == ["flush", "step-00000001.pt"]


def test_without_a_checksum_beside_it_a_flipped_bit_is_found_too(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, content(3), step=3, is_best=False, keep=1)
    path.with_name(f"{path.name}.sha256").unlink()
    assert load_checkpoint(path)["step"] == 3
    flipped = bytearray(path.read_bytes())
    flipped[flipped.index(torch.full((1000,), 3).numpy().tobytes()) + 8] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(UserError, match=r"damaged: its record .*/data/0 does not fit its CRC-32"):
        load_checkpoint(path)


def test_the_checksum_is_that_of_the_file(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, content(3), step=3, is_best=True, keep=1)
    assert read_digests(path) == [checkpoint_files.sha256_of(path)]
    assert read_digests(tmp_path / "best.pt") == read_digests(path)


def test_training_goes_on_while_a_checkpoint_is_written_and_what_it_holds_does_not_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_write, told = threading.Event(), []
    save = save_checkpoint

    def slow(*arguments: Any, **options: Any) -> Path:
        assert may_write.wait(60)
        return save(*arguments, **options)

    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", slow)
    writer = CheckpointWriter(tmp_path, keep=2, report=told.append)
    weights = content(1)
    writer.begin(weights, step=1, is_best=True)
    weights["value"].zero_()  # the next step
    writer.poll()
    assert told == []
    may_write.set()
    writer.begin(content(2), step=2, is_best=False)  # waits for the first
    assert [outcome.step for outcome in told] == [1]
    writer.close()
    assert told == [
        SaveOutcome(1, True, (0.5, 1), tmp_path / "step-00000001.pt"),
        SaveOutcome(2, False, (0.5, 2), tmp_path / "step-00000002.pt"),
    ]
    assert load_checkpoint(tmp_path / "best.pt")["value"].tolist() == [1] * 1000


def test_a_full_disk_is_told_and_the_checkpoint_before_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[SaveOutcome] = []
    writer = CheckpointWriter(tmp_path, keep=1, report=told.append)
    writer.begin(content(1), step=1, is_best=False)
    writer.finish()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
        writer.begin(content(2), step=2, is_best=True)
        writer.finish()
    assert told[1].error == f"{tmp_path}/step-00000002.pt: the checkpoint cannot be written: No space left on device"
    assert not list(tmp_path.glob("*.tmp"))
    found, problems = find_newest_checkpoint(tmp_path)
    assert found is not None
    assert (found[1]["step"], problems) == (1, [])
    writer.begin(content(3), step=3, is_best=True)
    writer.close()
    assert told[2].path == tmp_path / "step-00000003.pt"


def test_copies_keep_layout_and_reuse_their_memory() -> None:
    copier = HostCopier()
    tensor = torch.rand(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    first = copier({"a": [tensor, 3], "b": (torch.tensor(1), "x")})
    assert first["a"][0].stride() == tensor.stride()
    assert (first["a"][1], first["b"][1]) == (3, "x")
    torch.testing.assert_close(first["a"][0], tensor, rtol=0, atol=0)
    second = copier({"a": [tensor + 1, 3], "b": (torch.tensor([1, 2]), "x")})
    assert second["a"][0].data_ptr() == first["a"][0].data_ptr()
    assert second["b"][0].tolist() == [1, 2]  # of another shape: new memory
