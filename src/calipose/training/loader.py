"""Batches for training: order of the images, reading and augmentation ahead of the network (torch)."""

from __future__ import annotations

import gc
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields

import cv2
import msgspec
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from calipose.config.settings import AugmentSettings
from calipose.data.augment import Sample, augment, mosaic
from calipose.data.store import KeypointData
from calipose.data.tars import read_span
from calipose.errors import ImageError, InputError
from calipose.io.images import Image, decode_image, read_image

Key = tuple[int, int]  # epoch, draw: the draws of image i are i, i + n, i + 2 n ... (n images)


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


def read_stored(data: KeypointData, index: int) -> Image:
    """Read image `index` of a data set, in the stored orientation, which its annotations have, too.

    Returns:
        `(h, w, 3)` uint8 RGB.

    Raises:
        ImageError: the file cannot be read, or its size is not the annotation file's.
    """
    path = data.image_path(index)
    if data.spans is None or not data.spans[index, 1]:
        image = read_image(path, ignore_orientation=True)
    else:
        content = read_span(data.folders[int(data.folder[index])], *data.spans[index].tolist())
        image = decode_image(content, str(path), ignore_orientation=True)
    width, height = (int(side) for side in data.sizes[index])
    if image.shape[:2] != (height, width):
        found = f"{image.shape[1]} x {image.shape[0]} pixels"
        raise ImageError(f"image {path} has {found}, its annotation file says {width} x {height}")
    return image


class ImageCache:
    """All images of a small data set, decoded once: 0.7 GiB for 3,000 images of 286 x 262.

    Forked data workers share it. It is called with a data set and an index, as `read_stored` is.

    Args:
        data: the data set.

    Raises:
        ImageError: an image cannot be read.

    Example:
        >>> images = TrainingImages(data, 192, AugmentSettings(), (0, 0, 0), seed=0, read=ImageCache(data))
    """

    def __init__(self, data: KeypointData) -> None:
        self._data = data
        with ThreadPoolExecutor() as pool:
            self._images = list(pool.map(lambda index: read_stored(data, index), range(len(data))))

    def __call__(self, data: KeypointData, index: int) -> Image:
        """Image `index` of the data set that the cache was made for."""
        if data is not self._data:
            raise InputError("the image cache was made for another data set; make one for this data set")
        return self._images[index]


