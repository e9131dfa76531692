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
from calipose.geometry import Floats, keypoint_similarity
from calipose.skeleton import COCO_17, Skeleton

POSES_PER_IMAGE = 20  # pycocotools' maxDets for keypoints
MIN_OKS = 0.1  # below it a pose is of nobody
MIN_OVERLAP = 0.1  # IoU of two people's boxes from which they crowd each other


def oks_matrix(keypoints_img: Floats, people: People, skeleton: Skeleton) -> Floats:
    """OKS of poses `(p, k, 2)` with people: `(p, g)`.

    Where a person has no labelled joint, the distances are those to the person's box made three times as wide
    and high about its centre (pycocotools' `computeOks`).
    """
    sigmas = skeleton.sigmas_array
    with np.errstate(over="ignore"):  # a joint absurdly far off has similarity 0
        # Eq. 1 with x and y apart, which spares numpy a slow sum over two numbers.
        x, y = (keypoints_img[:, None, :, axis] - people.keypoints_img[..., axis] for axis in (0, 1))
        keypoints = keypoint_similarity(x * x + y * y, people.area, sigmas) * people.labelled
        similarity: Floats = keypoints.sum(-1) / np.maximum(people.labelled.sum(1), 1)
        for g in np.flatnonzero(~people.labelled.any(1)):
            corner, size = people.box[g, :2], people.box[g, 2:]
            before, after = corner - size - keypoints_img, keypoints_img - corner - 2 * size
            d2 = ((np.maximum(before, 0) + np.maximum(after, 0)) ** 2).sum(-1)
            similarity[:, g] = keypoint_similarity(d2, people.area[g], sigmas).mean(-1)
    return similarity


def greedy_match(similarity: Floats, ignored: Flags, crowd: Flags, thresholds: ArrayLike) -> Integers:
    """COCO's matching in one image: each pose in turn takes the free person of highest OKS.

    A person is taken once, a crowd any number of times; an ignored person only if no other will do; of equals
    the last (pycocotools' `evaluateImg`).

    Args: `similarity` (p, g), best pose first; `ignored`, `crowd` (g,); `thresholds` (t,) of the OKS.

    Returns: `(t, p)`, the person's index or -1.
    """
    least = np.minimum(np.asarray(thresholds, np.float64), 1 - 1e-10).tolist()
    # Lists: an image holds a few people, and for so few numpy is slower than Python.
    passed_over, shared, lowest = ignored.tolist(), crowd.tolist(), min(least)
    wishes = []  # of each pose that is near anybody: whom it would take, best first
    for p, row in enumerate(similarity.tolist()):
        people = [g for g, value in enumerate(row) if value >= lowest]
        if people:
            people.sort(key=lambda g: (passed_over[g], -row[g], -g))
            wishes.append((p, [(g, row[g]) for g in people]))
    match = np.full((len(least), len(similarity)), -1, np.int64)
    for t, threshold in enumerate(least):
        taken = set()
        for p, people_of in wishes:
            for g, value in people_of:
                if value >= threshold and g not in taken:
                    match[t, p] = g
                    if not shared[g]:
                        taken.add(g)
                    break
    return match


