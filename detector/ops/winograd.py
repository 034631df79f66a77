"""Convolutions of 3x3 with a quarter of the multiplications: Winograd's F(4x4, 3x3) in plain matrix products.

An output tile of 4x4 needs a 6x6 patch of the input: y = A^T [(G w G^T) * (B^T d B)] A (Lavin and Gray 2016, "Fast
Algorithms for Convolutional Neural Networks", Sec. 4.3), where the product in the middle sums over input channels. The
products of all tiles at one of the 36 places are one matrix product, so that nearly all of the work is 36 of them. The
transforms are small matrix products too, and so are their gradients.

The result is that of the direct convolution but for rounding: in float32 its error is 2e-6 of the result's norm, the
direct one's 6e-7 (against float64).

Letters: N images, H and W rows and columns, C channels in, K channels out, T tiles of 4x4 outputs.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

TILE: Final = 4
"""Rows and columns of outputs that one tile makes."""

_PATCH: Final = TILE + 2
_PLACES: Final = _PATCH**2

_TILES_AT_ONCE: Final = 160
"""About so many tiles are worked on at a time: their patches stay in the processor's cache (256 channels: 6 MB), and
the matrix products are still large enough."""

_EXACT: Final = (
    (((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)), 1),
    (
        (
            (4, 0, -5, 0, 1, 0),
            (0, -4, -4, 1, 1, 0),
            (0, 4, -4, -1, 1, 0),
            (0, -2, -1, 2, 1, 0),
            (0, 2, -1, -2, 1, 0),
            (0, 4, 0, -5, 0, 1),
        ),
        1,
    ),
    (((6, 0, 0), (-4, -4, -4), (-4, 4, -4), (1, 2, 4), (1, -2, 4), (0, 0, 24)), 24),
)
"""The paper's A^T, B^T and G as (rows, divisor)."""


