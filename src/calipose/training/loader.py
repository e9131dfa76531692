"""Batches for training: which images, in which order, read and augmented ahead of the network (torch)."""

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
from calipose.errors import ImageError, InputError
from calipose.io.images import Image, read_image

Key = tuple[int, int]  # epoch, draw: image i is drawn as i, i + n, i + 2 n ... (n images)


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples of equal size; people are padded with ones that have no labelled keypoint.

    Attributes:
        images: (b, h, w, 3) uint8 RGB.
        keypoints_inp: (b, p, k, 2) float32, input pixels; p >= 1.
        labelled: (b, p, k) bool.
        area_inp: (b, p) float32, square input pixels; 0 for padding.
        ignore_cell: (b, h / 4, w / 4) bool: cells without weight in the score's loss.
        index: (b,) int64, the images' places in their data set.
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
        """The same batch on another device (copied in the background where the memory is pinned)."""
        return Batch(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))

    def pin_memory(self) -> Batch:
        """The same batch in memory that a GPU copies from directly; torch's DataLoader calls this."""
        return Batch(*(getattr(self, field.name).pin_memory() for field in fields(self)))


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples of equal size as one batch."""
    most = max(1, *(len(sample.area_inp) for sample in samples))

    def padded(field: str) -> Tensor:
        values = [getattr(sample, field) for sample in samples]
        out = np.zeros((len(samples), most, *values[0].shape[1:]), values[0].dtype)
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
    """Image `index` of a data set, `(h, w, 3)` uint8, in the stored orientation as its annotations.

    Raises:
        ImageError: the file cannot be read, or its size is not the annotation file's.
    """
    path = data.image_path(index)
    image = read_image(path, ignore_orientation=True)
    width, height = (int(side) for side in data.sizes[index])
    if image.shape[:2] != (height, width):
        found = f"{image.shape[1]} x {image.shape[0]} pixels"
        raise ImageError(f"image {path} has {found}, its annotation file says {width} x {height}")
    return image


class ImageCache:
    """All images of a small data set, decoded once: 0.7 GiB for 3,000 images of 286 x 262.

    Forked data workers share it. Called with a data set and an index like `read_stored`.

    Raises:
        ImageError: as `read_stored`.
    """

    def __init__(self, data: KeypointData) -> None:
        self._data = data
        with ThreadPoolExecutor() as pool:
            self._images = list(pool.map(lambda index: read_stored(data, index), range(len(data))))

    def __call__(self, data: KeypointData, index: int) -> Image:
        """Image `index` of the data set that the cache was made for."""
        if data is not self._data:
            raise InputError("this cache holds the images of another data set")
        return self._images[index]


class TrainingImages(Dataset[Sample]):
    """Augmented images.

    What (epoch, draw) gives depends on the seed and on nothing else: not on the number of workers, the
    process, or what was drawn before. So a resumed training sees what it would have seen.

    Args:
        data: images and people.
        size: side of the square input in pixels, a multiple of 32.
        settings: augmentation.
        pad_colour: (3,) RGB, 0 to 255, outside of the images.
        seed: 0 or more.
        read: `read_stored`, or a `ImageCache` of `data`.
        repeats: (n,) how often each image is drawn an epoch, as `EpochBatches` is told: the partners in a mosaic
            are drawn in these proportions. By default all alike.

    Raises:
        InputError: a size that does not fit the network, or repeats that are not one number an image.
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
            raise InputError(f"{len(self.ends)} repeats for {len(data)} images; one number an image is needed")
        self.pad_colour = np.asarray(pad_colour, np.float64)
        self.read = read

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: Key) -> Sample:
        """The sample of (epoch, draw); draw i + c n is the c-th further look at image i.

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
    """Which images each batch of one epoch holds, in one of `world_size` processes.

    The order is a permutation that depends on (seed, epoch) only. All processes take equally many batches;
    what does not fill a batch of every process is left out of this epoch.

    Args:
        images: how many there are (n), or (n,) how often each is drawn an epoch. A fraction is the
            probability of one draw more; the epoch's length, the sum rounded down, is always the same.
        batch_size: images a batch and process.
        seed: 0 or more.
        epoch: 0 or more.
        rank: this process, below `world_size`.
        world_size: number of processes.
        start_step: batches to leave out, since they were trained on before an interruption.

    Raises:
        InputError: the images do not fill one batch of every process.
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
            wanted = f"{world_size} process(es) with batches of {batch_size}"
            raise InputError(f"{len(self.draws)} images an epoch are too few for {wanted}; use smaller batches")
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
        raise InputError("how often each image is drawn must be one number an image, none of them negative")
    return repeats


def _draws(repeats: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draws of an epoch in random order: image i floor(r) or ceil(r) times, as i, i + n, i + 2 n ...

    Systematic sampling: on a line where each image, in random order, has a stretch as long as its repeats,
    stops at distance 1 draw the image they fall on.
    """
    order = rng.permutation(len(repeats))
    ends = np.cumsum(repeats[order])
    total = int(ends[-1] + 1e-6) if len(ends) else 0
    stops = rng.random() + np.arange(total)
    places = np.searchsorted(ends, np.minimum(stops, ends[-1:] * (1 - 1e-12)), side="right")
    copies = np.arange(total) - np.searchsorted(places, places)  # 0, 1, 2 ... within equal places
    draws: NDArray[np.int64] = rng.permutation(order[places] + copies * len(repeats))
    return draws


def training_batches(images: TrainingImages, batches: EpochBatches, workers: int = 0) -> Iterator[Batch]:
    """Batches of an epoch, prepared ahead; the same ones whatever `workers` is.

    Args:
        images: what to read.
        batches: which images in which batch.
        workers: processes. 0: two threads of this process, which is enough for one accelerator or a CPU, as
            OpenCV works outside of Python's lock.

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
    """Hands an image's error on as a value.

    Raised in a worker, its message would come wrapped in a traceback, and that traceback would keep the
    workers alive until the next garbage collection.
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
