"""Many strings in two tensors, so that processes share them instead of copying Python objects."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class PackedStrings:
    """A read-only sequence of strings.

    A list of Python strings is copied into every loader worker sooner or later: under fork by its reference counts,
    under spawn by pickling. These two tensors are not.

    Attributes:
        blob: [total bytes] uint8, the UTF-8 texts one after the other.
        offsets: [S + 1] int64, string ``i`` is ``blob[offsets[i]:offsets[i + 1]]``.
    """

    blob: Tensor
    offsets: Tensor

    @classmethod
    def pack(cls, strings: Sequence[str]) -> Self:
        """Pack ``strings``; there may be none."""
        # File names that are no UTF-8 reach Python, and so JSON, as lone surrogates: keep them.
        encoded = [text.encode("utf-8", "surrogatepass") for text in strings]
        offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
        np.cumsum([len(text) for text in encoded], out=offsets[1:])
        blob = np.frombuffer(bytearray(b"".join(encoded)), dtype=np.uint8)
        return cls(torch.from_numpy(blob), torch.from_numpy(offsets))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> str:
        if not 0 <= index < len(self):
            raise IndexError(f"string {index} of {len(self)}")
        start, end = self.offsets[index : index + 2].tolist()
        return self.blob[start:end].numpy().tobytes().decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        data, ends = self.blob.numpy().tobytes(), self.offsets.tolist()
        for start, end in itertools.pairwise(ends):
            yield data[start:end].decode("utf-8", "surrogatepass")
