"""Fitting the radii of keypoints to matched poses of labelled images (numpy only); `regions` says what they promise."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from calipose.calibration.regions import LEAST_COVERAGE, MOST_COVERAGE, RegionGroup, RegionMap, units_img
from calipose.geometry import Floats
from calipose.skeleton import Skeleton

MIN_IMAGES = 10  # with labelled keypoints of matched poses
GROUP_IMAGES, GROUP_KEYPOINTS = 20, 100  # that each part of a group must have
SHRINKAGE = 50  # keypoints of a kind at which half of what is special of it is believed

Indices = NDArray[np.int64]


def fit_regions(
    distance_img: ArrayLike,
    size_img: ArrayLike,
    image: ArrayLike,
    skeleton: Skeleton,
    scores: ArrayLike | None = None,
    data: str = "",
) -> RegionMap:
    """Fit the radii to matched poses.

    Args:
        distance_img: (n, k) pixels between a keypoint and its annotation; NaN where it is not labelled.
        size_img: (n,), `person_size_img` of the poses.
        image: (n,), the image of each pose.
        skeleton: of the poses.
        scores: (n, k), calibrated; None where there are none: the radius is then constant by keypoint, times s.
        data: name of the data set, stored.

    Returns:
        A map without groups, with the reason, where there are too few images.
    """
    distance = np.asarray(distance_img, np.float64)
    row, keypoint = np.nonzero(np.isfinite(distance))
    images = len(np.unique(np.asarray(image)[row]))
    if images < MIN_IMAGES:
        reason = f"{images} calibration images have labelled people that were found; at least {MIN_IMAGES} are needed"
        return RegionMap(refusal=reason, data=data)
    size = np.asarray(size_img, np.float64)
    ratio = (distance / units_img(size, skeleton.sigmas_array, scores))[row, keypoint]
    factors = _kind_factors(ratio, keypoint, skeleton)
    score = np.ones(len(row)) if scores is None else np.asarray(scores, np.float64)[row, keypoint]
    sample = _Sample(ratio / factors[keypoint], np.asarray(image)[row], score, size[row])
    return RegionMap(
        group=_divide(sample, ("size",) if scores is None else ("score", "size")),
        by_score=scores is not None,
        labelled=tuple(np.bincount(keypoint, minlength=len(skeleton)).tolist()),
        kind_factors=tuple(factors.tolist()),
        data=data,
    )


def image_quantiles(ratio: ArrayLike, image: ArrayLike) -> tuple[float, ...]:
    """Quantiles for a coverage of 0.50, 0.51, ..., as far as the images support one.

    Args:
        ratio: (m,), distance / unit of keypoints.
        image: (m,), of each.
    """
    rising = np.sort(np.asarray(ratio, np.float64))
    images = len(np.unique(np.asarray(image)))
    percents = np.arange(LEAST_COVERAGE, MOST_COVERAGE + 1)
    below = percents / 100 * (images + 1) / images * len(rising)
    return tuple(rising[np.ceil(below[below <= len(rising) + 1e-6] - 1e-6).astype(np.int64) - 1].tolist())


def _kind_factors(ratio: Floats, keypoint: Indices, skeleton: Skeleton) -> Floats:
    """f_i, (k,): ratio of a kind's quantiles to all, drawn to 1 the more the fewer there are of it."""
    kind = np.minimum(np.arange(len(skeleton)), skeleton.flip_index)
    levels = (0.5, 0.7, 0.9)
    logs = np.log(ratio.clip(min=1e-3))
    overall, factors = np.quantile(logs, levels), np.ones(len(skeleton))
    for i in np.unique(kind[keypoint]):
        own = logs[kind[keypoint] == i]
        gap = (np.quantile(own, levels) - overall).mean()
        factors[kind == i] = np.exp(gap * len(own) / (len(own) + SHRINKAGE))
    return factors


class _Sample(msgspec.Struct, frozen=True):
    """m labelled keypoints: distance / unit, image, score, and the person's size."""

    ratio: Floats
    image: Indices
    score: Floats
    size: Floats

    def part(self, chosen: NDArray[np.bool_]) -> _Sample:
        return _Sample(self.ratio[chosen], self.image[chosen], self.score[chosen], self.size[chosen])

    @property
    def images(self) -> int:
        return len(np.unique(self.image))


def _divide(sample: _Sample, splits: tuple[Literal["score", "size"], ...]) -> RegionGroup:
    """Thirds of the keypoints, or halves where thirds are too small, by the first of `splits`; each by the next."""
    quantiles = image_quantiles(sample.ratio, sample.image)
    whole = RegionGroup(quantiles=quantiles, images=sample.images, keypoints=len(sample.ratio))
    if not splits:
        return whole
    values = sample.score if splits[0] == "score" else sample.size
    for number in (3, 2):
        edges = np.unique(np.quantile(values, np.arange(1, number) / number))
        part_of = np.searchsorted(edges, values, side="right")
        parts = [sample.part(part_of == i) for i in range(number)]
        if all(part.images >= GROUP_IMAGES and len(part.ratio) >= GROUP_KEYPOINTS for part in parts):
            groups = tuple(_divide(part, splits[1:]) for part in parts)
            return msgspec.structs.replace(whole, split=splits[0], edges=tuple(edges.tolist()), parts=groups)
    return _divide(sample, splits[1:])
