"""Images with their annotations, one sample at a time."""

from pathlib import Path

from torch import Tensor

from detector.data.annotations import AnnotationTable, build_table, complete_sizes
from detector.data.decode import ImageError, Pixels, decode_image_data, read_image_file
from detector.data.formats.coco import read_coco_json
from detector.data.formats.content import DatasetContent
from detector.data.pixel_cache import PixelCache
from detector.data.stages import StageClock
from detector.errors import UserError
from detector.structures import Categories, Sample, Size


class DetectionDataset:
    """Reads samples; cheap to hand to loader processes, as all that is large is in shared memory.

    Args:
        table: the annotations.
        images_dir: folder that the file names of ``table`` are relative to.
        cache: decoded images; None: all are read from their files.
    """

    def __init__(self, table: AnnotationTable, images_dir: Path, cache: PixelCache | None = None) -> None:
        self.table = table
        self.images_dir = images_dir
        self._cache = cache

    @property
    def categories(self) -> Categories:
        """The K classes."""
        return self.table.categories

    @property
    def sizes(self) -> Tensor:
        """[I, 2] int64, (height, width) of the images in pixels."""
        return self.table.sizes

    def __len__(self) -> int:
        """I, the number of images."""
        return len(self.table)

    def image_path(self, index: int) -> Path:
        """Return the file of image ``index`` in [0, I)."""
        return self.images_dir / self.table.file_names[index]

    def __getitem__(self, index: int) -> Sample:
        """Read image ``index`` in [0, I); see :meth:`read`."""
        return self.read(index, StageClock())

    def read(self, index: int, clock: StageClock) -> Sample:
        """Read image ``index`` in [0, I) with its boxes, labels and ignore flags, in the file's order.

        Args:
            index: of the image.
            clock: adds up the time that the file and its decoding take.

        Raises:
            ImageError: the image cannot be read, has another size than annotated, or where none is annotated another
                one than when the dataset was opened; names file and image id.
            IndexError: there is no such image.
        """
        table = self.table
        if not 0 <= index < len(table):
            raise IndexError(f"image {index} of {len(table)}")
        height, width = table.sizes[index].tolist()
        image_id = int(table.image_ids[index])
        try:
            image = self._decode(index, (height, width), clock)
        except ImageError as error:
            raise ImageError(f"image id {image_id}: {error}") from error
        start, end = table.box_offsets[index : index + 2].tolist()
        return Sample(
            image=image,
            # Copies: whoever changes a sample must not change the shared table.
            boxes=table.boxes[start:end].numpy().copy(),
            labels=table.labels[start:end].numpy().copy(),
            ignore=table.ignore[start:end].numpy().copy(),
            image_id=image_id,
            original_size=(height, width),
        )

    def _decode(self, index: int, size: Size, clock: StageClock) -> Pixels:
        """Decode an image whose size is annotated by that, any other one as viewers show it."""
        if self._cache is not None:
            with clock.stage("read"):
                cached = self._cache.get(index, size)
            if cached is not None:
                return cached
        path = self.image_path(index)
        is_measured = bool(self.table.is_measured[index])
        with clock.stage("read"):
            data = read_image_file(path)
        with clock.stage("decode"):
            image = decode_image_data(path, data, None if is_measured else size)
        if image.shape[:2] != size:
            raise ImageError(
                f"{path}: the image has {image.shape[0]} x {image.shape[1]} pixels, but had {size[0]} x {size[1]} "
                "when the dataset was opened (height x width): the file has changed since; start again"
            )
        return image


def open_coco_dataset(annotations: Path, images: Path) -> DetectionDataset:
    """Open a dataset in COCO format; see :func:`open_dataset`.

    Args:
        annotations: COCO JSON file.
        images: folder of the images.
    """
    return open_dataset(read_coco_json(annotations, images))[0]


def open_dataset(content: DatasetContent) -> tuple[DetectionDataset, DatasetContent]:
    """Open a dataset that was read.

    Args:
        content: its annotations; sizes that they do not give are read from the headers of the images.

    Returns:
        The dataset, and the annotations with all sizes. That all images are there is for
        :func:`detector.inspect.startup.check_files_present` to see.

    Raises:
        UserError: the image folder is missing, or an image whose size is needed is unreadable.
    """
    folder = content.images_dir
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise UserError(f"{folder}: the image folder {found}; expected the folder with the images of {content.path}")
    content = complete_sizes(content)
    return DetectionDataset(build_table(content), folder), content
