"""Put the images of a dataset where another format wants them: as links, or as copies."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from detector.errors import UserError


def place_images(sources: Sequence[Path], targets: Sequence[Path], *, copy: bool) -> None:
    """Make each target the image that its source is.

    Args:
        sources: existing image files.
        targets: paths that do not exist, one for each source; their folders are made.
        copy: copy the files; else the targets are links to them, which cost nothing but stand on their originals.

    Raises:
        UserError: a source is missing, or a target cannot be written.
    """
    missing = [source for source in sources if not source.is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(f"{missing[0]}: the image is missing{more}; expected an image for each entry of the dataset")
    for folder in dict.fromkeys(target.parent for target in targets):
        folder.mkdir(parents=True, exist_ok=True)
    for source, target in zip(sources, targets, strict=True):
        try:
            if copy:
                shutil.copyfile(source, target)
            else:
                target.symlink_to(os.path.realpath(source))
        except OSError as error:
            raise UserError(f"{target}: the image cannot be written: {error.strerror}") from error
