"""What the scores of poses are worth, by populations and parts of the poses.

Every figure holds for one population of poses (`populations`). It means little without the AP beside it: a model that
returns fewer bad poses improves all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from calipose.evaluation.ap import middle_95
from calipose.evaluation.chance import ByChance, calibration_p, ece_by_chance
from calipose.evaluation.ground_truth import Flags
from calipose.evaluation.matching import POSES_PER_IMAGE, Matches
from calipose.evaluation.metrics import METRICS, ece, keypoint_auc, rank_correlation
from calipose.geometry import AREA_PER_BOX

MIN_SCORE = 0.05  # of the population "score"
MEDIUM_AREA, LARGE_AREA = 32.0**2, 96.0**2  # pixels; COCO's bounds of people's sizes
CORRECT_KEYPOINT = 0.5  # similarity from which a keypoint is correct, in the AUC
OCCLUDED_SHARE = 1 / 3  # of a person's labelled keypoints: from here on the person counts as occluded
MAX_DRAWS = 200  # of a perfectly calibrated score
FLAGS = 3  # values that the third numbers have if they are no scores, but COCO's visibility flags


@dataclass(frozen=True)
class ScoreFigures:
    """What the scores of some poses are worth.

    Attributes:
        poses: how many.
        images: that they are in.
        mean_score: nan without poses.
        mean_oks: likewise.
        values: of each of `METRICS`, by key; nan where there are too few poses.
        intervals: by key the 95 % bootstrap interval over images, where it was asked for.
        by_chance: the ECE of a perfectly calibrated score on as many poses in as many images, likewise.
        p: of "the scores are the expected OKS" (`calibration_p`), likewise; small where they are surely not.

    Example:
        >>> figures = calipose.evaluate("annotations.json", "results.json").scores["score"]
        >>> figures["ece"], figures["spearman"]
    """

    poses: int
    images: int
    mean_score: float
    mean_oks: float
    values: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    by_chance: ByChance | None = None
    p: float = math.nan

    def __getitem__(self, key: str) -> float:
        """The value of a metric."""
        return self.values[key]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers: the metrics stand beside the counts and means."""
        means = {"mean_score": self.mean_score, "mean_oks": self.mean_oks}
        counts = {"poses": self.poses, "images": self.images}
        intervals = {key: list(ends) for key, ends in self.intervals.items()}
        chance = None if self.by_chance is None else asdict(self.by_chance)
        return {
            **counts,
            **means,
            **self.values,
            "intervals": intervals,
            "ece_by_chance": chance,
            "p_calibrated": self.p,
        }


class BeforeAfter(NamedTuple):
    """Figures of the scores as given, and after cross-fitted calibration.

    Attributes:
        before: of the scores as given.
        after: of the calibrated ones; None where calibration was not possible.
    """

    before: ScoreFigures
    after: ScoreFigures | None


@dataclass(frozen=True)
class KeypointFigures:
    """What keypoint scores are worth, over the labelled keypoints of matched poses of score 0.05 or more.

    Attributes:
        count: of these keypoints.
        mean_score: of them.
        mean_similarity: of them with the annotation, exp(-d^2 / 2 s^2 k^2).
        ece: of score and similarity.
        spearman: likewise.
        auc: probability that a correct keypoint (similarity of 0.5 or more) scores higher than a wrong one.
        pose_spearman: of the mean of a pose's keypoint scores and its OKS.
        pose_ece: likewise.
        by_chance: the ECE of perfectly calibrated keypoint scores; None where it was not asked for.
    """

    count: int
    mean_score: float
    mean_similarity: float
    ece: float
    spearman: float
    auc: float
    pose_spearman: float
    pose_ece: float
    by_chance: ByChance | None = None


def keypoint_figures(matches: Matches, bootstrap: int = 0) -> KeypointFigures | None:
    """What the keypoint scores are worth; None where there are none.

    Args:
        matches: the poses.
        bootstrap: draws of perfectly calibrated scores, 200 at most; 0 for none.
    """
    labelled = np.isfinite(matches.similarity)
    score, similarity = matches.keypoint_scores[labelled], matches.similarity[labelled]
    if not len(score) or not has_keypoint_scores(matches):
        return None
    matched = matches[matches.labelled > 0]
    mean = matched.keypoint_scores.mean(1)
    image = np.broadcast_to(matches.image[:, None], labelled.shape)[labelled]
    draws = min(bootstrap, MAX_DRAWS)
    return KeypointFigures(
        count=len(score),
        mean_score=float(score.mean()),
        mean_similarity=float(similarity.mean()),
        ece=ece(score, similarity),
        spearman=rank_correlation(score, similarity),
        auc=keypoint_auc(score, similarity >= CORRECT_KEYPOINT),
        pose_spearman=rank_correlation(mean, matched.oks),
        pose_ece=ece(mean, matched.oks),
        by_chance=ece_by_chance(score, similarity, image, draws) if draws else None,
    )


def keypoint_parts(matches: Matches, bootstrap: int = 0) -> dict[str, KeypointFigures]:
    """`keypoint_figures` of the visible and of the occluded keypoints; a part without keypoints is left out."""
    parts = {"visible": matches.visible, "occluded": ~matches.visible}
    figures = {
        part: keypoint_figures(replace(matches, similarity=np.where(mask, matches.similarity, np.nan)), bootstrap)
        for part, mask in parts.items()
    }
    return {part: each for part, each in figures.items() if each is not None}


