"""The order of an epoch's images: which images make up which batch of which process (torch's samplers)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Sampler

from calipose.data.store import KeypointData
from calipose.errors import InputError

Key = tuple[int, int]  # epoch, draw: the draws of image i are i, i + n, i + 2 n ... (n images)


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
        self.draws = _draws(checked_repeats(repeats), np.random.default_rng([seed, epoch]))
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


def repeats_of_images(data: KeypointData, repeat: Sequence[float]) -> NDArray[np.float64]:
    """How often an epoch uses each image, `(n,)`.

    Args:
        data: one or several data sets, joined.
        repeat: for each data set, how often an epoch uses its images; empty for once.

    Raises:
        InputError: there is not one number for each data set.
    """
    repeat = repeat or (1.0,) * len(data.folders)
    if len(repeat) != len(data.folders):
        raise InputError(f"data.repeat has {len(repeat)} numbers, but there are {len(data.folders)} data sets")
    return np.array(repeat)[data.folder]


def checked_repeats(repeats: ArrayLike) -> NDArray[np.float64]:
    """How often an epoch uses each image, as an array `(n,)`.

    Raises:
        InputError: it is not one finite number for each image, or one is negative.
    """
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
