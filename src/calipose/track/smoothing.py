"""Smoothing the coordinates of a person who is followed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from calipose.geometry import Floats


class OneEuro:
    """One-Euro filter of one person's keypoints: calm at rest, with little lag in motion.

    A low-pass whose cut-off frequency grows with the keypoint's speed, which is itself low-passed:
    cutoff = min_cutoff + beta * speed. Speed is counted in sizes of the person per second, so that the settings hold
    at every resolution, and without regard to its direction.

    Example:
        smoother = OneEuro()
        points_img = smoother(points_img, seconds=0.04, size_img=120.0)

    Args:
        min_cutoff: Hz at rest; lower is calmer.
        beta: Hz per (size of the person per second); higher lags less.
        speed_cutoff: Hz of the low-pass of the velocity.

    Source: Casiez, Roussel, Vogel: 1 Euro Filter, CHI 2012.
    """

    def __init__(self, min_cutoff: float = 1.0, beta: float = 10.0, speed_cutoff: float = 1.0) -> None:
        self.min_cutoff, self.beta, self.speed_cutoff = min_cutoff, beta, speed_cutoff
        self._points: Floats | None = None
        self._velocity: Floats | float = 0.0

    def __call__(self, points_img: Floats, seconds: float, size_img: float) -> Floats:
        """The filtered points.

        Args:
            points_img: `(k, 2)`.
            seconds: since the last call; not read in the first.
            size_img: the person's size in pixels: the square root of an area.
        """
        if self._points is None:
            self._points = points_img
        else:
            velocity = (points_img - self._points) / seconds
            share = _low_pass(self.speed_cutoff, seconds)
            self._velocity = share * velocity + (1 - share) * self._velocity
            speed = np.linalg.norm(self._velocity, axis=-1, keepdims=True) / max(size_img, 1e-9)
            share = _low_pass(self.min_cutoff + self.beta * speed, seconds)
            self._points = share * points_img + (1 - share) * self._points
        return self._points


def _low_pass(cutoff: Any, seconds: float) -> Any:
    """The newest value's share in a first-order low-pass of that cut-off frequency (Hz)."""
    turn = 2 * math.pi * cutoff * seconds
    return turn / (turn + 1)
