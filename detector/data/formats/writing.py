"""Write a dataset in any format, and read it back to see that nothing was lost."""

from collections.abc import Mapping
from pathlib import Path
from typing import assert_never

from detector.data.formats.content import DatasetContent, FormatName
from detector.data.formats.limits import Fitted, fit_to
from detector.data.formats.placing import place_images
from detector.data.formats.shown_size import SIZELESS, check_shown_sizes
from detector.data.formats.verify import check_written
from detector.data.formats.write_coco import write_coco
from detector.data.formats.write_csv import write_csv
from detector.data.formats.write_voc import write_voc
from detector.data.formats.write_yolo import write_yolo


def write_dataset(
    folder: Path, form: FormatName, splits: Mapping[str, DatasetContent], *, copy_images: bool
) -> dict[str, Fitted]:
    """Write a dataset with its images.

    Args:
        folder: an empty folder, an absolute path.
        form: the format to write.
        splits: what to write, by the names of the splits: all with the same classes, and all sizes known.
        copy_images: copy the images; else they are links to the files where they are.

    Returns:
        What was written, and what could not be, by the names of the splits.

    Raises:
        UserError: an image is missing or turned by its EXIF orientation, a name cannot be written, or there is no room.
        RuntimeError: the dataset does not read back as it was.
    """
    fitted = {split: fit_to(content, form, split) for split, content in splits.items()}
    contents = {split: part.content for split, part in fitted.items()}
    if form in SIZELESS:
        for content in contents.values():
            check_shown_sizes(content, form)
    match form:
        case "coco":
            places = write_coco(folder, contents)
        case "voc":
            places = write_voc(folder, contents)
        case "yolo":
            places = write_yolo(folder, contents)
        case "csv":
            places = write_csv(folder, contents)
        case _:
            assert_never(form)
    for split, content in contents.items():
        sources = [content.images_dir / name for name in content.file_names]
        place_images(sources, [folder / place for place in places[split]], copy=copy_images)
    for split, content in contents.items():
        check_written(folder, split, form, content, places[split])
    return fitted