def has_keypoint_scores(matches: Matches) -> bool:
    """Whether the third numbers of the results are keypoint scores, and no constant or COCO's flags 0, 1, 2."""
    return len(np.unique(matches.keypoint_scores)) > FLAGS


def score_figures(matches: Matches, bootstrap: int = 0, seed: int = 0) -> ScoreFigures:
    """What the scores of these poses are worth.

    Args:
        matches: the poses.
        bootstrap: resamples of their images for the intervals, 0 for none; likewise chance and test.
        seed: of the resamples.
    """
    score, oks = matches.score, matches.oks
    means = (float(score.mean()), float(oks.mean())) if len(score) else (math.nan, math.nan)
    images, index = np.unique(matches.image, return_inverse=True)
    intervals: dict[str, tuple[float, float]] = {}
    if bootstrap and len(score):
        rows = np.split(np.argsort(index, kind="stable"), np.cumsum(np.bincount(index))[:-1])
        rng = np.random.default_rng(seed)
        samples = []
        for _ in range(bootstrap):
            chosen = np.concatenate([rows[i] for i in rng.integers(0, len(rows), len(rows))])
            samples.append([metric.function(score[chosen], oks[chosen]) for metric in METRICS.values()])
        intervals = {key: middle_95(values) for key, values in zip(METRICS, np.array(samples).T, strict=True)}
    values = {key: metric.function(score, oks) for key, metric in METRICS.items()}
    figures = ScoreFigures(len(score), len(images), *means, values, intervals)
    return with_chance(figures, matches, min(bootstrap, MAX_DRAWS), seed) if bootstrap else figures


def with_chance(figures: ScoreFigures, matches: Matches, draws: int = MAX_DRAWS, seed: int = 0) -> ScoreFigures:
    """The figures with what chance alone would give, and with the test of "the scores are the expected OKS".

    Args:
        figures: of these poses.
        matches: the poses.
        draws: of a perfectly calibrated score.
        seed: of these.
    """
    if not len(matches):
        return figures
    by_chance = ece_by_chance(matches.score, matches.oks, matches.image, draws, seed)
    return replace(figures, by_chance=by_chance, p=calibration_p(matches.score, matches.oks, matches.image, seed=seed))


class ScoreDifference(NamedTuple):
    """A metric of b minus that of a.

    Attributes:
        difference: nan where either has none.
        interval: 95 %, over the same images for both.
    """

    difference: float
    interval: tuple[float, float]


def score_differences(
    a: Matches, b: Matches, images: int, bootstrap: int = 1000, seed: int = 0
) -> dict[str, ScoreDifference]:
    """How the scores of b differ from those of a in each of `METRICS`, by a bootstrap over images.

    Args:
        a: poses of one model.
        b: poses of another one in the same images.
        images: of the ground truth.
        bootstrap: resamples, each of the same images for both.
        seed: of the resamples.
    """
    rng = np.random.default_rng(seed)
    rows = [np.split(np.arange(len(each)), np.searchsorted(each.image, np.arange(1, images))) for each in (a, b)]
    samples = []
    for _ in range(bootstrap):
        chosen = rng.integers(0, images, images)
        values = []
        for each, of_image in zip((a, b), rows, strict=True):
            taken = np.concatenate([of_image[i] for i in chosen])
            score, oks = each.score[taken], each.oks[taken]
            values.append([metric.function(score, oks) for metric in METRICS.values()])
        samples.append(np.subtract(values[1], values[0]))
    differences = {}
    for i, (key, metric) in enumerate(METRICS.items()):
        difference = metric.function(b.score, b.oks) - metric.function(a.score, a.oks)
        differences[key] = ScoreDifference(difference, middle_95([sample[i] for sample in samples]))
    return differences


def populations(matches: Matches) -> dict[str, Flags]:
    """Both populations: all poses of score 0.05 or more ("score"), and the best 20 of each image ("best")."""
    return {"score": matches.score >= MIN_SCORE, "best": matches.rank < POSES_PER_IMAGE}


def best_poses(matches: Matches, number: int) -> Flags:
    """`(n,)`: the `number` poses of highest score; calibration, which keeps the order, chooses the same ones."""
    chosen = np.zeros(len(matches), bool)
    chosen[np.argsort(-matches.score, kind="stable")[:number]] = True
    return chosen


def slices(matches: Matches) -> dict[str, dict[str, Flags]]:
    """Parts of the poses: by size, by labelled keypoints and occlusion (matched poses only), by crowding.

    A person is occluded if a third or more of the labelled keypoints are labelled as not visible.

    A false positive has the size of its own box, times 0.53 as a person's area usually is.
    """
    area = np.where(matches.person < 0, matches.pose_area * AREA_PER_BOX, matches.area)
    keypoints = matches.labelled
    hidden = 1 - matches.visible.sum(1) / np.maximum(keypoints, 1)
    matched = matches.person >= 0
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
        "occlusion": {
            "visible": matched & (hidden < OCCLUDED_SHARE),
            "occluded": matched & (hidden >= OCCLUDED_SHARE),
        },
        "crowding": {"alone": ~matches.overlapped, "overlapped": matches.overlapped},
    }


def score_quality(matches: Matches, bootstrap: int = 0) -> dict[str, ScoreFigures]:
    """`score_figures` of both `populations`."""
    return {name: score_figures(matches[mask], bootstrap) for name, mask in populations(matches).items()}
