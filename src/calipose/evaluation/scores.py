"""What scores are worth: how well they foretell the OKS of their poses.

Every figure is taken of one population of poses (`populations`), and means little without the AP beside it: who drops
his bad poses improves all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from calipose.evaluation.coco_files import Flags, Integers
from calipose.evaluation.matching import POSES_PER_IMAGE, Matches
from calipose.geometry import Floats

BINS = 15  # of equal mass
MIN_SCORE = 0.05  # of the population "all returned poses" (docs/scores.md)
MEDIUM_AREA, LARGE_AREA = 32.0**2, 96.0**2  # pixels; COCO's bounds of people's sizes
AREA_PER_BOX = 0.53  # a person's area over that of the box of their joints, mean of COCO


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
    """Bins of poses of rising score, about equally many in each; all `(bins,)`, fewer where there are few poses."""

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
    poses = _bin_sizes(len(order), bins)
    return Reliability(_bin_means(score[order], poses), _bin_means(oks[order], poses), poses)


def ece(score: ArrayLike, oks: ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error: mean of |mean score - mean OKS| over bins of equal mass; nan without poses.

    Source: Naeini et al., AAAI 2015; equal mass: Nguyen and O'Connor, EMNLP 2015.
    """
    of = reliability(score, oks, bins)
    return float(of.share @ np.abs(of.mean_score - of.mean_oks)) if of.poses.sum() else math.nan


def brier(score: ArrayLike, oks: ArrayLike) -> float:
    """Mean squared difference of score and OKS; nan without poses (Brier, 1950)."""
    score, oks = np.asarray(score, np.float64), np.asarray(oks, np.float64)
    return float(((score - oks) ** 2).mean()) if len(score) else math.nan


def resolution(score: ArrayLike, oks: ArrayLike, bins: int = BINS) -> float:
    """How far the OKS of the bins differ from the mean OKS (squared): what a calibrated score tells; nan without poses.

    Source: the term of that name in Murphy's decomposition of the Brier score, 1973.
    """
    of = reliability(score, oks, bins)
    return float(of.share @ (of.mean_oks - of.share @ of.mean_oks) ** 2) if of.poses.sum() else math.nan


def risk_coverage(score: ArrayLike, oks: ArrayLike) -> tuple[Floats, Floats]:
    """Keeping the best 1, 2, ... n poses: the share kept (n,), and the mean of 1 - OKS among them (n,)."""
    score, oks = np.asarray(score, np.float64), _shared(score, oks)
    kept = np.arange(1, len(score) + 1)
    return kept / max(len(score), 1), np.cumsum(1 - oks[np.argsort(-score, kind="stable")]) / kept


def area_under_risk_coverage(score: ArrayLike, oks: ArrayLike) -> float:
    """Mean risk over all coverages; nan without poses (Geifman et al., ICLR 2019)."""
    risk = risk_coverage(score, oks)[1]
    return float(risk.mean()) if len(risk) else math.nan


FIGURES: dict[str, Callable[[Floats, Floats], float]] = {
    "ece": ece,
    "brier": brier,
    "resolution": resolution,
    "spearman": rank_correlation,
    "pearson": pearson,
    "aurc": area_under_risk_coverage,
}


@dataclass(frozen=True)
class ScoreFigures:
    """What the scores of one population are worth; nan where there are too few poses.

    Attributes: `poses` and the `images` they are in; the figures as the functions of this module; `intervals`, by
    name the middle 95 % of a bootstrap over images, where asked for.
    """

    poses: int
    images: int
    mean_score: float
    mean_oks: float
    ece: float
    brier: float
    resolution: float
    spearman: float
    pearson: float
    aurc: float
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)


