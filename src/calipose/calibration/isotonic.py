"""Isotonic regression (numpy only)."""

from __future__ import annotations

import numpy as np

from calipose.geometry import Floats


def isotonic(values: Floats, weights: Floats) -> Floats:
    """The non-decreasing sequence nearest to `values` (n,) in weighted least squares: pool adjacent violators.

    Source: Barlow et al., Statistical inference under order restrictions, 1972.
    """
    means: list[float] = []
    masses: list[float] = []
    lengths: list[int] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        mean, mass, length = value, weight, 1
        while means and means[-1] >= mean:  # the block before is not lower: one block of both
            before = masses.pop()
            mean = (mean * mass + means.pop() * before) / (mass + before)
            mass += before
            length += lengths.pop()
        means.append(mean)
        masses.append(mass)
        lengths.append(length)
    return np.repeat(means, lengths)
