"""What a reader of the figures must know of a results file, in words: few images, odd scores, ties."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from calipose.evaluation.ap import MatchTable
from calipose.evaluation.fitting import GOOD_IMAGES, MIN_IMAGES
from calipose.evaluation.ground_truth import GroundTruth
from calipose.evaluation.matching import Matches
from calipose.evaluation.results import DetectedPoses
from calipose.geometry import Floats

MIN_TIED_SHARE = 0.2  # of the poses share their score: from here on it is said
SHARE_MARGIN = 0.25  # by which a score may leave [0, 1] without being said


def cautions(truth: GroundTruth, found: list[DetectedPoses], matches: Matches, oks: list[Floats]) -> list[str]:
    """All cautions of a results file.

    Args:
        truth: the annotated people.
        found: the poses of each image.
        matches: of these poses.
        oks: what `oks_matrices` gives for them.
    """
    warnings = []
    images, score = len(np.unique(matches.image)), matches.score
    if MIN_IMAGES <= images < GOOD_IMAGES:
        warnings.append(
            f"calibrated by poses in {images} images only: with less than {GOOD_IMAGES} chance plays a part, and"
            " the maps of the folds differ, which changes the order between images"
        )
    if len(score) and not (score.min() > -SHARE_MARGIN and score.max() < 1 + SHARE_MARGIN):
        warnings.append(
            f"scores go from {score.min():.3g} to {score.max():.3g}: they are no expected OKS, so the figures as given"
            " say little of them"
        )
    return warnings + ties(truth, found, matches, oks)


def ties(truth: GroundTruth, found: list[DetectedPoses], matches: Matches, oks: list[Floats]) -> list[str]:
    """What it costs that poses share their scores; nothing where few do. Arguments as `cautions`."""
    score = matches.score
    if len(score) < 2:
        return []
    values, group, count = np.unique(score, return_inverse=True, return_counts=True)
    if len(values) == 1:
        return [f"all {len(score)} poses have the score {score[0]:g}: nothing says which of them are good"]
    tied = int((count[group] > 1).sum())
    if tied < MIN_TIED_SHARE * len(score):
        return []
    given = np.zeros(sum(len(image.entries) for image in found))
    for image in found:
        given[image.entries] = image.scores
    rank = np.unique(given, return_inverse=True)[1].astype(np.float64)
    nudge = np.zeros(len(given))
    nudge[matches.entry] = matches.oks / 4  # less than the distance of two ranks
    worst, best = (_ap(truth, found, oks, rank + sign * nudge) for sign in (-1, 1))
    return [
        f"{tied} of {len(score)} poses share their score with others, as if scores were rounded: depending on the"
        f" order of equals AP lies between {worst:.3f} and {best:.3f}; write scores that are not rounded"
    ]


def _ap(truth: GroundTruth, found: list[DetectedPoses], oks: list[Floats], scores: Floats) -> float:
    """AP with other scores, one for each entry of the results."""
    images, matrices = [], []
    for image, matrix in zip(found, oks, strict=True):
        rows = np.argsort(image.entries)  # entries in their order decide between equals
        rows = rows[np.argsort(-scores[image.entries[rows]], kind="stable")]
        entries = image.entries[rows]
        images.append(
            replace(
                image,
                keypoints_img=image.keypoints_img[rows],
                keypoint_scores=image.keypoint_scores[rows],
                scores=scores[entries],
                entries=entries,
            )
        )
        matrices.append(matrix[rows])
    return MatchTable.match(truth, images, matrices).average_precision(np.ones(len(found), np.int64))
