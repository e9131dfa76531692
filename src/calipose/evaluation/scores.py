"""What scores are worth: how well they foretell the OKS of their poses."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from calipose.evaluation.matching import POSES_PER_PICTURE, Matches
from calipose.geometry import Floats

LEAST_SCORE = 0.05  # of the population "all returned poses" (docs/design: the contract of the score)


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
class ScoreQuality:
    """How well scores foretell OKS in one population of poses."""

    poses: int
    mean_score: float
    mean_oks: float
    spearman: float
    pearson: float

    @classmethod
    def of(cls, matches: Matches) -> ScoreQuality:
        """Of these poses; nan where there are too few."""
        score, value = matches.score, matches.oks
        means = (float(score.mean()), float(value.mean())) if len(score) else (math.nan, math.nan)
        return cls(len(score), *means, rank_correlation(score, value), pearson(score, value))


def score_quality(matches: Matches) -> dict[str, ScoreQuality]:
    """On both populations: all poses with score >= 0.05 (`"score"`); each picture's best 20 (`"best"`)."""
    populations = {"score": matches.score >= LEAST_SCORE, "best": matches.rank < POSES_PER_PICTURE}
    return {name: ScoreQuality.of(matches[mask]) for name, mask in populations.items()}
