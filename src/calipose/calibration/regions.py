"""Where a keypoint may be: circles that hold the annotated keypoint with a coverage asked for (numpy only).

`fit_regions` fits them to labelled images; here is what they are, and what they promise.

The radius of a keypoint is `q` times its unit

    u = f_i k_i s sqrt(-2 ln score),

the distance at which exp(-d^2 / 2 s^2 k_i^2), whose expected value the keypoint's score is, equals that score; k_i is
twice the keypoint's sigma. The person's area is not known when poses are predicted, so s comes from the pose's own
keypoints (`person_size_img`). f_i, near 1, is how much farther off than others this kind of keypoint is. Where there
are no keypoint scores, u = f_i k_i s. `q` is a quantile of d / u over labelled images (split-conformal prediction), one
for each third of the scores, and in it for each third of the sizes, where there are enough images and keypoints; else
one for the wider group.

Images are exchangeable, keypoints of one image are not. So the image to come counts as one more image, as large as the
mean of the others, whose keypoints may be anywhere: of n images with N keypoints, `q` is the value that c (n + 1) / n
of the N lie below. With 26 images, c = 0.9 takes 93.5 % of them, and nothing above 26 / 27 can be asked for.

What that means, for images like those of the calibration (exchangeable): of all labelled keypoints of matched poses
(COCO's matching, OKS of 0.1 or more) of images to come, at least c lie within their circles, on the average over
calibrations. It is exact for a given unit, given groups and images of equally many keypoints: then the mean over images
of misses minus (1 - c) keypoints is not above 0 (conformal risk control). With other images, and with a map of keypoint
scores, f_i and groups from the same images, it is approximate, and cautious as measured (docs/regions.md). In the
groups the same holds of the keypoints of each group. What is not promised: anything of false positives; all
keypoints of a pose at once; each person, or visible and hidden keypoints, each by itself; images of another kind.

Source: Angelopoulos et al., Conformal risk control, ICLR 2024; Vovk, Gammerman and Shafer, Algorithmic learning in a
random world, 2005, for groups (Mondrian); Lee, Barber and Willett, Distribution-free inference with hierarchical data,
2023, which weighs images instead of keypoints, and is wider.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from calipose.errors import InputError
from calipose.geometry import AREA_PER_BOX, Floats

LEAST_COVERAGE, MOST_COVERAGE = 50, 99  # percent
CLIP = 0.02  # keypoint scores nearer to 0 and 1 count as this near
NARROW = 0.1  # a box counts as having at least this part of its longer side's square, as for people seen from the side

Count = Annotated[int, msgspec.Meta(ge=0)]


class RegionGroup(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keypoints whose distances are looked at together, and the parts that they are divided into.

    Attributes:
        quantiles: of distance / unit, for a coverage of 0.50, 0.51, ..., as far as the images support one.
        images, keypoints: that it was fitted on.
        split: what the parts differ in: the keypoint's score, or the person's size in pixels.
        edges: between the parts, rising.
        parts: none, or two and more.
    """

    quantiles: tuple[float, ...] = ()
    images: Count = 0
    keypoints: Count = 0
    split: Literal["", "score", "size"] = ""
    edges: tuple[float, ...] = ()
    parts: tuple[RegionGroup, ...] = ()

    def __post_init__(self) -> None:
        if len(self.quantiles) > MOST_COVERAGE - LEAST_COVERAGE + 1 or not np.isfinite(self.quantiles).all():
            raise InputError("regions: a group has too many quantiles, or one that is not finite; calibrate again")
        if (np.diff(self.quantiles) < 0).any() or any(value < 0 for value in self.quantiles):
            raise InputError("regions: the quantiles of a group must rise from 0 on; calibrate again")
        parts = len(self.edges) + 1 if self.split else 0
        if len(self.parts) != parts or (parts == 0 and self.edges) or not (np.diff(self.edges) > 0).all():
            raise InputError("regions: a group and its parts contradict each other; calibrate again")

    def factors(self, percent: int, score: Floats, size: Floats) -> Floats:
        """`q` of m keypoints, (m,). Where the images of a part are too few for the coverage, the whole group counts.

        Args:
            percent: the coverage.
            score: (m,), of the keypoints.
            size: (m,), of the persons, in pixels.
        """
        index = percent - LEAST_COVERAGE
        if not self.parts or any(len(part.quantiles) <= index for part in self.parts):
            return np.full(len(score), self.quantiles[index])
        part_of = np.searchsorted(self.edges, score if self.split == "score" else size, side="right")
        q = np.zeros(len(score))
        for i, part in enumerate(self.parts):
            here = part_of == i
            q[here] = part.factors(percent, score[here], size[here])
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
        kind_factors: (k,) f_i, the same for left and right.
        data: name of the data set.
        refusal: why nothing was fitted.
    """

    group: RegionGroup | None = None
    by_score: bool = True
    labelled: tuple[Count, ...] = ()
    kind_factors: tuple[float, ...] = ()
    data: str = ""
    refusal: str = ""

    def __post_init__(self) -> None:
        if self.group is not None and not (
            len(self.labelled) == len(self.kind_factors) > 0 and min(self.kind_factors) > 0 and self.group.quantiles
        ):
            raise InputError("regions: labelled, kind_factors and quantiles do not fit together; calibrate again")

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
        percent = _whole_percent(coverage)
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
        percent, group = _whole_percent(coverage), self.require(coverage)
        size, sigmas = np.asarray(size_img, np.float64), np.asarray(sigmas, np.float64)
        shape = (len(size), len(sigmas))
        if len(sigmas) != len(self.labelled):
            raise InputError(f"regions: fitted for {len(self.labelled)} keypoints; these poses have {len(sigmas)}")
        if self.by_score and keypoint_scores is None:
            raise InputError("regions: fitted with scores of keypoints, which these poses have not")
        scores = np.ones(shape) if keypoint_scores is None else np.asarray(keypoint_scores, np.float64)
        unit = units_img(size, sigmas * self.kind_factors, scores if self.by_score else None)
        each = [np.broadcast_to(a, shape).ravel() for a in (scores, size[:, None])]
        radius = unit * group.factors(percent, each[0], each[1]).reshape(shape)
        return np.where(np.array(self.labelled) > 0, radius, np.nan)


def _whole_percent(coverage: float) -> int:
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