def score_figures(matches: Matches, bootstrap: int = 0, seed: int = 0) -> ScoreFigures:
    """Of these poses; `bootstrap` resamples of their images give the intervals, 0 none."""
    score, oks = matches.score, matches.oks
    means = (float(score.mean()), float(oks.mean())) if len(score) else (math.nan, math.nan)
    images, place = np.unique(matches.image, return_inverse=True)
    intervals: dict[str, tuple[float, float]] = {}
    if bootstrap and len(score):
        rows = np.split(np.argsort(place, kind="stable"), np.cumsum(np.bincount(place))[:-1])
        rng = np.random.default_rng(seed)
        drawn = []
        for _ in range(bootstrap):
            chosen = np.concatenate([rows[i] for i in rng.integers(0, len(rows), len(rows))])
            drawn.append([figure(score[chosen], oks[chosen]) for figure in FIGURES.values()])
        for name, values in zip(FIGURES, np.array(drawn).T, strict=True):
            finite = values[np.isfinite(values)]
            low, high = np.percentile(finite, [2.5, 97.5]) if len(finite) else (math.nan, math.nan)
            intervals[name] = (float(low), float(high))
    figures = {name: figure(score, oks) for name, figure in FIGURES.items()}
    return ScoreFigures(len(score), len(images), *means, **figures, intervals=intervals)


def populations(matches: Matches) -> dict[str, Flags]:
    """Both populations of the contract: all poses with score >= 0.05 ("score"); each image's best 20 ("best")."""
    return {"score": matches.score >= MIN_SCORE, "best": matches.rank < POSES_PER_IMAGE}


def slices(matches: Matches) -> dict[str, dict[str, Flags]]:
    """Parts of the poses: by size, by labelled keypoints (poses of people only), by crowding.

    A pose that is of nobody has the size of its own box, times 0.53 as a person's area usually is.
    """
    area = np.where(matches.person < 0, matches.pose_area * AREA_PER_BOX, matches.area)
    keypoints = matches.labelled
    return {
        "size": {
            "small": area < MEDIUM_AREA,
            "medium": (area >= MEDIUM_AREA) & (area < LARGE_AREA),
            "large": area >= LARGE_AREA,
        },
        "labelled keypoints": {
            "1-5": (keypoints >= 1) & (keypoints <= 5),
            "6-10": (keypoints >= 6) & (keypoints <= 10),
            "11 or more": keypoints >= 11,
        },
        "crowding": {"alone": ~matches.overlapped, "overlapped": matches.overlapped},
    }


def score_quality(matches: Matches, bootstrap: int = 0) -> dict[str, ScoreFigures]:
    """`score_figures` of both `populations`."""
    return {name: score_figures(matches[mask], bootstrap) for name, mask in populations(matches).items()}


def keypoint_auc(score: ArrayLike, right: ArrayLike) -> float:
    """Chance that a right joint scores higher than a wrong one: area under the ROC curve; nan without both kinds.

    Args: `score` (n,), `right` (n,) bool.
    """
    score, right = np.asarray(score, np.float64), np.asarray(right, bool)
    good, bad = int(right.sum()), int((~right).sum())
    if not good or not bad:
        return math.nan
    return float((ranks(score)[right].sum() - good * (good + 1) / 2) / (good * bad))


def _shared(score: ArrayLike, oks: ArrayLike) -> Floats:
    """Each pose's OKS, but of poses of equal score, which come in no order, the mean of theirs."""
    oks = np.asarray(oks, np.float64)
    if not len(oks):
        return oks
    _, group = np.unique(np.asarray(score, np.float64), return_inverse=True)
    means: Floats = (np.bincount(group, oks) / np.bincount(group))[group]
    return means


def _bin_sizes(poses: int, bins: int) -> Integers:
    """Of at most `bins` bins, the first ones greater by one where it does not come out even."""
    bins = max(min(bins, poses), 1)
    sizes: Integers = np.full(bins, poses // bins, np.int64) + (np.arange(bins) < poses % bins)
    return sizes[sizes > 0]


def _bin_means(values: Floats, sizes: Integers) -> Floats:
    if len(sizes) == 0:
        return np.zeros(0)
    means: Floats = np.add.reduceat(values, np.append(0, np.cumsum(sizes)[:-1])) / sizes
    return means
