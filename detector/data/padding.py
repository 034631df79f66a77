"""The shapes that batches are padded to."""

from collections.abc import Iterable
from dataclasses import dataclass

from detector.errors import UserError
from detector.structures import Size


@dataclass(frozen=True, slots=True)
class Padding:
    """Rule for the padded shape of a batch.

    Args:
        multiple: height and width are rounded up to a multiple of this many pixels, unless there are buckets.
        buckets: (height, width) shapes; the fitting one of the smallest area is taken, the first on a tie.
    """

    multiple: int
    buckets: tuple[Size, ...] | None = None

    def padded(self, sizes: Iterable[Size]) -> Size:
        """Return the shape that holds every image of a batch. A padded shape pads to itself.

        Args:
            sizes: (height, width) in pixels of at least one image.

        Returns:
            (height, width) in pixels.

        Raises:
            UserError: there are buckets and none of them fits.
        """
        sizes = list(sizes)
        height, width = max(h for h, _ in sizes), max(w for _, w in sizes)
        if self.buckets is None:
            return -(-height // self.multiple) * self.multiple, -(-width // self.multiple) * self.multiple
        fitting = [bucket for bucket in self.buckets if bucket[0] >= height and bucket[1] >= width]
        if not fitting:
            shapes = ", ".join(f"{h}x{w}" for h, w in self.buckets)
            raise UserError(
                f"data.buckets: {len(sizes)} image(s) need a batch of {height}x{width} (height x width), which fits in "
                f"none of the buckets {shapes}; add a larger bucket, or lower data.short_side or data.max_side"
            )
        return min(fitting, key=lambda bucket: bucket[0] * bucket[1])
