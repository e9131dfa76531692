"""Where a keypoint may be: circles that hold the annotated keypoint with a coverage asked for (numpy only).

The radius of a keypoint is `q` times its unit

    u = sqrt(-2 ln score) k_i s,

the distance at which exp(-d^2 / 2 s^2 k_i^2), whose expected value the keypoint's score is, equals that score; k_i is
twice the keypoint's sigma. The person's area is not known when poses are predicted, so s comes from the pose's own
keypoints (`person_size_img`). Where there are no keypoint scores, u = k_i s. `q` is a quantile of d / u over labelled
images (split-conformal prediction).

Keypoints of one image are not independent: what counts is the number of images. Each image has the same weight 1 / (n +
1), shared equally by its keypoints, and the weight 1 / (n + 1) is that of the image to come, whose keypoints may be
anywhere. This is hierarchical conformal prediction.

What is guaranteed, if the images to come are like those of the calibration (exchangeable): draw such an image, of its
labelled keypoints of matched poses (COCO's matching, OKS 0.1 or more) draw one; it lies within its circle with at least
that probability. In groups (by score and size) the same holds of the keypoints of each group. What is not guaranteed:
anything of poses that are of nobody; all keypoints of a pose at once; each person or each kind of keypoint by itself;
other kinds of images. The guarantee is for a given map of keypoint scores; one that was fitted on the same images, as
`calipose calibrate` does, makes it approximate.

Source: Lee, Barber and Willett, Distribution-free inference with hierarchical data, 2023; Vovk, Gammerman and Shafer,
Algorithmic learning in a random world, 2005, for quantiles and for groups (Mondrian).
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from calipose.errors import InputError
from calipose.geometry import AREA_PER_BOX, Floats

LEAST_COVERAGE, MOST_COVERAGE = 50, 99  # percent
CLIP = 0.02  # keypoint scores nearer to 0 and 1 count as this near
NARROW = 0.1  # a box counts as having at least this part of its longer side's square, as for people seen from the side
MIN_IMAGES = 10  # with labelled keypoints of matched poses
GROUP_IMAGES, GROUP_KEYPOINTS = 20, 100  # that each part of a group must have
NAMED_KEYPOINTS = 30  # likewise, where the parts are kinds of keypoints

Count = Annotated[int, msgspec.Meta(ge=0)]
Indices = NDArray[np.int64]


class RegionGroup(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keypoints whose distances are looked at together, and the parts that they are divided into.

    Attributes:
        quantiles: of distance / unit, for a coverage of 0.50, 0.51, ..., as far as the images support one.
        images, keypoints: that it was fitted on.
        split: what the parts differ in: the keypoint's score, the person's size in pixels, or which keypoint it is.
        edges: between the parts, rising, where they differ in score or size.
        part_of: index of each keypoint's part, where they differ in the keypoint.
        parts: none, or two and more.
    """

    quantiles: tuple[float, ...] = ()
    images: Count = 0
    keypoints: Count = 0
    split: Literal["", "score", "size", "keypoint"] = ""
    edges: tuple[float, ...] = ()
    part_of: tuple[Count, ...] = ()
    parts: tuple[RegionGroup, ...] = ()

    def __post_init__(self) -> None:
        if len(self.quantiles) > MOST_COVERAGE - LEAST_COVERAGE + 1 or not np.isfinite(self.quantiles).all():
            raise InputError("regions: a group has too many quantiles, or one that is not finite; calibrate again")
        if (np.diff(self.quantiles) < 0).any() or any(value < 0 for value in self.quantiles):
            raise InputError("regions: the quantiles of a group must rise from 0 on; calibrate again")
        by_number = self.split in {"score", "size"}
        fits = (len(self.parts) == len(self.edges) + 1) if by_number else not self.edges
        named = len(self.parts) > max(self.part_of, default=0) if self.split == "keypoint" else not self.part_of
        if not (fits and named and bool(self.parts) == bool(self.split) and (np.diff(self.edges) > 0).all()):
            raise InputError("regions: a group and its parts contradict each other; calibrate again")

    def factors(self, percent: int, score: Floats, size: Floats, keypoint: Indices) -> Floats:
        """`q` of m keypoints, (m,). Where the images of a part are too few for the coverage, the whole group counts.

        Args:
            percent: the coverage.
            score: (m,), of the keypoints.
            size: (m,), of the persons, in pixels.
            keypoint: (m,), index in the skeleton.
        """
        index = percent - LEAST_COVERAGE
        if not self.parts or any(len(part.quantiles) <= index for part in self.parts):
            return np.full(len(score), self.quantiles[index])
        if self.split == "keypoint":
            part_of = np.array(self.part_of)[keypoint]
        else:
            part_of = np.searchsorted(self.edges, score if self.split == "score" else size, side="right")
        q = np.zeros(len(score))
        for i, part in enumerate(self.parts):
            here = part_of == i
            q[here] = part.factors(percent, score[here], size[here], keypoint[here])
        return q


