"""Files that the dataset doctor writes: checked before the work starts, and never over anything of the user's."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from detector.errors import UserError
from detector.evaluation.json_files import check_writable
from detector.inspect.doctor.split import Split


def check_outputs(outputs: Iterable[Path], inputs: Iterable[Path], datasets: Sequence[Split]) -> None:
    """See that all outputs can be written, each to a file of its own, and over no input.

    Args:
        outputs: files to be written.
        inputs: files that were read, besides the datasets.
        datasets: whose files are all inputs.

    Raises:
        UserError: names the first that cannot.
    """
    taken = {path.resolve() for path in inputs}
    folders = []
    for split in datasets:
        content = split.content
        taken |= {content.path.resolve(), *(content.images_dir.resolve() / name for name in content.file_names)}
        folders += [content.path.resolve()] if content.path.is_dir() else []
    seen: set[Path] = set()
    for path in outputs:
        resolved = path.resolve()
        if resolved in taken or (path.is_file() and any(resolved.is_relative_to(folder) for folder in folders)):
            raise UserError(f"{path}: is part of what is checked and is never written to; choose another file name")
        if resolved in seen:
            raise UserError(f"{path}: would be written twice; choose file names of their own")
        check_writable(path)
        seen.add(resolved)


def check_fix_outputs(paths: Iterable[tuple[Path, Path]]) -> None:
    """See that mended datasets replace nothing but what an earlier ``--fix`` wrote, which left its log beside it.

    Args:
        paths: the file of each dataset and its log.

    Raises:
        UserError: one of the two exists without the other.
    """
    for output, log in paths:
        if output.exists() != log.exists():
            found, absent = (output, log) if output.exists() else (log, output)
            raise UserError(
                f"{found}: exists already and is not from an earlier --fix (there is no {absent.name} beside it); "
                "choose another file name for --fix"
            )
