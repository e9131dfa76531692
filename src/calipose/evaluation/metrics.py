"""The metrics of scores: how well scores predict the OKS of their poses, one row of `METRICS` each.

A metric needs one row: the score figures, the tables of `calipose evaluate`, `compare` and `report`, and the figures as
JSON all read the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from calipose.evaluation.ground_truth import Integers
from calipose.geometry import Floats

BINS = 15  # of equal mass


def pearson(a: ArrayLike, b: ArrayLike) -> float:
    """Pearson's correlation of two `(n,)` arrays; nan where one of them is constant or n < 2."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])


def ranks(values: ArrayLike) -> Floats:
    """Ranks from 1, `(n,)`; equal values share the mean of theirs."""
    _, group, counts = np.unique(np.asarray(values, np.float64), return_inverse=True, return_counts=True)
    mean: Floats = (counts.cumsum() - (counts - 1) / 2)[group]
    return mean


def rank_correlation(score: ArrayLike, oks: ArrayLike) -> float:
    """Spearman's correlation of two `(n,)` arrays; nan where one of them is constant or n < 2."""
    return pearson(ranks(score), ranks(oks))


@dataclass(frozen=True)
class Reliability:
    """Bins of poses of rising score, about equally many in each; fewer bins where there are few poses.

    Attributes:
        mean_score: (bins,).
        mean_oks: (bins,).
        poses: (bins,) how many are in each.
    """

    mean_score: Floats
    mean_oks: Floats
    poses: Integers

    @property
    def share(self) -> Floats:
        """Of all poses, in each bin."""
        shares: Floats = self.poses / max(self.poses.sum(), 1)
        return shares


def reliability(score: ArrayLike, oks: ArrayLike, bins: int = BINS) -> Reliability:
    """Mean score and mean OKS in bins of equal mass; `score`, `oks` (n,)."""
    score, oks = np.asarray(score, np.float64), _shared(score, oks)
    order = np.argsort(score, kind="stable")
    poses = bin_sizes(len(order), bins)
    return Reliability(_bin_means(score[order], poses), _bin_means(oks[order], poses), poses)


def ece(score: ArrayLike, oks: ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error: mean of |mean score - mean OKS| over bins of equal mass; nan without poses.

    Source: Naeini et al., AAAI 2015; equal mass: Nguyen and O'Connor, EMNLP 2015.
    """
    binned = reliability(score, oks, bins)
    return float(binned.share @ np.abs(binned.mean_score - binned.mean_oks)) if binned.poses.sum() else math.nan


def brier(score: ArrayLike, oks: ArrayLike) -> float:
    """Mean squared difference of score and OKS; nan without poses (Brier, 1950)."""
    score, oks = np.asarray(score, np.float64), np.asarray(oks, np.float64)
    return float(((score - oks) ** 2).mean()) if len(score) else math.nan


def resolution(score: ArrayLike, oks: ArrayLike, bins: int = BINS) -> float:
    """How far the OKS of the bins differ from the mean OKS (squared), which no calibration changes; nan without poses.

    Source: the term of that name in Murphy's decomposition of the Brier score, 1973.
    """
    binned = reliability(score, oks, bins)
    mean = binned.share @ binned.mean_oks
    return float(binned.share @ (binned.mean_oks - mean) ** 2) if binned.poses.sum() else math.nan


def risk_coverage(score: ArrayLike, oks: ArrayLike) -> tuple[Floats, Floats]:
    """Keeping the best 1, 2, ... n poses: the share kept (n,), and the mean of 1 - OKS among them (n,)."""
    score, oks = np.asarray(score, np.float64), _shared(score, oks)
    kept = np.arange(1, len(score) + 1)
    return kept / max(len(score), 1), np.cumsum(1 - oks[np.argsort(-score, kind="stable")]) / kept


def area_under_risk_coverage(score: ArrayLike, oks: ArrayLike) -> float:
    """Mean risk over all coverages; nan without poses (Geifman et al., ICLR 2019)."""
    risk = risk_coverage(score, oks)[1]
    return float(risk.mean()) if len(risk) else math.nan


def keypoint_auc(score: ArrayLike, correct: ArrayLike) -> float:
    """Probability that a correct keypoint scores higher than a wrong one: area under the ROC curve.

    Args:
        score: (n,).
        correct: (n,) bool.

    Returns:
        The area; nan where all are correct, or all wrong.
    """
    score, correct = np.asarray(score, np.float64), np.asarray(correct, bool)
    good, bad = int(correct.sum()), int((~correct).sum())
    if not good or not bad:
        return math.nan
    return float((ranks(score)[correct].sum() - good * (good + 1) / 2) / (good * bad))


def _shared(score: ArrayLike, oks: ArrayLike) -> Floats:
    """The OKS of each pose; poses of equal score, which have no order, share the mean of theirs."""
    oks = np.asarray(oks, np.float64)
    if not len(oks):
        return oks
    _, group = np.unique(np.asarray(score, np.float64), return_inverse=True)
    means: Floats = (np.bincount(group, oks) / np.bincount(group))[group]
    return means


def bin_sizes(poses: int, bins: int) -> Integers:
    """Of at most `bins` bins, the first ones greater by one where it does not come out even."""
    bins = max(min(bins, poses), 1)
    sizes: Integers = np.full(bins, poses // bins, np.int64) + (np.arange(bins) < poses % bins)
    return sizes[sizes > 0]


def _bin_means(values: Floats, sizes: Integers) -> Floats:
    if len(sizes) == 0:
        return np.zeros(0)
    means: Floats = np.add.reduceat(values, np.append(0, np.cumsum(sizes)[:-1])) / sizes
    return means


@dataclass(frozen=True)
class Metric:
    """A figure of scores.

    Attributes:
        label: in tables.
        better: which values are better.
        function: scores (n,), OKS (n,) -> value; nan where it is not defined.
        meaning: what it says, as the report explains it.
        in_parts: whether `calipose evaluate` shows it for the parts of the poses (sizes and so on) as well.
        by_calibration: whether calibration changes it more than by chance.

    Example:
        >>> METRICS["bias"] = Metric("Bias", "lower", lambda score, oks: abs(float((score - oks).mean())))
    """

    label: str
    better: Literal["higher", "lower"]
    function: Callable[[Floats, Floats], float]
    meaning: str = ""
    in_parts: bool = False
    by_calibration: bool = False


METRICS: dict[str, Metric] = {  # by their keys in JSON
    "ece": Metric(
        "ECE",
        "lower",
        ece,
        "how far score and mean OKS lie apart on average",
        in_parts=True,
        by_calibration=True,
    ),
    "brier": Metric(
        "Brier",
        "lower",
        brier,
        "the mean squared difference of score and OKS",
        in_parts=True,
        by_calibration=True,
    ),
    "resolution": Metric(
        "Resolution", "higher", resolution, "how far the mean OKS differs between groups of poses of similar score"
    ),
    "spearman": Metric(
        "Spearman", "higher", rank_correlation, "the rank correlation of score and OKS, at most 1", in_parts=True
    ),
    "pearson": Metric("Pearson", "higher", pearson, "the linear correlation of score and OKS, at most 1"),
    "aurc": Metric(
        "Risk-coverage area",
        "lower",
        area_under_risk_coverage,
        "the mean of 1 - OKS of the best-scored poses, over all shares of the poses that are kept",
    ),
}
