"""Kinds of keypoint errors, in the manner of COCO's keypoint analysis, and what each costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from calipose.evaluation.ap import MatchTable
from calipose.evaluation.ground_truth import Flags, GroundTruth, Integers
from calipose.evaluation.matching import Matches, detected_similarity, oks_matrices
from calipose.evaluation.results import DetectedPoses, num_entries
from calipose.geometry import Floats, keypoint_similarity

KINDS = ("good", "jitter", "inversion", "swap", "miss")
GOOD, JITTER, INVERSION, SWAP, MISS = range(len(KINDS))
GOOD_SIMILARITY, NEAR_SIMILARITY = 0.85, 0.5


def keypoint_error_kinds(truth: GroundTruth, matches: Matches, keypoints_img: Floats) -> Integers:
    """Kind of error of each keypoint of each pose, an index in `KINDS`.

    A predicted keypoint is compared with the annotated keypoint of its own name and with its mirror image, of its own
    person and of every other person in the image, by exp(-d^2 / 2 s^2 k^2) with that person's area. The nearest
    decides; of equals the first of this list:

    - good: its own, similarity 0.85 or more;
    - jitter: its own, 0.5 to 0.85;
    - inversion: the mirror image on its own person (left taken for right), 0.5 or more;
    - swap: a keypoint of another person, 0.5 or more;
    - miss: nothing within 0.5, or the keypoint was not detected.

    Source: Ronchi and Perona, Benchmarking and error diagnosis in multi-instance pose estimation, ICCV 2017,
    section 3.1, and their code, which decides by the nearest.

    Args:
        truth: the annotated people.
        matches: the poses.
        keypoints_img: (n, k, 2) of the poses of `matches`.

    Returns:
        (n, k), -1 where the keypoint is not labelled or the pose not matched.
    """
    kinds = np.full(matches.similarity.shape, -1, np.int64)
    twin, sigmas = truth.skeleton.flip_index, truth.skeleton.sigmas_array
    ends = np.searchsorted(matches.image, np.arange(len(truth.people) + 1))  # images rise
    offset = 0
    for i, people in enumerate(truth.people):
        rows = ends[i] + np.flatnonzero(matches.person[ends[i] : ends[i + 1]] >= 0)
        own = matches.person[rows] - offset
        offset += len(people.area)
        if len(rows) == 0:
            continue
        points = np.stack([people.keypoints_img, people.keypoints_img[:, twin]])  # (2, g, k, 2)
        labelled = np.stack([people.labelled, people.labelled[:, twin]])
        with np.errstate(over="ignore"):
            d2 = ((keypoints_img[rows, None, None] - points) ** 2).sum(-1)  # (r, 2, g, k)
        near = np.where(labelled, detected_similarity(keypoint_similarity(d2, people.area, sigmas)), -1.0)
        each = np.arange(len(rows))
        best = near.max((1, 2))
        mine, mirrored = near[each, 0, own], near[each, 1, own]
        kind = np.where(mirrored == best, INVERSION, SWAP)
        kind = np.where(mine == best, np.where(mine >= GOOD_SIMILARITY, GOOD, JITTER), kind)
        kind[best < NEAR_SIMILARITY] = MISS
        kinds[rows] = np.where(people.labelled[own], kind, -1)
    return kinds


def kind_counts(kinds: Integers) -> Integers:
    """`(k, 5)`: how many keypoints of each name are of each kind."""
    return np.stack([(kinds == kind).sum(0) for kind in range(len(KINDS))], axis=1)


@dataclass(frozen=True)
class Repair:
    """The figures if one kind of error were gone.

    Attributes:
        name: of the repair.
        ap: then.
        mean_oks: of the matched poses then.
    """

    name: str
    ap: float
    mean_oks: float


def repairs(
    truth: GroundTruth,
    found: Sequence[DetectedPoses],
    matches: Matches,
    keypoints_img: Floats,
    kinds: Integers,
    oks: list[Floats] | None = None,
) -> list[Repair]:
    """AP and mean OKS as they are, and with each kind of error repaired alone.

    A repaired keypoint lies exactly where it is annotated, which is more than a better network could give: an upper
    bound. "scores": the score of each pose is its OKS. "background": false positives are gone.

    Args:
        truth: the annotated people.
        found: the poses of each image.
        matches: of these poses.
        keypoints_img: (n, k, 2) of the poses of `matches`.
        kinds: as `keypoint_error_kinds` gives them.
        oks: what `oks_matrices` gives, where it is there already.
    """
    once = np.ones(len(found), np.int64)
    oks = oks_matrices(truth, list(found)) if oks is None else oks
    count = num_entries(found)
    annotated = np.concatenate([people.keypoints_img for people in truth.people])
    matched = matches.person >= 0

    def precision(images: list[DetectedPoses], oks: list[Floats] | None = None) -> float:
        return MatchTable.match(truth, images, oks).average_precision(once)

    def chosen(rows: Callable[[DetectedPoses], Integers], new_scores: Floats | None = None) -> float:
        """AP of these rows of each image, in their order."""
        orders = [rows(image) for image in found]
        images = [
            DetectedPoses(
                image.keypoints_img[order],
                image.keypoint_scores[order],
                image.scores[order] if new_scores is None else new_scores[image.entries[order]],
                image.entries[order],
            )
            for image, order in zip(found, orders, strict=True)
        ]
        return precision(images, [matrix[order] for matrix, order in zip(oks, orders, strict=True)])

    def mean_oks(correct: Flags | None = None) -> float:
        similarity = matches.similarity[matched]
        if correct is not None:
            similarity = np.where(correct[matched], 1.0, similarity)
        return float(np.nanmean(similarity, axis=1).mean()) if matched.any() else float("nan")

    results = [Repair("as it is", precision(list(found), oks), mean_oks())]
    for kind in (JITTER, INVERSION, SWAP, MISS):
        wrong = kinds == kind
        moved = np.full((count, *keypoints_img.shape[1:]), np.nan)
        repaired = np.where(wrong[..., None], annotated[matches.person], keypoints_img) if len(annotated) else moved
        moved[matches.entry] = repaired
        images = []
        for image in found:
            new = moved[image.entries]
            images.append(replace(image, keypoints_img=np.where(np.isnan(new), image.keypoints_img, new)))
        results.append(Repair(KINDS[kind], precision(images), mean_oks(wrong)))

    score = np.zeros(count)
    for image in found:
        score[image.entries] = image.scores
    score[matches.entry] = matches.oks
    best_first = chosen(lambda image: np.argsort(-score[image.entries], kind="stable"), score)
    results.append(Repair("scores", best_first, mean_oks()))
    gone = np.zeros(count, bool)
    gone[matches.entry[~matched]] = True
    results.append(Repair("background", chosen(lambda image: np.flatnonzero(~gone[image.entries])), mean_oks()))
    return results
