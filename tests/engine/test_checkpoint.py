import pickle
import subprocess
from pathlib import Path

import pytest
import torch

from detector.engine.checkpoint import find_newest_checkpoint, load_checkpoint, step_files
from detector.engine.checkpoint_files import save_checkpoint, set_aside_later_checkpoints, tidy_checkpoints
from detector.errors import UserError


def save(folder: Path, step: int, *, is_best: bool = False, keep: int = 2) -> Path:
    return save_checkpoint(folder, {"step": step, "value": torch.tensor([step])}, step=step, is_best=is_best, keep=keep)


def test_last_and_best_point_to_their_steps_and_old_steps_go(tmp_path: Path):
    for step in (10, 20, 30, 40):
        save(tmp_path, step, is_best=step == 20)
    assert [path.name for path in step_files(tmp_path)] == ["step-00000030.pt", "step-00000040.pt"]
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 40
    assert load_checkpoint(tmp_path / "best.pt")["step"] == 20
    assert not list(tmp_path.glob("*.tmp"))


def test_every_file_has_a_checksum_that_sha256sum_accepts(tmp_path: Path):
    save(tmp_path, 1, is_best=True)
    digests = sorted(path.name for path in tmp_path.glob("*.sha256"))
    assert digests == ["best.pt.sha256", "last.pt.sha256", "step-00000001.pt.sha256"]
    subprocess.run(["sha256sum", "--check", "--quiet", *digests], cwd=tmp_path, check=True)


def test_a_flipped_bit_is_named_and_the_checkpoint_before_is_found(tmp_path: Path):
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.unlink()  # a hard link: last.pt shares its bytes
    newest.write_bytes(content)
    with pytest.raises(UserError, match=r"step-00000002\.pt: the checkpoint is damaged: its SHA-256 is"):
        load_checkpoint(newest)
    found, problems = find_newest_checkpoint(tmp_path)
    assert found is not None
    assert found[0].name == "step-00000001.pt"
    assert found[1]["step"] == 1
    assert "step-00000002.pt: the checkpoint is damaged" in problems[0]


def test_an_empty_folder_has_no_newest_checkpoint(tmp_path: Path):
    assert find_newest_checkpoint(tmp_path / "missing") == (None, [])


def damage(path: Path) -> None:
    """Flip a bit of a file, and of no other that shares its bytes."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)


def test_a_damaged_file_that_is_set_aside_stays_known_as_damaged(tmp_path: Path):
    save(tmp_path, 10)
    damage(save(tmp_path, 20))
    (renamed,) = set_aside_later_checkpoints(tmp_path, 10)
    assert not list(tmp_path.glob("step-00000020*"))
    with pytest.raises(UserError, match=r"abandoned-00000020\.pt: the checkpoint is damaged: its SHA-256 is"):
        load_checkpoint(renamed)
    subprocess.run(["sha256sum", "--check", "--quiet", "last.pt.sha256"], cwd=tmp_path, check=True)


def test_a_damaged_step_does_not_replace_the_best(tmp_path: Path):
    damage(save(tmp_path, 10, is_best=True))
    save(tmp_path, 20)
    tidy_checkpoints(tmp_path, 20, best_step=10)
    assert load_checkpoint(tmp_path / "best.pt")["step"] == 10


def test_a_run_that_goes_back_keeps_its_new_files_and_sets_the_later_ones_aside(tmp_path: Path):
    for step in (10, 20, 30):
        save(tmp_path, step, keep=3)
    assert save(tmp_path, 5, keep=1).exists()  # the oldest by number, but the one just written
    renamed = set_aside_later_checkpoints(tmp_path, 10)
    assert [path.name for path in renamed] == ["abandoned-00000020.pt", "abandoned-00000030.pt"]
    assert [path.name for path in step_files(tmp_path)] == ["step-00000005.pt", "step-00000010.pt"]
    assert load_checkpoint(renamed[1])["step"] == 30
    found, problems = find_newest_checkpoint(tmp_path)
    assert found is not None
    assert (found[0].name, problems) == ("step-00000010.pt", [])


def test_the_best_of_a_course_that_was_left_is_no_longer_the_best(tmp_path: Path):
    for step in (10, 20, 30):
        save(tmp_path, step, is_best=step in (10, 30), keep=2)  # the file of step 10 has gone, and best.pt with it
    set_aside_later_checkpoints(tmp_path, 20)
    tidy_checkpoints(tmp_path, 20, best_step=10)
    assert not (tmp_path / "best.pt").exists()
    assert load_checkpoint(tmp_path / "abandoned-00000030.pt")["step"] == 30
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 20


def test_what_is_no_checkpoint_is_refused_by_name(tmp_path: Path):
    with pytest.raises(UserError, match=r"none\.pt: no such checkpoint file"):
        load_checkpoint(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(UserError, match=r"text\.pt: not a readable checkpoint \(no file of torch\.save"):
        load_checkpoint(tmp_path / "text.pt")
    torch.save({"model": {}}, tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"other\.pt: a PyTorch file, but not a checkpoint of this program"):
        load_checkpoint(tmp_path / "other.pt")


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("code was run",))


def test_loading_runs_no_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    torch.save({"format": Bomb()}, tmp_path / "bomb.pt")
    with pytest.raises(UserError, match=r"bomb\.pt: not a readable checkpoint: it holds \S*print, and"):
        load_checkpoint(tmp_path / "bomb.pt")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError, match=r"pickle\.pt: not a readable checkpoint"):
        load_checkpoint(tmp_path / "pickle.pt")
    assert "code was run" not in capsys.readouterr().out
