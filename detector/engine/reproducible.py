"""The same bits on every run: seeds, and algorithms that do not depend on the order in which a GPU happens to add.

What ``deterministic: true`` cannot promise stands in docs/reproducibility.md.
"""

import os

import torch

CUBLAS_WORKSPACE = ":4096:8"
"""Workspaces with which cuBLAS is deterministic: eight of 4 MiB."""


FEW_SHAPES = 8
"""Padded shapes up to which cuDNN may search."""


def make_reproducible(seed: int, *, deterministic: bool) -> None:
    """Seed torch, and allow deterministic algorithms only if asked to.

    torch's global random numbers make the initial weights and nothing else: order, sizes and augmentation have numbers
    of their own, by seed and position. So no checkpoint holds a random state.

    Args:
        seed: of the run.
        deterministic: as in the configuration.
    """
    torch.manual_seed(seed)
    if deterministic:
        # cuBLAS reads it when it is first used; torch refuses its nondeterministic workspaces otherwise.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS_WORKSPACE)
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False  # it times algorithms, and may choose another one each time


def search_convolutions(num_shapes: int | None, *, deterministic: bool) -> None:
    """Let cuDNN time its algorithms for each shape, where shapes are few: a search takes about a second (torch's docs).

    Args:
        num_shapes: padded shapes that batches can have; None = not bounded.
        deterministic: as in the configuration; then there is no search.
    """
    torch.backends.cudnn.benchmark = not deterministic and num_shapes is not None and num_shapes <= FEW_SHAPES
