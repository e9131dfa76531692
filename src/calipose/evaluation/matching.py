"""Who each pose is of, by COCO's matching, and its OKS."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike

from calipose.evaluation.coco_files import (
    Flags,
    GroundTruthSource,
    Integers,
    People,
    ResultsSource,
    read_ground_truth,
    read_results,
)
from calipose.geometry import Floats, keypoint_similarity, oks
from calipose.skeleton import COCO_17, Skeleton

POSES_PER_PICTURE = 20  # pycocotools' maxDets for keypoints
LEAST_OKS = 0.1  # below it a pose is of nobody


def oks_matrix(keypoints_img: Floats, people: People, skeleton: Skeleton) -> Floats:
    """OKS of poses `(p, k, 2)` with people: `(p, g)`.

    Where a person has no labelled joint, the distances are those to the person's box made three times as wide
    and high about its centre (pycocotools' `computeOks`).
    """
    sigmas = skeleton.sigmas_array
    with np.errstate(over="ignore"):  # a joint absurdly far off has similarity 0
        similarity = oks(keypoints_img[:, None], people.keypoints_img, people.labelled, people.area, sigmas)
        for g in np.flatnonzero(~people.labelled.any(1)):
            corner, size = people.box[g, :2], people.box[g, 2:]
            before, after = corner - size - keypoints_img, keypoints_img - corner - 2 * size
            d2 = ((np.maximum(before, 0) + np.maximum(after, 0)) ** 2).sum(-1)
            similarity[:, g] = keypoint_similarity(d2, people.area[g], sigmas).mean(-1)
    return similarity


def greedy_match(similarity: Floats, ignored: Flags, crowd: Flags, thresholds: ArrayLike) -> Integers:
    """COCO's matching in one picture: each pose in turn takes the free person of highest OKS.

    A person is taken once, a crowd any number of times; an ignored person only if no other will do; of equals
    the last (pycocotools' `evaluateImg`).

    Args: `similarity` (p, g), best pose first; `ignored`, `crowd` (g,); `thresholds` (t,) of the OKS.

    Returns: `(t, p)`, the person's index or -1.
    """
    least = np.minimum(np.asarray(thresholds, np.float64), 1 - 1e-10)
    poses, people = similarity.shape
    match = np.full((len(least), poses), -1, np.int64)
    if people == 0:
        return match
    rows = np.arange(len(least))
    taken = np.zeros((len(least), people), bool)
    for p in range(poses):
        for group in (~ignored, ignored):
            value = np.where(group & ~taken, similarity[p], -1.0)
            best = people - 1 - value[:, ::-1].argmax(1)
            free = (match[:, p] < 0) & (value[rows, best] >= least)
            match[free, p] = best[free]
        matched = np.flatnonzero(match[:, p] >= 0)
        taken[matched, match[matched, p]] = ~crowd[match[matched, p]]
    return match


@dataclass(frozen=True)
class Matches:
    """Poses and whom they are of; poses of ignored people and crowds are left out.

    Attributes, all `(n,)`: `entry` in the results; `picture`, position in the ground truth's order of ids;
    `rank` of the pose in its picture, 0 the best; `score`; `oks`, 0 where the pose is of nobody; `area` of
    the person in pixels, nan where nobody; `labelled`, the person's labelled joints.
    """

    entry: Integers
    picture: Integers
    rank: Integers
    score: Floats
    oks: Floats
    area: Floats
    labelled: Integers

    def __getitem__(self, mask: Flags) -> Matches:
        """The chosen poses."""
        return Matches(*(getattr(self, f.name)[mask] for f in fields(self)))


def match_poses(ground_truth: GroundTruthSource, results: ResultsSource, skeleton: Skeleton = COCO_17) -> Matches:
    """The OKS of each pose with the person that COCO's matching gives it.

    First the match is COCO's at OKS 0.5, so that `oks >= 0.5` says exactly which poses AP50 counts as right.
    Then the poses left over take, best first, the free person of highest OKS down to 0.1, so that a
    half-right pose keeps its OKS. With a single pass at 0.1 a bad pose of high score could take its
    neighbour's person, and the neighbour's right pose would be called wrong.

    Raises:
        InputError: as `read_ground_truth` and `read_results`.
    """
    truth = read_ground_truth(ground_truth, skeleton)
    parts = []
    for i, (people, found) in enumerate(zip(truth.people, read_results(results, truth), strict=True)):
        similarity = oks_matrix(found.keypoints_img, people, skeleton)
        match = greedy_match(similarity, people.ignored, people.crowd, [0.5])[0]
        rest = np.flatnonzero(match < 0)
        free = np.setdiff1d(np.flatnonzero(~people.ignored), match)
        nobody = np.zeros(len(free), bool)
        second = greedy_match(similarity[np.ix_(rest, free)], nobody, nobody, [LEAST_OKS])[0]
        match[rest[second >= 0]] = free[second[second >= 0]]

        # One row more stands for nobody, whom the index -1 finds.
        kept = np.flatnonzero(~np.append(people.ignored, False)[match])
        match = match[kept]
        parts.append(
            Matches(
                entry=found.entries[kept],
                picture=np.full(len(kept), i, np.int64),
                rank=kept,
                score=found.scores[kept],
                oks=np.pad(similarity, ((0, 0), (0, 1)))[kept, match],
                area=np.append(people.area, np.nan)[match],
                labelled=np.append(people.labelled.sum(1), 0)[match],
            )
        )
    return Matches(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Matches)))