class TrainingImages(Dataset[Sample]):
    """The augmented images of a data set.

    The sample of (epoch, draw) depends on the seed only: not on the number of workers, the process, or earlier
    samples. So a resumed training gets the samples that it would have got without an interruption.

    Args:
        data: images and annotations.
        size: side of the square input in pixels, a multiple of 32.
        settings: augmentation.
        pad_colour: `(3,)` RGB, 0 to 255, outside of the images.
        seed: 0 or more.
        read: `read_stored`, or an `ImageCache` of `data`.
        repeats: `(n,)`, how often an epoch uses each image, as for `EpochBatches`: the other images of a mosaic are
            sampled in these proportions. By default all are equal.

    Raises:
        InputError: `size` is not a multiple of 32, or `repeats` has not one number for each image.

    Example:
        >>> images = TrainingImages(data, 192, AugmentSettings(), (0, 0, 0), seed=0)
        >>> images[0, 5].image.shape  # epoch 0, image 5
        (192, 192, 3)
    """

    def __init__(
        self,
        data: KeypointData,
        size: int,
        settings: AugmentSettings,
        pad_colour: ArrayLike,
        seed: int,
        read: Callable[[KeypointData, int], Image] = read_stored,
        repeats: ArrayLike | None = None,
    ) -> None:
        if size <= 0 or size % 32:
            raise InputError(f"input size {size} must be a multiple of 32")
        self.data, self.size, self.settings, self.seed = data, size, settings, seed
        # A mosaic's tile has half the size, so half the shift moves a person by the same part of it.
        self.tile_settings = msgspec.structs.replace(settings, shift_inp=settings.shift_inp / 2)
        self.ends = np.cumsum(_checked(np.ones(len(data)) if repeats is None else repeats))
        if len(self.ends) != len(data):
            raise InputError(f"{len(self.ends)} repeats for {len(data)} images; give one number for each image")
        self.pad_colour = np.asarray(pad_colour, np.float64)
        self.read = read

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: Key) -> Sample:
        """The sample of (epoch, draw); draw i + c n is the c-th repetition of image i.

        Raises:
            ImageError: the image cannot be read; the message names its file.
        """
        epoch, draw = key
        rng = np.random.default_rng([self.seed, epoch, draw])
        index = draw % len(self.data)
        if rng.random() >= self.settings.mosaic:
            return self._augmented(index, self.size, self.settings, rng)
        partners = np.searchsorted(self.ends, rng.random(3) * self.ends[-1], side="right")
        tiles = [index, *partners.tolist()]
        return mosaic([self._augmented(i, self.size // 2, self.tile_settings, rng) for i in tiles])

    def _augmented(self, index: int, size: int, settings: AugmentSettings, rng: np.random.Generator) -> Sample:
        image = self.read(self.data, index)
        labels, skeleton = self.data.labels(index), self.data.skeleton
        return augment(image, labels, size, settings, rng, self.pad_colour, skeleton)


class EpochBatches(Sampler[list[Key]]):
    """The images of each batch of one epoch, in one of `world_size` processes.

    The order is a permutation that depends on (seed, epoch) only. All processes take equally many batches;
    images that do not fill a batch of every process are left out of this epoch.

    Args:
        images: number of images (n), or `(n,)`, how often the epoch uses each image. A fraction is the probability
            of one more draw; the length of the epoch, the sum rounded down, is always the same.
        batch_size: images per batch and process.
        seed: 0 or more.
        epoch: 0 or more.
        rank: index of this process, below `world_size`.
        world_size: number of processes.
        start_step: number of batches to leave out, since they were trained on before an interruption.

    Raises:
        InputError: the images do not fill one batch of every process.

    Example:
        >>> [len(batch) for batch in EpochBatches(10, batch_size=4, seed=0, epoch=0)]
        [4, 4]
    """

    def __init__(
        self,
        images: int | ArrayLike,
        batch_size: int,
        seed: int,
        epoch: int,
        rank: int = 0,
        world_size: int = 1,
        start_step: int = 0,
    ) -> None:
        repeats = np.ones(images) if isinstance(images, int) else images
        self.draws = _draws(_checked(repeats), np.random.default_rng([seed, epoch]))
        self.steps = len(self.draws) // (batch_size * world_size)
        if not self.steps:
            batches = f"{world_size} process(es) with batches of {batch_size}"
            raise InputError(f"{len(self.draws)} images an epoch are too few for {batches}; use smaller batches")
        self.batch_size, self.epoch = batch_size, epoch
        self.rank, self.world_size, self.start_step = rank, world_size, start_step

    def __len__(self) -> int:
        return max(0, self.steps - self.start_step)

    def __iter__(self) -> Iterator[list[Key]]:
        for step in range(self.start_step, self.steps):
            first = (step * self.world_size + self.rank) * self.batch_size
            yield [(self.epoch, int(draw)) for draw in self.draws[first : first + self.batch_size]]


def _checked(repeats: ArrayLike) -> NDArray[np.float64]:
    repeats = np.asarray(repeats, np.float64)
    if repeats.ndim != 1 or not np.isfinite(repeats).all() or (repeats < 0).any():
        raise InputError("repeats must be one number for each image, finite and not negative")
    return repeats


def _draws(repeats: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draws of an epoch in random order: image i floor(r) or ceil(r) times, as i, i + n, i + 2 n ...

    Systematic sampling: the images, in random order, are intervals on a line, each as long as its repeats. Points at
    distance 1, from a random start, each sample the image in whose interval they are.
    """
    order = rng.permutation(len(repeats))
    ends = np.cumsum(repeats[order])
    total = int(ends[-1] + 1e-6) if len(ends) else 0
    points = rng.random() + np.arange(total)
    intervals = np.searchsorted(ends, np.minimum(points, ends[-1:] * (1 - 1e-12)), side="right")
    copies = np.arange(total) - np.searchsorted(intervals, intervals)  # 0, 1, 2 ... within an interval
    draws: NDArray[np.int64] = rng.permutation(order[intervals] + copies * len(repeats))
    return draws


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
