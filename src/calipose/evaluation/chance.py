"""What chance alone does to calibration errors, and a test of "the scores are the expected OKS" (numpy only).

Few poses never show an ECE of 0, however good their scores. And the poses of one image are alike, so that 250 poses of
100 images tell less than 250 of as many images: both functions here take images as the units that are independent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from calipose.calibration.within_images import WithinImages
from calipose.evaluation.ground_truth import Integers
from calipose.evaluation.metrics import BINS, bin_sizes
from calipose.geometry import Floats

DRAWS = 200
GROUP, GROUPS = 20, 12  # poses at least, of similar score; groups at most
GROUP_VALUES = 64  # of the OKS, by which a group is represented
STEEPEST = 200.0  # exponential tilt
ALIKE = np.linspace(0, 0.95, 9)  # correlations of one image's poses that are tried
FLIPS = 999  # of the images' signs, in the test
LEVEL = 0.05  # of the test


@dataclass(frozen=True)
class ByChance:
    """The ECE that a perfectly calibrated score shows on as many poses in as many images.

    Attributes:
        mean: over the draws.
        bound: 95 % of the draws lie below; an ECE above speaks against the scores.
    """

    mean: float
    bound: float


def draw_oks(score: ArrayLike, oks: ArrayLike, image: ArrayLike, draws: int = DRAWS, seed: int = 0) -> Floats:
    """OKS as they would be if the scores were perfectly calibrated: each pose's has its score as the mean.

    How an OKS is drawn, given its mean:

    1. The poses are sorted by score and split into groups of equal size (12 at most, of 20 poses or more). A group's
       OKS, with half a pose of OKS 0 and half of OKS 1 added, show what shape the distribution has at such scores:
       many false positives with 0, some duplicates, good poses near 0.9.
    2. For each pose that distribution is tilted exponentially, weights w exp(t y) of values y, so that its mean is the
       pose's score: the nearest distribution, in relative entropy, with that mean. Scores beyond [0, 1] count as 0, 1.
    3. The poses of an image are alike. Their ranks in their distributions come from a Gaussian copula of one common
       correlation: the one under which the drawn OKS, less their score, correlate within images as the given OKS do,
       less what is usual at their score.

    Args:
        score: (n,).
        oks: (n,) of the same poses, 0 for false positives; or similarities of keypoints.
        image: (n,) the image of each.
        draws: how many.
        seed: of the draws.

    Returns:
        (draws, n).
    """
    score, oks = np.asarray(score, np.float64), np.asarray(oks, np.float64)
    place = np.unique(np.asarray(image), return_inverse=True)[1].reshape(-1)
    values, cumulated, usual = _distributions(score.clip(0, 1), oks)
    rng = np.random.default_rng(seed)
    own, shared = rng.standard_normal((draws, len(score))), rng.standard_normal((draws, place.max(initial=-1) + 1))

    def drawn(alike: float, rows: slice) -> Floats:
        normal = np.sqrt(alike) * shared[rows][:, place] + np.sqrt(1 - alike) * own[rows]
        return _quantiles(values, cumulated, normal_cdf(normal))

    wanted = _correlation((oks - usual)[None], place)
    few = slice(0, min(draws, 40))
    found = [_correlation(drawn(alike, few) - score.clip(0, 1), place) for alike in ALIKE]
    alike = float(np.interp(wanted, np.maximum.accumulate(found), ALIKE))
    return drawn(alike, slice(None))


def ece_by_chance(
    score: ArrayLike, oks: ArrayLike, image: ArrayLike, draws: int = DRAWS, seed: int = 0, bins: int = BINS
) -> ByChance:
    """The ECE of draws of a perfectly calibrated score (`draw_oks`); nan without poses.

    Arguments as `draw_oks`; `bins` as `ece`.
    """
    score = np.asarray(score, np.float64)
    if not len(score):
        return ByChance(np.nan, np.nan)
    order = np.argsort(score, kind="stable")
    drawn = draw_oks(score, oks, image, draws, seed)[:, order] - score[order].clip(0, 1)
    sizes = bin_sizes(len(score), bins)
    errors = np.abs(np.add.reduceat(drawn, np.append(0, np.cumsum(sizes)[:-1]), axis=1)).sum(1) / len(score)
    return ByChance(float(errors.mean()), float(np.percentile(errors, 95)))


def calibration_p(score: ArrayLike, oks: ArrayLike, image: ArrayLike, flips: int = FLIPS, seed: int = 0) -> float:
    """P-value of "the mean OKS of the poses of any score is that score", by a bootstrap over images.

    The statistic is the largest absolute sum of OKS - score over the poses from the lowest score up to any other: a
    tendency shows in it, wherever it lies. In each resample the deviations of an image's poses keep or change
    their sign together, which under the hypothesis changes nothing but chance (wild cluster bootstrap).

    Source of the statistic: Arrieta-Ibarra et al., Metrics of calibration for probabilistic predictions, JMLR 2022;
    of the bootstrap: Cameron et al., Bootstrap-based improvements for inference with clustered errors, 2008.

    Args:
        score: (n,).
        oks: (n,) of the same poses.
        image: (n,) the image of each.
        flips: resamples.
        seed: of the resamples.

    Returns:
        At least 1 / (flips + 1); nan with poses in fewer than two images.
    """
    score, oks = np.asarray(score, np.float64), np.asarray(oks, np.float64)
    place = np.unique(np.asarray(image), return_inverse=True)[1].reshape(-1)
    images = int(place.max(initial=-1)) + 1
    if images < 2:
        return float("nan")
    order = np.argsort(score, kind="stable")
    deviation, place = (oks - score)[order], place[order]
    ends = np.flatnonzero(np.append(np.diff(score[order]) > 0, True))  # equal scores have no order
    rng = np.random.default_rng(seed)
    given = largest_sum(deviation[None], ends)[0]
    larger, done, part = 0, 0, max(1, 2_000_000 // len(score))
    while done < flips:
        number = min(part, flips - done)
        signs = rng.choice([-1.0, 1.0], (number, images))
        larger += int((largest_sum(deviation * signs[:, place], ends) >= given - 1e-12).sum())
        done += number
    return (1 + larger) / (1 + flips)


def largest_sum(deviation: Floats, ends: Integers) -> Floats:
    """`(r,)`: the largest absolute value of the running sums of `deviation` (r, n) after the poses `ends`."""
    largest: Floats = np.abs(np.cumsum(deviation, axis=1)[:, ends]).max(1)
    return largest


def _distributions(mean: Floats, oks: Floats) -> tuple[list[Floats], list[Floats], Floats]:
    """Of each pose the values (g,) of its OKS, rising, and their cumulated weights; and (n,) the groups' mean OKS."""
    order = np.argsort(mean, kind="stable")
    values: list[Floats] = [np.zeros(0)] * len(mean)
    cumulated, usual = list(values), np.zeros(len(mean))
    for rows in np.array_split(order, max(1, min(GROUPS, len(mean) // GROUP))):
        group = np.sort(oks[rows])
        if len(group) > GROUP_VALUES:
            group = group[np.linspace(0, len(group) - 1, GROUP_VALUES).round().astype(int)]
        y = np.concatenate([[0.0], group, [1.0]])
        weight = np.concatenate([[0.5], np.ones(len(group)), [0.5]])
        usual[rows] = oks[rows].mean() if len(rows) else 0.0
        tilted = _tilted(y, weight, mean[rows])
        for row, weights in zip(rows.tolist(), tilted.cumsum(1), strict=True):
            values[row], cumulated[row] = y, weights
    return values, cumulated, usual


def _tilted(y: Floats, weight: Floats, mean: Floats) -> Floats:
    """(n, g): weights of values y (g,) in [0, 1], as near to `weight` as they can be, of mean `mean` (n,)."""

    def weights(tilt: Floats) -> Floats:
        exponent = tilt[:, None] * y
        w = weight * np.exp(exponent - exponent.max(1, keepdims=True))
        shares: Floats = w / w.sum(1, keepdims=True)
        return shares

    low, high = np.full(len(mean), -STEEPEST), np.full(len(mean), STEEPEST)
    for _ in range(40):
        middle = (low + high) / 2
        below = weights(middle) @ y < mean
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return weights((low + high) / 2)


def _quantiles(values: list[Floats], cumulated: list[Floats], share: Floats) -> Floats:
    """(draws, n): each pose's value at `share` (draws, n)."""
    columns = [
        y[np.searchsorted(weights[:-1], column)] for y, weights, column in zip(values, cumulated, share.T, strict=True)
    ]
    return np.stack(columns, 1) if columns else np.zeros(share.shape)


def _correlation(residual: Floats, place: Integers) -> float:
    """Of two poses of one image, over all rows of `residual` (r, n), in [0, 1]; 0 where it is not defined."""
    return float(np.clip(np.nan_to_num(WithinImages.of(residual, place).correlation()), 0, 1))


_ERF = np.frompyfunc(math.erf, 1, 1)


def normal_cdf(z: Floats) -> Floats:
    """Of the standard normal distribution."""
    below: Floats = (1 + np.asarray(_ERF(z / math.sqrt(2)), np.float64)) / 2
    return below
