"""Batches for training, prepared ahead of the network in threads or processes (torch)."""

from __future__ import annotations

import gc
import multiprocessing
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from calipose.data.augment import Sample
from calipose.errors import ImageError
from calipose.training.order import EpochBatches, Key
from calipose.training.samples import TrainingImages


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch of samples of equal size, padded to p people; padding has no labelled keypoint.

    Attributes:
        images: `(b, h, w, 3)` uint8 RGB.
        keypoints_inp: `(b, p, k, 2)` float32, input pixels; p >= 1.
        labelled: `(b, p, k)` bool.
        area_inp: `(b, p)` float32, square input pixels; 0 for padding.
        ignore_cell: `(b, h / 4, w / 4)` bool, cells without weight in the score's loss.
        index: `(b,)` int64, indices of the images in their data set.
    """

    images: Tensor
    keypoints_inp: Tensor
    labelled: Tensor
    area_inp: Tensor
    ignore_cell: Tensor
    index: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def to(self, device: torch.device | str) -> Batch:
        """Copy the batch to another device (in the background where the memory is pinned)."""
        return Batch(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))

    def pin_memory(self) -> Batch:
        """Copy the batch to memory that a GPU reads directly; torch's DataLoader calls this."""
        return Batch(*(getattr(self, field.name).pin_memory() for field in fields(self)))


def collate(samples: Sequence[Sample]) -> Batch:
    """Put samples of equal size into one batch."""
    max_people = max(1, *(len(sample.area_inp) for sample in samples))

    def padded(field: str) -> Tensor:
        values = [getattr(sample, field) for sample in samples]
        out = np.zeros((len(samples), max_people, *values[0].shape[1:]), values[0].dtype)
        for row, value in zip(out, values, strict=True):
            row[: len(value)] = value
        return torch.from_numpy(out)

    return Batch(
        images=torch.from_numpy(np.stack([sample.image for sample in samples])),
        keypoints_inp=padded("keypoints_inp"),
        labelled=padded("labelled"),
        area_inp=padded("area_inp"),
        ignore_cell=torch.from_numpy(np.stack([sample.ignore_cell for sample in samples])),
        index=torch.tensor([sample.index for sample in samples], dtype=torch.int64),
    )


def training_batches(images: TrainingImages, batches: EpochBatches, workers: int = 0) -> Iterator[Batch]:
    """Batches of an epoch, prepared ahead; they do not depend on `workers`.

    Args:
        images: the augmented images.
        batches: which images in which batch.
        workers: number of loading processes. 0: two threads of this process, which is enough for one accelerator or a
            CPU, as OpenCV works outside of Python's lock.

    Yields:
        The batches in order.

    Raises:
        ImageError: an image cannot be read; the message names its file.
    """
    return _threaded(images, batches) if workers == 0 else _forked(images, batches, workers)


def _forked(images: TrainingImages, batches: EpochBatches, workers: int) -> Iterator[Batch]:
    # Forked workers share the store's arrays; the other ways to start a process copy them.
    fork = "fork" in multiprocessing.get_all_start_methods()
    loader: DataLoader[Sample | ImageError] = DataLoader(
        _Guarded(images),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_guarded_collate,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_start_worker,
        multiprocessing_context="fork" if fork else None,
    )
    for batch in loader:
        if isinstance(batch, ImageError):
            raise batch
        yield batch


class _Guarded(Dataset["Sample | ImageError"]):
    """Returns an image's error as a value instead of raising it.

    If a worker raised it, the message would be wrapped in a traceback, and that traceback would keep the workers alive
    until the next garbage collection.
    """

    def __init__(self, images: TrainingImages) -> None:
        self.images = images

    def __getitem__(self, key: Key) -> Sample | ImageError:
        try:
            return self.images[key]
        except ImageError as error:
            return error


def _guarded_collate(samples: Sequence[Sample | ImageError]) -> Batch | ImageError:
    errors = [sample for sample in samples if isinstance(sample, ImageError)]
    return errors[0] if errors else collate([s for s in samples if isinstance(s, Sample)])


def _start_worker(_: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # a terminal or a scheduler signals the whole process group;
        signal.signal(number, signal.SIG_IGN)  # when to stop is the parent's decision, it saves first
    gc.freeze()  # garbage collection writes to every object it looks at, and would copy the parent's memory
    cv2.setNumThreads(0)  # OpenCV's threads do not survive a fork, and the workers are the parallelism


def _threaded(images: TrainingImages, batches: EpochBatches) -> Iterator[Batch]:
    threads, ahead = 2, 2  # ahead: batches in preparation while one is trained on
    pool = ThreadPoolExecutor(threads, thread_name_prefix="images")
    waiting: deque[list[Future[Sample]]] = deque()
    try:
        for keys in batches:
            waiting.append([pool.submit(images.__getitem__, key) for key in keys])
            if len(waiting) > ahead:
                yield collate([future.result() for future in waiting.popleft()])
        while waiting:
            yield collate([future.result() for future in waiting.popleft()])
    finally:
        pool.shutdown(cancel_futures=True)