class RegionMap(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The radius of each keypoint's circle, for any coverage from 0.5 to 0.99 that the calibration images support.

    Example:
        >>> calibration = calipose.fit_calibration("annotations.json", "results.json")
        >>> calibration.regions.max_coverage

    Attributes:
        group: all keypoints; None where nothing was fitted.
        by_score: the unit takes the keypoint scores.
        labelled: (k,) keypoints of each name that it was fitted on; of a name without any, nothing is known.
        data: name of the data set.
        refusal: why nothing was fitted.
    """

    group: RegionGroup | None = None
    by_score: bool = True
    labelled: tuple[Count, ...] = ()
    data: str = ""
    refusal: str = ""

    @property
    def is_empty(self) -> bool:
        """Nothing was fitted."""
        return self.group is None

    @property
    def max_coverage(self) -> float:
        """The largest coverage that can be asked for; 0 where nothing was fitted."""
        return 0.0 if self.group is None else (LEAST_COVERAGE - 1 + len(self.group.quantiles)) / 100

    def require(self, coverage: float) -> RegionGroup:
        """`group`, if the calibration images support that coverage.

        Raises:
            InputError: they do not, or nothing was fitted, or it is no coverage from 0.5 to 0.99.
        """
        percent = whole_percent(coverage)
        if self.group is None:
            reason = self.refusal or "the model's calibration has none: calipose calibrate fits them on labelled images"
            raise InputError(f"no regions of keypoints: {reason}")
        if percent > LEAST_COVERAGE - 1 + len(self.group.quantiles):
            images = self.group.images
            raise InputError(
                f"regions of coverage {coverage:g} take at least {-(-percent // (100 - percent))} labelled images with "
                f"people that are found; this calibration has {images}, which support up to {self.max_coverage:g}"
            )
        return self.group

    def radius_img(
        self, keypoints_img: ArrayLike, keypoint_scores: ArrayLike | None, sigmas: ArrayLike, coverage: float = 0.9
    ) -> Floats:
        """Radii (p, k) in pixels of the image; nan for keypoints of which nothing is known.

        Args:
            keypoints_img: (p, k, 2).
            keypoint_scores: (p, k), calibrated; or None.
            sigmas: (k,), the skeleton's.
            coverage: from 0.5 to 0.99, counted in whole percent and rounded up.

        Raises:
            InputError: another coverage, or one that the calibration images cannot support; nothing was fitted; or the
                scores of keypoints that it was fitted with are missing.
        """
        points = np.asarray(keypoints_img, np.float64)
        return self.radius_of_size_img(person_size_img(points), keypoint_scores, sigmas, coverage)

    def radius_of_size_img(
        self, size_img: ArrayLike, keypoint_scores: ArrayLike | None, sigmas: ArrayLike, coverage: float = 0.9
    ) -> Floats:
        """`radius_img` of poses whose sizes are known.

        Args:
            size_img: (p,), `person_size_img` of the poses.
            keypoint_scores: (p, k), calibrated; or None.
            sigmas: (k,), the skeleton's.
            coverage: from 0.5 to 0.99, counted in whole percent and rounded up.

        Raises:
            InputError: as `radius_img`.
        """
        percent, group = whole_percent(coverage), self.require(coverage)
        size, sigmas = np.asarray(size_img, np.float64), np.asarray(sigmas, np.float64)
        shape = (len(size), len(sigmas))
        if len(sigmas) != len(self.labelled):
            raise InputError(f"regions: fitted for {len(self.labelled)} keypoints; these poses have {len(sigmas)}")
        if self.by_score and keypoint_scores is None:
            raise InputError("regions: fitted with scores of keypoints, which these poses have not")
        scores = np.ones(shape) if keypoint_scores is None else np.asarray(keypoint_scores, np.float64)
        unit = units_img(size, sigmas, scores if self.by_score else None)
        each = [np.broadcast_to(a, shape).ravel() for a in (scores, size[:, None], np.arange(shape[1]))]
        radius = unit * group.factors(percent, each[0], each[1], each[2].astype(np.int64)).reshape(shape)
        return np.where(np.array(self.labelled) > 0, radius, np.nan)


def whole_percent(coverage: float) -> int:
    """A coverage in whole percent, rounded up.

    Raises:
        InputError: it is not from 0.5 to 0.99.
    """
    if not LEAST_COVERAGE <= 100 * coverage <= MOST_COVERAGE:
        raise InputError(f"coverage {coverage:g}: regions are known from 0.5 to 0.99")
    return math.ceil(100 * coverage - 1e-9)


def person_size_img(keypoints_img: ArrayLike) -> Floats:
    """The size s of poses, (p,) pixels: the root of 0.53 times the area of the box around the keypoints.

    0.53 is the mean in COCO of a person's area over that of their keypoints' box. A narrow box counts as having at
    least a tenth of its longer side's square. Keypoints that are NaN, not detected, are left out.

    Args:
        keypoints_img: (p, k, 2), in each pose at least one keypoint that is not NaN.
    """
    points = np.asarray(keypoints_img, np.float64)
    if not len(points):
        return np.zeros(0)
    sides = np.nanmax(points, 1) - np.nanmin(points, 1)
    box = np.maximum(sides.prod(1), NARROW * sides.max(1) ** 2)
    size: Floats = np.sqrt(AREA_PER_BOX * box).clip(min=1.0)  # a pose of one point is of a person, too
    return size


def units_img(size: ArrayLike, sigmas: ArrayLike, scores: ArrayLike | None) -> Floats:
    """The unit u of each keypoint's radius, (p, k) pixels.

    Args:
        size: (p,), s.
        sigmas: (k,), the skeleton's.
        scores: (p, k), calibrated; None where u = k_i s.
    """
    unit: Floats = 2 * np.asarray(sigmas, np.float64) * np.asarray(size, np.float64)[:, None]
    if scores is None:
        return unit
    return np.asarray(unit * np.sqrt(-2 * np.log(np.asarray(scores, np.float64).clip(CLIP, 1 - CLIP))))


def fit_regions(
    distance_img: ArrayLike,
    size_img: ArrayLike,
    image: ArrayLike,
    sigmas: ArrayLike,
    scores: ArrayLike | None = None,
    data: str = "",
) -> RegionMap:
    """Fit the radii to matched poses.

    Args:
        distance_img: (n, k) pixels between a keypoint and its annotation; NaN where it is not labelled.
        size_img: (n,), `person_size_img` of the poses.
        image: (n,), the image of each pose.
        sigmas: (k,), the skeleton's.
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
    ratio = (distance / units_img(size, sigmas, scores))[row, keypoint]
    score = np.ones(len(row)) if scores is None else np.asarray(scores, np.float64)[row, keypoint]
    k = distance.shape[1]
    everything = _Sample(ratio, np.asarray(image)[row], score, size[row], keypoint, k)
    group = _by_keypoint(everything) if scores is None else _by_number(everything, ("score", "size"))
    labelled = np.bincount(keypoint, minlength=k)
    return RegionMap(group=group, by_score=scores is not None, labelled=tuple(labelled.tolist()), data=data)


def hierarchical_quantiles(ratio: ArrayLike, image: ArrayLike) -> tuple[float, ...]:
    """Quantiles for a coverage of 0.50, 0.51, ..., as far as they are finite.

    Args:
        ratio: (m,), distance / unit of keypoints.
        image: (m,), of each.
    """
    ratio = np.asarray(ratio, np.float64)
    _, index, counts = np.unique(np.asarray(image), return_inverse=True, return_counts=True)
    order = np.argsort(ratio, kind="stable")
    share = np.cumsum(1 / counts[index[order]]) / (len(counts) + 1)
    wanted = np.arange(LEAST_COVERAGE, MOST_COVERAGE + 1) / 100
    found = np.searchsorted(share + 1e-9, wanted)  # the first at which that share is reached
    quantiles = ratio[order][found[found < len(order)]]
    return tuple(quantiles[np.isfinite(quantiles)].tolist())


class _Sample(msgspec.Struct, frozen=True):
    """m labelled keypoints: distance / unit, image, score, size, index of the keypoint; and k."""

    ratio: Floats
    image: Indices
    score: Floats
    size: Floats
    keypoint: Indices
    k: int

    def part(self, chosen: NDArray[np.bool_]) -> _Sample:
        arrays = (self.ratio, self.image, self.score, self.size, self.keypoint)
        return _Sample(*(values[chosen] for values in arrays), self.k)

    def holds(self, images: int, keypoints: int) -> bool:
        return len(self.ratio) >= keypoints and len(np.unique(self.image)) >= images

    def group(self, split: str = "", parts: tuple[RegionGroup, ...] = (), **how: tuple[float, ...]) -> RegionGroup:
        quantiles = hierarchical_quantiles(self.ratio, self.image)
        counts = {"images": len(np.unique(self.image)), "keypoints": len(self.ratio)}
        return RegionGroup(quantiles=quantiles, **counts, split=split, parts=parts, **how)  # type: ignore[arg-type]


def _by_number(sample: _Sample, splits: tuple[str, ...]) -> RegionGroup:
    """Thirds of the keypoints, or halves where thirds are too small, by the first of `splits`; each by the next."""
    for number in (3, 2) if splits else ():
        values = getattr(sample, splits[0])
        edges = np.unique(np.quantile(values, np.arange(1, number) / number))
        part_of = np.searchsorted(edges, values, side="right")
        parts = [sample.part(part_of == i) for i in range(len(edges) + 1)]
        if len(parts) == number and all(part.holds(GROUP_IMAGES, GROUP_KEYPOINTS) for part in parts):
            groups = tuple(_by_number(part, splits[1:]) for part in parts)
            return sample.group(splits[0], groups, edges=tuple(edges.tolist()))
    return _by_number(sample, splits[1:]) if splits else sample.group()


def _by_keypoint(sample: _Sample) -> RegionGroup:
    """A part for each keypoint of which there are enough, and one for all others."""
    enough = [sample.part(sample.keypoint == i).holds(GROUP_IMAGES, NAMED_KEYPOINTS) for i in range(sample.k)]
    part_of = np.where(enough, np.cumsum(enough) - 1, sum(enough))
    if not (part_of[sample.keypoint] == sum(enough)).any():
        part_of = part_of.clip(max=max(sum(enough) - 1, 0))  # all others were never labelled
    parts = [sample.part(part_of[sample.keypoint] == i) for i in range(int(part_of.max()) + 1)]
    if len(parts) < 2:
        return sample.group()
    return sample.group("keypoint", tuple(part.group() for part in parts), part_of=tuple(part_of.tolist()))