@dataclass(frozen=True)
class Matches:
    """Poses and whom they are of; poses of ignored people and crowds are left out.

    Attributes, all `(n,)` but for the last two:
        entry: position in the results.
        image: position in the ground truth's order of ids.
        rank: of the pose in its image, 0 the best.
        score: as the results say.
        oks: 0 where the pose is of nobody.
        person: position of the person among all the annotations, image by image; -1 nobody.
        area: of the person in pixels, nan where nobody.
        labelled: the person's labelled keypoints.
        pose_area: width x height of the pose in pixels.
        overlapped: the box of another annotated person overlaps the person's (where nobody, the pose's) by an IoU
            of 0.1 or more.
        keypoint_scores: `(n, k)`, the third numbers of the results.
        similarity: `(n, k)`, exp(-d^2 / 2 s^2 k^2) of each labelled joint, whose mean is the OKS; nan where it is not
            labelled, or the pose of nobody.
    """

    entry: Integers
    image: Integers
    rank: Integers
    score: Floats
    oks: Floats
    person: Integers
    area: Floats
    labelled: Integers
    pose_area: Floats
    overlapped: Flags
    keypoint_scores: Floats
    similarity: Floats

    def __len__(self) -> int:
        return len(self.score)

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
    parts, before = [], 0
    for i, (people, found) in enumerate(zip(truth.people, read_results(results, truth), strict=True)):
        similarity = oks_matrix(found.keypoints_img, people, skeleton)
        match = greedy_match(similarity, people.ignored, people.crowd, [0.5])[0]
        rest = np.flatnonzero(match < 0)
        free = np.setdiff1d(np.flatnonzero(~people.ignored), match)
        nobody = np.zeros(len(free), bool)
        second = greedy_match(similarity[np.ix_(rest, free)], nobody, nobody, [MIN_OKS])[0]
        match[rest[second >= 0]] = free[second[second >= 0]]

        # One row more stands for nobody, whom the index -1 finds.
        kept = np.flatnonzero(~np.append(people.ignored, False)[match])
        match = match[kept]
        keypoints_img = found.keypoints_img[kept]
        low, high = keypoints_img.min(1), keypoints_img.max(1)
        parts.append(
            Matches(
                entry=found.entries[kept],
                image=np.full(len(kept), i, np.int64),
                rank=kept,
                score=found.scores[kept],
                oks=np.pad(similarity, ((0, 0), (0, 1)))[kept, match],
                person=np.where(match < 0, -1, match + before),
                area=np.append(people.area, np.nan)[match],
                labelled=np.append(people.labelled.sum(1), 0)[match],
                pose_area=(high - low).prod(-1),
                overlapped=_overlapped(np.concatenate([low, high], 1), people, match),
                keypoint_scores=found.keypoint_scores[kept],
                similarity=_keypoint_similarity(keypoints_img, people, match, skeleton),
            )
        )
        before += len(people.area)
    return Matches(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Matches)))


def _keypoint_similarity(keypoints_img: Floats, people: People, match: Integers, skeleton: Skeleton) -> Floats:
    """`Matches.similarity` of one image's poses (p, k, 2)."""
    similarity = np.full(keypoints_img.shape[:2], np.nan)
    of, person = np.flatnonzero(match >= 0), match[match >= 0]
    with np.errstate(over="ignore"):
        d2 = ((keypoints_img[of] - people.keypoints_img[person]) ** 2).sum(-1)
        near = keypoint_similarity(d2, people.area[person], skeleton.sigmas_array)
    similarity[of] = np.where(people.labelled[person], near, np.nan)
    return similarity


def _overlapped(pose_corners: Floats, people: People, match: Integers) -> Flags:
    """`Matches.overlapped` of one image's poses, corners (p, 4)."""
    if len(people.area) == 0:
        return np.zeros(len(match), bool)
    corners = np.concatenate([people.box[:, :2], people.box[:, :2] + people.box[:, 2:]], 1)
    own = np.where((match < 0)[:, None], pose_corners, corners[match])[:, None]
    sides = np.minimum(own[..., 2:], corners[:, 2:]) - np.maximum(own[..., :2], corners[:, :2])
    inside = sides.clip(min=0).prod(-1)
    union = (own[..., 2:] - own[..., :2]).prod(-1) + (corners[:, 2:] - corners[:, :2]).prod(-1) - inside
    overlap = inside / np.maximum(union, np.finfo(np.float64).tiny)
    overlap[np.arange(len(match))[match >= 0], match[match >= 0]] = 0  # nobody overlaps himself
    return np.asarray((overlap >= MIN_OVERLAP).any(1))
