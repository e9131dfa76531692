"""Angles of joints in the image plane, with intervals that follow from the regions of their keypoints (numpy only).

The angle at b of the keypoints a, b, c is that between b -> a and b -> c, from 0 (folded) to 180 degrees (straight).
The trunk's lean is that of the line from the middle of the hips to the middle of the shoulders against the image's
vertical: 0 is upright, positive leans to the right of the image, to 180 degrees.

The interval is the angle plus and minus w. Assumed is that each keypoint's error is Gaussian, the same in all
directions, and independent of the others'. A circle of radius r and coverage c then is that of the standard deviation

    sigma = r / sqrt(-2 ln(1 - c)).

It is taken of the region of 0.5: real errors have heavy tails, and larger regions would make intervals wider than they
need be (docs/decisions.md). w is the quantile, for the interval's coverage, of how far the angle turns under 4,096 such
errors (drawn once, the same for all poses). For small errors this is, in radians,

    z_c sqrt(sigma_a^2 / |ab|^2 + sigma_c^2 / |bc|^2
             + sigma_b^2 (1 / |ab|^2 + 1 / |bc|^2 - 2 cos(angle) / (|ab| |bc|)));

for larger ones, where that is wrong, w still holds up to a sigma of about a quarter of the limb. Beyond it, the limb
is longer in the pose than it is, and w too small under this assumption: at half of the limb, 0.68 for 0.8. What is
measured is the angle in the image, not the one in space.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calipose.errors import InputError
from calipose.geometry import Floats
from calipose.skeleton import Skeleton

SAMPLES = 4096
RADII_COVERAGE = 0.5  # of the regions that the standard deviations come from
LEAST_COVERAGE, MOST_COVERAGE = 0.5, 0.95  # of intervals; beyond, the tails of real errors count
LIMBS = {  # name -> the keypoints a, b, c, each of a side
    "elbow": ("shoulder", "elbow", "wrist"),
    "knee": ("hip", "knee", "ankle"),
    "hip": ("shoulder", "hip", "knee"),
    "shoulder": ("elbow", "shoulder", "hip"),
}
TRUNK = "trunk"
TRUNK_KEYPOINTS = ("left_hip", "right_hip", "left_shoulder", "right_shoulder")

Triples = Mapping[str, tuple[str, str, str]]


@dataclass(frozen=True, eq=False)
class Angles:
    """Angles of the poses of one image, in degrees.

    Example:
        >>> angles = predictor.predict("photo.jpg").angles()
        >>> angles["left_knee"], angles.low_deg[:, 0], angles.high_deg[:, 0]

    Attributes:
        names: (a,), of the angles.
        degrees: (p, a); nan where two of the keypoints coincide.
        low_deg, high_deg: (p, a), the interval that holds the annotated angle with the probability `coverage`, given
            that the pose is matched with a person; nan where it is not known. None where no interval was asked for.
        coverage: of the intervals; or None.
    """

    names: tuple[str, ...]
    degrees: Floats
    low_deg: Floats | None = None
    high_deg: Floats | None = None
    coverage: float | None = None

    def __getitem__(self, name: str) -> Floats:
        """(p,), the angle of that name.

        Raises:
            KeyError: there is none.
        """
        if name not in self.names:
            raise KeyError(f"no angle '{name}'; there are {', '.join(self.names)}")
        return self.degrees[:, self.names.index(name)]

    def to_dict(self) -> list[dict[str, dict[str, Any]]]:
        """Of each pose its angles by name: "degrees", and "low" and "high" where they are known; nan is left out."""
        fields = {"degrees": self.degrees, "low": self.low_deg, "high": self.high_deg}
        given = {key: values for key, values in fields.items() if values is not None}
        return [
            {
                name: {key: float(values[i, j]) for key, values in given.items() if np.isfinite(values[i, j])}
                for j, name in enumerate(self.names)
            }
            for i in range(len(self.degrees))
        ]


def default_angles(skeleton: Skeleton) -> dict[str, tuple[str, ...]]:
    """Elbows, knees, hips and shoulders of both sides, and the trunk, as far as the skeleton has their keypoints."""
    named: dict[str, tuple[str, ...]] = {
        f"{side}_{name}": tuple(f"{side}_{part}" for part in parts)
        for name, parts in LIMBS.items()
        for side in ("left", "right")
    }
    named[TRUNK] = TRUNK_KEYPOINTS
    return {name: parts for name, parts in named.items() if set(parts) <= set(skeleton.keypoints)}


def angles_of(
    keypoints_img: Floats,
    skeleton: Skeleton,
    triples: Triples | None = None,
    radii_img: Floats | None = None,
    coverage: float | None = None,
    radii_coverage: float = RADII_COVERAGE,
) -> Angles:
    """Angles of poses.

    Args:
        keypoints_img: (p, k, 2).
        skeleton: of the poses.
        triples: names of angles, each with the names of its keypoints a, b, c; by default `default_angles`.
        radii_img: (p, k), `Poses.keypoint_radius_img`; None for no intervals.
        coverage: of the intervals; None for none.
        radii_coverage: of the radii.

    Raises:
        InputError: an angle names a keypoint that the skeleton has not, or not three different ones; or the skeleton
            has none of the default angles; or a coverage of the intervals that is not from 0.5 to 0.95.
    """
    if coverage is not None and not LEAST_COVERAGE <= coverage <= MOST_COVERAGE:
        raise InputError(f"angles: coverage {coverage:g}; intervals are known from 0.5 to 0.95")
    named: Mapping[str, tuple[str, ...]] = default_angles(skeleton) if triples is None else triples
    if not named:
        raise InputError(
            f"skeleton '{skeleton.name}' has no elbows, knees, hips or shoulders of COCO's names; name the keypoints:"
            ' angles({"NAME": ("A", "B", "C")}), the angle is at B'
        )
    columns = []
    for name, parts in named.items():
        index = [_index(skeleton, name, part) for part in parts]
        if triples is not None and (len(parts) != 3 or len(set(parts)) != 3):
            raise InputError(f"angle '{name}': name three different keypoints A, B, C; the angle is at B")
        points = keypoints_img[:, index]
        signed = _signed_deg(points)
        centre = np.abs(signed) if len(parts) == 3 else signed
        if radii_img is None or coverage is None:
            columns.append((centre, centre, centre))
            continue
        sigma = radii_img[:, index] / np.sqrt(-2 * np.log(1 - radii_coverage))
        turn = np.array([_turn_deg(p, s, coverage) for p, s in zip(points, sigma, strict=True)]).reshape(len(points))
        low, high = centre - turn, centre + turn
        if len(parts) == 3:
            low, high = low.clip(0, 180), high.clip(0, 180)
        columns.append((centre, low, high))
    degrees, low_deg, high_deg = (np.stack(values, 1) for values in zip(*columns, strict=True))
    if radii_img is None or coverage is None:
        return Angles(tuple(named), degrees)
    return Angles(tuple(named), degrees, low_deg, high_deg, coverage)


def _index(skeleton: Skeleton, name: str, part: str) -> int:
    if part not in skeleton.keypoints:
        raise InputError(f"angle '{name}': skeleton '{skeleton.name}' has no keypoint '{part}'")
    return skeleton.keypoints.index(part)


def _signed_deg(points: Floats) -> Floats:
    """Signed angle (...,) of points (..., 3, 2), from b -> a to b -> c; or the lean of the trunk's (..., 4, 2)."""
    if points.shape[-2] == 3:
        first, second = points[..., 0, :] - points[..., 1, :], points[..., 2, :] - points[..., 1, :]
    else:
        second = points[..., 2:, :].mean(-2) - points[..., :2, :].mean(-2)
        first = np.broadcast_to([0.0, -1.0], second.shape)  # up
    cross = first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0]
    dot = (first * second).sum(-1)
    known = (np.abs(first).sum(-1) > 0) & (np.abs(second).sum(-1) > 0)
    return np.where(known, np.degrees(np.arctan2(cross, dot)), np.nan)


def _turn_deg(points: Floats, sigma: Floats, coverage: float) -> float:
    """The half width w of one angle, of points (m, 2) with errors of these standard deviations (m,)."""
    if not np.isfinite(sigma).all():
        return float("nan")
    moved = points + sigma[:, None] * _errors()[:, : len(points)]
    turned = _signed_deg(moved) - _signed_deg(points)
    return float(np.quantile(np.abs((turned + 180) % 360 - 180), coverage))


@lru_cache(maxsize=1)
def _errors() -> NDArray[np.float64]:
    """(SAMPLES, 4, 2) standard normal numbers; the second half mirrors the first."""
    half = np.random.default_rng(0).standard_normal((SAMPLES // 2, 4, 2))
    return np.concatenate([half, -half])
