"""Loaders that yield batches, the same ones for any number of worker processes."""

import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Sampler

from detector.config import DataConfig
from detector.data.batch_source import BatchSource, ImageDataset, Loaded
from detector.data.buffers import BatchBuffers
from detector.data.continued_sampler import BatchSampler, ContinuedSampler
from detector.data.padding import Padding
from detector.data.repeat_factors import RepeatFactors
from detector.data.samplers import EvalSampler, SampleKey, TrainSampler, split_batch
from detector.data.skipped_images import SkippedImages
from detector.data.slot_sampler import PREFETCH_FACTOR, SlotSampler, build_buffers
from detector.data.stages import StageSeconds
from detector.data.transforms import Transforms
from detector.data.worker_deaths import Stream, discard_if_dead, leave_signals_alone, restarting
from detector.data.worker_exit import end_at_exit
from detector.errors import ResourceError, UserError
from detector.structures import Batch


class BatchLoader:
    """Iterable of batches, read ahead by worker processes.

    An error of the user's input that a worker meets is raised here with its plain message, not inside the text of a
    worker's traceback. Images skipped as unreadable are named here, each once. A worker that is killed is replaced.

    Args:
        make_loader: makes the loader of a sampler's batches.
        sampler: deals the batches.
        max_unreadable: different images that may be skipped.
        keeps_workers: whether the worker processes wait for the next pass. Each holds the memory of the training
            process as it was when it was started, page by page as that changes its own: those that are idle for long
            should rather end.
    """

    def __init__(
        self,
        make_loader: "Callable[[Sampler[list[SampleKey]]], DataLoader[Loaded]]",
        sampler: BatchSampler,
        max_unreadable: int = 0,
        *,
        keeps_workers: bool = True,
    ) -> None:
        self._keeps_workers = keeps_workers
        self._has_begun = False
        self._sampler = ContinuedSampler(sampler)
        self._make_loader = make_loader
        self._loader = make_loader(self._sampler)
        self._skipped = SkippedImages(max_unreadable)
        self._seconds = StageSeconds()

    def __iter__(self) -> Iterator[Batch]:
        for loaded in restarting(self._open(), self._open_again):
            self._skipped.add(loaded.notes)
            self._seconds = self._seconds.plus(loaded.seconds)
            batch = loaded.unpack()
            if batch is None:
                raise UserError(loaded.error)
            del loaded  # so that the memory of the batch is free as soon as the caller is done with it
            yield batch
            del batch
        self.buffers.release_memory()

    def take_seconds(self) -> StageSeconds:
        """Return what this loader's processes have spent on the batches since the last call, by stage."""
        taken, self._seconds = self._seconds, StageSeconds()
        return taken

    @property
    def buffers(self) -> BatchBuffers:
        """What batches are written to."""
        source = self._loader.dataset
        assert isinstance(source, BatchSource)
        return source.buffers

    def _open_again(self, first: int) -> "Stream[Loaded]":
        """Make a new loader in place of one with a dead process, and start it at the batch that was next."""
        self._loader, self._has_begun = self._make_loader(self._sampler), False
        return self._open(first)

    def _open(self, first: int = 0) -> "Stream[Loaded]":
        is_spent = self._has_begun and self._loader.num_workers > 0 and not self._keeps_workers
        if is_spent or discard_if_dead(self._loader._iterator):
            self._loader = self._make_loader(self._sampler)
        self._has_begun = True
        self._sampler.first = first
        try:
            with _quiet_about_many_workers():
                stream = iter(self._loader)
        except OSError as error:
            raise ResourceError(
                f"data.num_workers: the loader processes cannot be started: {error.strerror}; lower it"
            ) from error
        finally:
            self._sampler.first = 0
        leave_signals_alone()
        end_at_exit(stream)
        return stream

    def __len__(self) -> int:
        """Number of batches of this process; only of an evaluation loader, as training never ends.

        Raises:
            TypeError: it is a training loader.
        """
        return len(self._loader)


