"""What a reader of the figures must know of a results file, in words: few images, odd scores, ties, placeholders."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from calipose.evaluation.ap import MatchTable
from calipose.evaluation.fitting import GOOD_IMAGES, MIN_IMAGES
from calipose.evaluation.ground_truth import Flags, GroundTruth, People
from calipose.evaluation.matching import Matches, oks_matrix
from calipose.evaluation.results import DetectedPoses, num_entries
from calipose.geometry import Floats

MIN_TIED_SHARE = 0.2  # of the poses share their score: from here on it is said
SHARE_MARGIN = 0.25  # by which a score may leave [0, 1] without being said
PLACEHOLDERS = ((0.0, 0.0), (-1.0, -1.0))  # where tools put keypoints that they are not sure of


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
    return warnings + placeholders(truth, found, oks) + ties(truth, found, matches, oks)


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
    given = np.zeros(num_entries(found))
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


def placeholders(truth: GroundTruth, found: list[DetectedPoses], oks: list[Floats]) -> list[str]:
    """What it costs that keypoints lie at a placeholder, or are missing, instead of where the model saw them.

    The cost is the AP by the other keypoints: each pose's OKS is taken over those of its keypoints that have a place.
    Arguments as `cautions`.
    """
    warnings = []
    for point in PLACEHOLDERS:
        annotated = sum(_annotated_at(people, point) for people in truth.people)
        if annotated:
            warnings.append(
                f"the ground truth has {annotated} labelled keypoints at exactly {_shown(point)}, outside of their"
                " person's box, as if nobody had set them: give them visibility 0, so that they do not count"
            )
    kinds = {
        f"keypoints at exactly {_shown(point)}": [_at(image.keypoints_img, point) for image in found]
        for point in PLACEHOLDERS
    }
    undetected = [np.asarray(np.isnan(image.keypoints_img).any(-1)) for image in found]
    kinds["keypoints that were not detected (NaN)"] = undetected
    for what, masks in kinds.items():
        poses = sum(int(mask.any(1).sum()) for mask in masks)
        if poses:
            warnings.append(f"{poses} of {sum(map(len, masks))} poses have {what}{_cost(truth, found, oks, masks)}")
    return warnings


def _cost(truth: GroundTruth, found: list[DetectedPoses], oks: list[Floats], missing: list[Flags]) -> str:
    """End of the sentence on missing keypoints `(p, k)` of each image: how many, and what they cost."""
    without = [
        oks_matrix(image.keypoints_img, people, truth.skeleton, ~mask) if mask.any() else matrix
        for image, people, mask, matrix in zip(found, truth.people, missing, oks, strict=True)
    ]
    once = np.ones(len(found), np.int64)
    given, others = (MatchTable.match(truth, found, each).average_precision(once) for each in (oks, without))
    count = sum(int(mask.sum()) for mask in missing)
    cost = "" if np.isnan(given) else f": AP is {given:.3f}, by the other keypoints of these poses {others:.3f}"
    return (
        f" ({count} keypoints), which count as wrong where they are labelled{cost}. Write the place that the model"
        " predicts, however low the keypoint's score"
    )


def _annotated_at(people: People, point: tuple[float, float]) -> int:
    """How many labelled keypoints lie exactly there, although the person's box does not reach so far."""
    corner = people.box[:, :2]
    inside = np.asarray(((corner <= point) & (corner + people.box[:, 2:] >= point)).all(1))
    return int((_at(people.keypoints_img, point) & people.labelled & ~inside[:, None]).sum())


def _at(keypoints_img: Floats, point: tuple[float, float]) -> Flags:
    """`(p, k)`: the keypoint lies exactly there."""
    return np.asarray((keypoints_img == point).all(-1))


def _shown(point: tuple[float, float]) -> str:
    return f"({point[0]:g}, {point[1]:g})"


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
