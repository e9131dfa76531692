"""How alike the poses of one image are: the correlation of their residuals within images (numpy only).

A residual is what a score does not say of a pose, such as its OKS minus its score. Poses of one image share its
difficulty, so they are not independent; `precision` and `evaluation.chance` both take that into account from here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calipose.geometry import Floats


@dataclass(frozen=True)
class WithinImages:
    """Sums of residuals over each image, from which the correlation of two poses of one image follows.

    Attributes:
        poses: (images,) number of poses of each image.
        squares: (images,) sum of the squared residuals of each image's poses.
        products: (images,) sum of the products of all ordered pairs of different poses of each image.

    Example:
        >>> sums = WithinImages.of(oks - score, image_ids)
        >>> sums.correlation(), sums.standard_error()
    """

    poses: Floats
    squares: Floats
    products: Floats

    @classmethod
    def of(cls, residual: ArrayLike, image: NDArray[Any]) -> WithinImages:
        """Of residuals (n,), or of several draws of them (r, n), over which the sums are averaged; `image` (n,)."""
        draws = np.atleast_2d(np.asarray(residual, np.float64))
        place = np.unique(image, return_inverse=True)[1].reshape(-1)
        poses = np.bincount(place).astype(np.float64)
        if not len(place):
            return cls(poses, np.zeros(0), np.zeros(0))
        by_image = draws[:, np.argsort(place, kind="stable")]
        starts = np.append(0, np.cumsum(poses)[:-1]).astype(np.int64)
        squares = np.add.reduceat(by_image**2, starts, axis=1).mean(0)
        products = (np.add.reduceat(by_image, starts, axis=1) ** 2).mean(0) - squares
        return cls(poses, squares, products)

    @property
    def pairs(self) -> Floats:
        """(images,): number of ordered pairs of different poses of each image."""
        return self.poses * (self.poses - 1)

    def correlation(self) -> float:
        """Of two poses of one image; nan where no image has two, or all residuals are 0."""
        if not self.pairs.sum() or not self.squares.sum():
            return math.nan
        return float(_correlation(self.products.sum(), self.pairs.sum(), self.squares.sum(), self.poses.sum()))

    def standard_error(self) -> float:
        """Of `correlation`, by a jackknife over images; nan where that is not defined."""
        if math.isnan(self.correlation()):
            return math.nan
        sums = (self.products, self.pairs, self.squares, self.poses)
        without = _correlation(*(values.sum() - values for values in sums))
        return math.sqrt((len(without) - 1) * float(((without - without.mean()) ** 2).mean()))


def _correlation(products: ArrayLike, pairs: ArrayLike, squares: ArrayLike, poses: ArrayLike) -> Floats:
    """The mean product of a pair over the mean square, from the sums over some images."""
    mean_square = np.maximum(np.asarray(squares) / np.maximum(poses, 1), 1e-12)
    return np.asarray(np.asarray(products) / np.maximum(pairs, 1) / mean_square)
