"""The augmented images of a data set: read, or kept in memory, and augmented by a seed (torch's data sets)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
from numpy.typing import ArrayLike
from torch.utils.data import Dataset

from calipose.config.settings import AugmentSettings
from calipose.data.augment import Sample, augment, mosaic
from calipose.data.store import KeypointData
from calipose.data.tars import read_span
from calipose.errors import ImageError, InputError
from calipose.io.images import Image, decode_image, read_image
from calipose.training.order import Key, checked_repeats


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
        self.ends = np.cumsum(checked_repeats(np.ones(len(data)) if repeats is None else repeats))
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