def num_tiles(images: int, height: int, width: int) -> int:
    """Return T, the tiles that cover the outputs of all images."""
    return images * -(-height // TILE) * -(-width // TILE)


def transform_weight(weight: Tensor) -> Tensor:
    """Return [36, C, K], what :func:`winograd_conv2d` takes, of weights [K, C, 3, 3]; differentiable."""
    out_channels, in_channels = weight.shape[:2]
    by_place = weight.permute(2, 3, 1, 0).reshape(9, in_channels * out_channels)
    return _transform(_matrices(weight.dtype).weight, by_place).view(_PLACES, in_channels, out_channels)


def winograd_conv2d(x: Tensor, transformed: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return a 3x3 convolution with stride 1 and padding 1; differentiable once.

    Args:
        x: [N, C, H, W], any memory format.
        transformed: [36, C, K] of :func:`transform_weight`; one that serves several inputs is transformed once.
        bias: [K].

    Returns:
        [N, K, H, W] in channels-last memory.
    """
    return _WinogradConv2d.apply(x, transformed, bias)  # type: ignore[no-any-return]


class _WinogradConv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, transformed: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, transformed)
        num_images, _, height, width = x.shape
        out_channels = transformed.shape[2]
        grid = _Grid.over(height, width)
        padded = _pad(x, grid)
        shape = (num_images, out_channels, grid.height, grid.width)
        y = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
        tiles = _tiles_of(y, grid)
        matrix = _matrices(x.dtype).output
        for part in _parts(num_images, grid):
            products = torch.bmm(_transformed_patches(padded, part), transformed)  # [36, T, K]
            outputs = _transform(matrix, products.view(_PLACES, -1)).view(
                TILE, TILE, -1, part.num_rows, grid.columns, out_channels
            )
            target = tiles[part.images, part.rows].permute(2, 4, 0, 1, 3, 5)
            target.copy_(outputs) if bias is None else torch.add(outputs, bias, out=target)
        if (height, width) == (grid.height, grid.width):
            return y
        return y[:, :, :height, :width].contiguous(memory_format=torch.channels_last)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, transformed = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        num_images, in_channels, height, width = x.shape
        grid = _Grid.over(height, width)
        padded = _pad(x, grid) if needs_weight else None
        grad_padded = x.new_zeros(num_images, grid.height + 2, grid.width + 2, in_channels) if needs_x else None
        grad_transformed = torch.zeros_like(transformed) if needs_weight else None
        grad_tiles = _tiles_of(grad, grid)
        matrices = _matrices(x.dtype)
        for part in _parts(num_images, grid):
            grads = grad_tiles[part.images, part.rows].permute(2, 4, 0, 1, 3, 5).reshape(TILE * TILE, -1)
            grad_products = _transform(matrices.output.t(), grads).view(_PLACES, -1, grad.shape[1])  # [36, T, K]
            if padded is not None and grad_transformed is not None:
                grad_transformed.baddbmm_(_transformed_patches(padded, part).transpose(1, 2), grad_products)
            if grad_padded is not None:
                grad_patches = torch.bmm(grad_products, transformed.transpose(1, 2)).view(_PLACES, -1)
                _add_patches(grad_padded, part, _transform(matrices.input.t(), grad_patches))
        grad_x = None if grad_padded is None else grad_padded[:, 1 : height + 1, 1 : width + 1].permute(0, 3, 1, 2)
        return grad_x, grad_transformed, grad.sum(dim=(0, 2, 3)) if needs_bias else None


class _Grid(NamedTuple):
    """Rows and columns of tiles."""

    rows: int
    columns: int

    @classmethod
    def over(cls, height: int, width: int) -> "_Grid":
        return cls(-(-height // TILE), -(-width // TILE))

    @property
    def height(self) -> int:
        return self.rows * TILE

    @property
    def width(self) -> int:
        return self.columns * TILE


class _Part(NamedTuple):
    """Tiles that are worked on at once: some rows of tiles of some images."""

    images: slice
    rows: slice
    columns: int

    @property
    def num_rows(self) -> int:
        return int(self.rows.stop - self.rows.start)

    @property
    def pixels(self) -> slice:
        """Rows of the padded input that the patches cover."""
        return slice(self.rows.start * TILE, self.rows.stop * TILE + 2)


def _parts(num_images: int, grid: _Grid) -> Iterator[_Part]:
    rows = min(grid.rows, max(1, _TILES_AT_ONCE // grid.columns))
    images = max(1, _TILES_AT_ONCE // (grid.rows * grid.columns)) if rows == grid.rows else 1
    for image in range(0, num_images, images):
        for row in range(0, grid.rows, rows):
            some_images = slice(image, min(image + images, num_images))
            yield _Part(some_images, slice(row, min(row + rows, grid.rows)), grid.columns)


class _Matrices(NamedTuple):
    """What transforms outputs [4, 6], inputs [6, 6] and weights [6, 3], along rows and then along columns."""

    output: Tensor
    input: Tensor
    weight: Tensor


@cache
def _matrices(dtype: torch.dtype) -> _Matrices:
    with torch.inference_mode(False):
        return _Matrices(*((torch.tensor(rows, dtype=torch.float64) / by).to(dtype) for rows, by in _EXACT))


def _transform(matrix: Tensor, values: Tensor) -> Tensor:
    """Return matrix @ V @ matrix^T for each V of values [c * c, X]: [r * r, X], for a matrix [r, c].

    Both times as a batch of products: one product with a long side rounds differently with another number of threads.
    """
    rows, columns = matrix.shape
    half = torch.bmm(matrix.expand(columns, rows, columns), values.view(columns, columns, -1).transpose(0, 1))
    return torch.bmm(matrix.expand(rows, rows, columns), half.transpose(0, 1)).view(rows * rows, -1)


def _pad(x: Tensor, grid: _Grid) -> Tensor:
    """Return [N, H', W', C] with a border of zeros that completes the patches."""
    num_images, channels, height, width = x.shape
    padded = x.new_empty(num_images, grid.height + 2, grid.width + 2, channels)
    padded[:, 1 : height + 1, 1 : width + 1] = x.permute(0, 2, 3, 1)
    for border in (padded[:, :1], padded[:, height + 1 :], padded[:, :, :1], padded[:, :, width + 1 :]):
        border.zero_()
    return padded


def _tiles_of(grad: Tensor, grid: _Grid) -> Tensor:
    """Return [N, rows, 4, columns, 4, K] of [N, K, H, W], with zeros outside; a copy only where it must be."""
    num_images, channels, height, width = grad.shape
    by_pixel = grad.permute(0, 2, 3, 1)
    if (height, width) != (grid.height, grid.width):
        whole = grad.new_zeros(num_images, grid.height, grid.width, channels)
        whole[:, :height, :width] = by_pixel
        by_pixel = whole
    return by_pixel.reshape(num_images, grid.rows, TILE, grid.columns, TILE, channels)


def _patches(padded: Tensor, part: _Part) -> Tensor:
    """Return the overlapping patches of a part as a view [6, 6, images, rows, columns, C]."""
    x = padded[part.images, part.pixels]
    image, row, column, channel = x.stride()
    shape = (_PATCH, _PATCH, x.shape[0], part.num_rows, part.columns, x.shape[3])
    return x.as_strided(shape, (row, column, image, TILE * row, TILE * column, channel))


def _transformed_patches(padded: Tensor, part: _Part) -> Tensor:
    """Return [36, T, C], what the products in the middle take."""
    patches = _patches(padded, part).reshape(_PLACES, -1)
    return _transform(_matrices(padded.dtype).input, patches).view(_PLACES, -1, padded.shape[3])


def _add_patches(padded: Tensor, part: _Part, patches: Tensor) -> None:
    """Add patches [36, T * C] where :func:`_patches` has read them."""
    target = _patches(padded, part)
    values = patches.view(target.shape)
    # Neighbours overlap in two rows and columns: first what lies in the tiles themselves, then the rest.
    for rows in (slice(0, TILE), slice(TILE, _PATCH)):
        for columns in (slice(0, TILE), slice(TILE, _PATCH)):
            target[rows, columns].add_(values[rows, columns])