def build_train_loader(
    data: DataConfig,
    dataset: ImageDataset,
    transforms: Transforms,
    *,
    seed: int,
    repeats: RepeatFactors | None = None,
    start_step: int = 0,
    rank: int = 0,
    num_processes: int = 1,
    pin_memory: bool = False,
) -> BatchLoader:
    """Build the endless loader of micro-batches of one training process.

    Args:
        data: sizes, batch, workers and what to do with unreadable images.
        dataset: training images.
        transforms: augmentation.
        seed: decides order, short sides and augmentation, together with the position of a sample and nothing else.
        repeats: from :func:`~detector.data.repeat_factors.build_repeat_factors`; None without ``data.repeat_thresh``.
        start_step: the first optimiser step to yield the micro-batches of.
        rank: this process, in [0, num_processes).
        num_processes: number of training processes.
        pin_memory: whether batches come in page-locked memory; needs an accelerator.

    Returns:
        A loader that starts at ``start_step`` whenever it is iterated.

    Raises:
        UserError: the batch does not divide among processes and micro-batches, or the dataset is empty. While
            iterating: an image cannot be read, a transform fails, or no bucket fits.
        ValueError: there are repeat factors without ``data.repeat_thresh``, or the other way round.
    """
    if (data.repeat_thresh is None) != (repeats is None):
        raise ValueError(f"data.repeat_thresh is {data.repeat_thresh}, but repeats is {repeats}")
    padding = Padding(data.pad_multiple, data.buckets)
    sampler = TrainSampler(
        dataset.sizes,
        batch_size=data.batch_size,
        seed=seed,
        short_sides=data.short_side,
        max_side=data.max_side,
        padding=padding,
        aspect_grouping=data.aspect_grouping,
        repeat_factors=None if repeats is None else repeats.of_image,
        images_per_forward=data.images_per_forward,
        rank=rank,
        num_processes=num_processes,
        start_step=start_step,
    )
    make_source = partial(BatchSource, dataset, padding, data.max_side, transforms, seed, data.on_unreadable)
    make_buffers = partial(build_buffers, data, *split_batch(data.batch_size, data.images_per_forward, num_processes))
    make_loader = partial(_data_loader, make_source, make_buffers, num_workers=data.num_workers, pin_memory=pin_memory)
    return BatchLoader(make_loader, sampler, data.max_unreadable)


def build_eval_loader(
    data: DataConfig,
    dataset: ImageDataset,
    *,
    short_side: int,
    batch_size: int,
    rank: int = 0,
    num_processes: int = 1,
    pin_memory: bool = False,
) -> BatchLoader:
    """Build the loader that covers a dataset once over all processes, without augmentation.

    Args:
        data: ``max_side``, padding and workers.
        dataset: images to be scored on; may be empty.
        short_side: target of the resize in pixels.
        batch_size: images that one process forwards at once; the last batch of a shape may be shorter.
        rank: this process, in [0, num_processes).
        num_processes: number of processes; they may get different numbers of batches.
        pin_memory: whether batches come in page-locked memory; needs an accelerator.

    Returns:
        A loader with a length; an unreadable image stops it, as leaving it out would change the score.

    Raises:
        UserError: no bucket fits. While iterating: an image cannot be read.
    """
    padding = Padding(data.pad_multiple, data.buckets)
    sampler = EvalSampler(
        dataset.sizes,
        short_side=short_side,
        max_side=data.max_side,
        padding=padding,
        batch_size=batch_size,
        rank=rank,
        num_processes=num_processes,
    )
    make_source = partial(BatchSource, dataset, padding, data.max_side)
    make_buffers = partial(build_buffers, data, batch_size)
    make_loader = partial(
        _data_loader,
        make_source,
        make_buffers,
        num_workers=data.num_workers,
        pin_memory=pin_memory,
        keeps_workers=False,
    )
    return BatchLoader(make_loader, sampler, keeps_workers=False)


def _data_loader(
    make_source: Callable[..., BatchSource],
    make_buffers: Callable[[], BatchBuffers],
    sampler: Sampler[list[SampleKey]],
    num_workers: int,
    pin_memory: bool,
    *,
    keeps_workers: bool = True,
) -> "DataLoader[Loaded]":
    buffers = make_buffers()  # new ones for every loader: what is left of one before must not write to them
    with _quiet_about_many_workers():
        return DataLoader(
            make_source(buffers=buffers),
            batch_sampler=SlotSampler(sampler, buffers),  # type: ignore[arg-type]  # no lists, but only we read them
            num_workers=num_workers,
            prefetch_factor=PREFETCH_FACTOR if num_workers else None,
            collate_fn=_as_it_is,
            pin_memory=pin_memory,
            persistent_workers=keeps_workers and num_workers > 0,
            worker_init_fn=_start_worker,
            # A generator of its own: iterating must not move the global random state of the training process.
            generator=torch.Generator(),
        )


@contextmanager
def _quiet_about_many_workers() -> Iterator[None]:
    """Let ``data.num_workers`` be the user's choice: ``DataLoader`` warns about more processes than cores."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        yield


def _as_it_is(loaded: Any) -> Any:
    return loaded


def _start_worker(worker_id: int) -> None:
    """One thread per worker: the processes are the parallelism.

    A request to stop often reaches the whole process group (Ctrl-C, a batch system). It is the training process's to
    handle: it finishes its step and saves, for which it needs the workers. They end when it does.
    """
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
