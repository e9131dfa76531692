"""Regions that results carry: "coverage" and "keypoint_radii" of their entries, as `Poses.to_coco` writes them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from calipose.errors import InputError
from calipose.evaluation.coverage import Radii
from calipose.evaluation.matching import Matches
from calipose.geometry import Floats

RADII = "keypoint_radii"
MAX_RADIUS = 1e9  # pixels: more than any image has, and what arithmetic bears


class CarriedRadii:
    """The radii of a results file's entries, checked.

    Args:
        entries: of the results.
        k: number of keypoints.

    Attributes:
        coverage: that all of them are of; None where no entry has radii.
        radius_img: (n, k) pixels of each entry; nan where it has none, or nothing is known of a keypoint.

    Raises:
        InputError: an entry has radii of another number, or that are none, or no coverage, or another than the others.
    """

    def __init__(self, entries: Sequence[Mapping[str, Any]], k: int) -> None:
        self.coverage: float | None = None
        self.radius_img = np.full((len(entries), k), np.nan)
        for number, entry in enumerate(entries):
            if entry.get(RADII) is None:
                continue
            where = f"results, entry {number}"
            self.radius_img[number] = _radii(entry[RADII], k, where)
            coverage = entry.get("coverage")
            if isinstance(coverage, bool) or not isinstance(coverage, int | float) or not 0 < coverage < 1:
                raise InputError(f"{where}: '{RADII}' without the 'coverage' that they are of, between 0 and 1")
            if self.coverage not in {None, coverage}:
                raise InputError(f"{where}: regions of coverage {coverage:g}, others are of {self.coverage:g}")
            self.coverage = float(coverage)

    def of(self, matches: Matches) -> Radii:
        """The radii of some of the poses."""
        if self.coverage is None:
            return Radii((), np.zeros((0, *matches.similarity.shape)), matches.keypoint_scores)
        return Radii((self.coverage,), self.radius_img[matches.entry][None], matches.keypoint_scores.clip(0, 1))


def _radii(values: object, k: int, where: str) -> Floats:
    """(k,) of an entry.

    Raises:
        InputError: another number, or something else than numbers of 0 or more and None.
    """
    if not isinstance(values, list | tuple) or len(values) != k:
        many = f"{len(values)} values" if isinstance(values, list | tuple) else type(values).__name__
        raise InputError(f"{where}: '{RADII}' must be a list of {k} numbers, not {many}")
    known = [math.nan if value is None else value for value in values]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in known)
    if not numbers or any(v < 0 or v > MAX_RADIUS for v in known):
        raise InputError(f"{where}: '{RADII}' must be pixels of 0 or more, or null where nothing is known")
    return np.array(known, np.float64)
