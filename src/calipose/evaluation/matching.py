"""COCO's matching of poses with annotated people, and the OKS of each pose."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike

from calipose.calibration.regions import person_size_img
from calipose.evaluation.ground_truth import (
    Flags,
    GroundTruth,
    GroundTruthSource,
    Integers,
    People,
    read_ground_truth,
)
from calipose.evaluation.results import DetectedPoses, ResultsSource, read_results
from calipose.geometry import Floats, keypoint_similarity
from calipose.skeleton import COCO_17, Skeleton

POSES_PER_IMAGE = 20  # pycocotools' maxDets for keypoints
MIN_OKS = 0.1  # below it a pose is a false positive
MIN_OVERLAP = 0.1  # IoU of two people's boxes from which they crowd each other


def oks_matrix(keypoints_img: Floats, people: People, skeleton: Skeleton, counted: Flags | None = None) -> Floats:
    """OKS of poses `(p, k, 2)` with people: `(p, g)`.

    Where a person has no labelled keypoint, the distances are those to the person's box made three times as wide
    and high about its centre (pycocotools' `computeOks`).

    Args:
        keypoints_img: of the poses; NaN where a keypoint was not detected, which has similarity 0 with everyone.
        people: of the image.
        skeleton: of both.
        counted: `(p, k)` the keypoints over which the mean is taken, where labelled; by default all.
    """
    sigmas = skeleton.sigmas_array
    with np.errstate(over="ignore"):  # a keypoint absurdly far off has similarity 0
        # Eq. 1 with x and y apart, which spares numpy a slow sum over two numbers.
        x, y = (keypoints_img[:, None, :, axis] - people.keypoints_img[..., axis] for axis in (0, 1))
        keypoints = detected_similarity(keypoint_similarity(x * x + y * y, people.area, sigmas)) * people.labelled
        if counted is None:
            similarity: Floats = keypoints.sum(-1) / np.maximum(people.labelled.sum(1), 1)
        else:
            similarity = (keypoints * counted[:, None]).sum(-1) / np.maximum(
                counted @ people.labelled.T.astype(np.int64), 1
            )
        for g in np.flatnonzero(~people.labelled.any(1)):
            corner, size = people.box[g, :2], people.box[g, 2:]
            before, after = corner - size - keypoints_img, keypoints_img - corner - 2 * size
            d2 = ((np.maximum(before, 0) + np.maximum(after, 0)) ** 2).sum(-1)
            similarity[:, g] = detected_similarity(keypoint_similarity(d2, people.area[g], sigmas)).mean(-1)
    return similarity


def detected_similarity(similarity: Floats) -> Floats:
    """0 instead of NaN, the similarity of a keypoint that was not detected."""
    return np.nan_to_num(similarity, copy=False, nan=0.0)


def greedy_match(similarity: Floats, ignored: Flags, crowd: Flags, thresholds: ArrayLike) -> Integers:
    """COCO's matching in one image: each pose in turn takes the free person of highest OKS.

    A person is taken once, a crowd any number of times; an ignored person only if no other will do; of equals
    the last (pycocotools' `evaluateImg`).

    Args:
        similarity: (p, g) OKS, best pose first.
        ignored: (g,).
        crowd: (g,).
        thresholds: (t,) of the OKS.

    Returns:
        (t, p) the person's index, or -1.
    """
    min_oks = np.minimum(np.asarray(thresholds, np.float64), 1 - 1e-10).tolist()
    # Lists: an image holds a few people, and for so few numpy is slower than Python.
    ignored_people, shared, lowest = ignored.tolist(), crowd.tolist(), min(min_oks)
    candidates = []  # of each pose that is near anybody: its people, best first
    for p, row in enumerate(similarity.tolist()):
        people = [g for g, value in enumerate(row) if value >= lowest]
        if people:
            people.sort(key=lambda g: (ignored_people[g], -row[g], -g))
            candidates.append((p, [(g, row[g]) for g in people]))
    match = np.full((len(min_oks), len(similarity)), -1, np.int64)
    for t, threshold in enumerate(min_oks):
        taken = set()
        for p, near in candidates:
            for g, value in near:
                if value >= threshold and g not in taken:
                    match[t, p] = g
                    if not shared[g]:
                        taken.add(g)
                    break
    return match


@dataclass(frozen=True)
class Matches:
    """Poses and the people that they are matched with; poses of ignored people and crowds are left out.

    Attributes:
        entry: (n,) index in the results.
        image: (n,) index in the ground truth's order of ids, rising.
        rank: (n,) of the pose in its image, 0 the best.
        score: (n,) as the results say.
        oks: (n,) 0 for a false positive.
        person: (n,) index of the person among all the annotations, image by image; -1 for a false positive.
        duplicate_of: (n,) likewise, the person that a false positive is a duplicate of: it has an OKS of 0.1 or more
            with them, but another pose is matched with them. Of several the person of highest OKS; -1 where the pose is
            matched, or where nobody is near (background).
        duplicate_oks: (n,) its OKS with that person; 0 where it is no duplicate.
        area: (n,) of the person in pixels, nan for a false positive.
        labelled: (n,) number of the person's labelled keypoints.
        pose_area: (n,) width x height of the pose in pixels.
        overlapped: (n,) the box of another annotated person overlaps the person's (of a false positive, the pose's)
            by an IoU of 0.1 or more.
        keypoint_scores: (n, k) the third numbers of the results.
        similarity: (n, k) exp(-d^2 / 2 s^2 k^2) of each labelled keypoint, whose mean is the OKS; nan where it is not
            labelled, and for a false positive.
        distance_img: (n, k) pixels between a keypoint and its annotation; nan likewise, and where it was not detected.
        pose_size_img: (n,) `person_size_img` of the pose.
        visible: (n, k) the person's keypoint is labelled as visible; False for a false positive.
    """

    entry: Integers
    image: Integers
    rank: Integers
    score: Floats
    oks: Floats
    person: Integers
    duplicate_of: Integers
    duplicate_oks: Floats
    area: Floats
    labelled: Integers
    pose_area: Floats
    overlapped: Flags
    keypoint_scores: Floats
    similarity: Floats
    distance_img: Floats
    pose_size_img: Floats
    visible: Flags

    def __len__(self) -> int:
        return len(self.score)

    def __getitem__(self, mask: Flags) -> Matches:
        """The chosen poses."""
        return Matches(*(getattr(self, f.name)[mask] for f in fields(self)))


def match_poses(ground_truth: GroundTruthSource, results: ResultsSource, skeleton: Skeleton = COCO_17) -> Matches:
    """`match_found` of files or their content.

    Raises:
        InputError: as `read_ground_truth` and `read_results`.
    """
    truth = read_ground_truth(ground_truth, skeleton)
    found = read_results(results, truth)
    return match_found(truth, found, oks_matrices(truth, found))


def oks_matrices(truth: GroundTruth, found: list[DetectedPoses]) -> list[Floats]:
    """`oks_matrix` of each image: `(p, g)`."""
    return [
        oks_matrix(poses.keypoints_img, people, truth.skeleton)
        for people, poses in zip(truth.people, found, strict=True)
    ]


def match_found(truth: GroundTruth, found: list[DetectedPoses], oks: list[Floats]) -> Matches:
    """The OKS of each pose with the person that COCO's matching gives it.

    First the match is COCO's at OKS 0.5, so that `oks >= 0.5` says exactly which poses AP50 counts as correct.
    Then the remaining poses take, best first, the free person of highest OKS down to 0.1, so that a partly
    correct pose keeps its OKS. With a single pass at 0.1 a bad pose of high score could take its
    neighbour's person, and the neighbour's correct pose would be called wrong.

    Args:
        truth: the annotated people.
        found: the poses of each image.
        oks: what `oks_matrices` gives for them.
    """
    parts, offset = [], 0
    for i, (people, poses, similarity) in enumerate(zip(truth.people, found, oks, strict=True)):
        match = greedy_match(similarity, people.ignored, people.crowd, [0.5])[0]
        rest = np.flatnonzero(match < 0)
        free = np.setdiff1d(np.flatnonzero(~people.ignored), match)
        none = np.zeros(len(free), bool)
        second = greedy_match(similarity[np.ix_(rest, free)], none, none, [MIN_OKS])[0]
        match[rest[second >= 0]] = free[second[second >= 0]]

        # One row more stands for background, which the index -1 finds.
        kept = np.flatnonzero(~np.append(people.ignored, False)[match])
        match = match[kept]
        keypoints_img = poses.keypoints_img[kept]
        low, high = np.nanmin(keypoints_img, 1), np.nanmax(keypoints_img, 1)
        duplicate_of, duplicate_oks = _duplicates(similarity[kept], match, people.ignored)
        parts.append(
            Matches(
                entry=poses.entries[kept],
                image=np.full(len(kept), i, np.int64),
                rank=kept,
                score=poses.scores[kept],
                oks=np.pad(similarity, ((0, 0), (0, 1)))[kept, match],
                person=np.where(match < 0, -1, match + offset),
                duplicate_of=np.where(duplicate_of < 0, -1, duplicate_of + offset),
                duplicate_oks=duplicate_oks,
                area=np.append(people.area, np.nan)[match],
                labelled=np.append(people.labelled.sum(1), 0)[match],
                pose_area=(high - low).prod(-1),
                overlapped=_overlapped(np.concatenate([low, high], 1), people, match),
                keypoint_scores=poses.keypoint_scores[kept],
                similarity=_keypoint_similarity(keypoints_img, people, match, truth.skeleton),
                distance_img=_distances(keypoints_img, people, match),
                pose_size_img=person_size_img(keypoints_img),
                visible=np.pad(people.visible, ((0, 1), (0, 0)))[match],
            )
        )
        offset += len(people.area)
    return Matches(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Matches)))


def _duplicates(similarity: Floats, match: Integers, ignored: Flags) -> tuple[Integers, Floats]:
    """`Matches.duplicate_of`, counted in this image, and `duplicate_oks`, of one image's poses (p, g)."""
    # One column more stands for nobody, whom an OKS of less than MIN_OKS with all people finds.
    near = np.pad(np.where(ignored, 0.0, similarity), ((0, 0), (0, 1)))
    best = np.where(match < 0, near.argmax(1), -1)
    oks = np.where(match < 0, near.max(1), 0.0)
    is_duplicate = oks >= MIN_OKS
    return np.where(is_duplicate, best, -1), np.where(is_duplicate, oks, 0.0)


def _keypoint_similarity(keypoints_img: Floats, people: People, match: Integers, skeleton: Skeleton) -> Floats:
    """`Matches.similarity` of one image's poses (p, k, 2)."""
    similarity = np.full(keypoints_img.shape[:2], np.nan)
    matched, person = np.flatnonzero(match >= 0), match[match >= 0]
    with np.errstate(over="ignore"):
        d2 = ((keypoints_img[matched] - people.keypoints_img[person]) ** 2).sum(-1)
        near = detected_similarity(keypoint_similarity(d2, people.area[person], skeleton.sigmas_array))
    similarity[matched] = np.where(people.labelled[person], near, np.nan)
    return similarity


def _distances(keypoints_img: Floats, people: People, match: Integers) -> Floats:
    """`Matches.distance_img` of one image's poses (p, k, 2)."""
    distance = np.full(keypoints_img.shape[:2], np.nan)
    matched, person = np.flatnonzero(match >= 0), match[match >= 0]
    x, y = (keypoints_img[matched, :, axis] - people.keypoints_img[person, :, axis] for axis in (0, 1))
    distance[matched] = np.where(people.labelled[person], np.hypot(x, y), np.nan)
    return distance


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
    overlap[np.arange(len(match))[match >= 0], match[match >= 0]] = 0  # not with the person's own box
    return np.asarray((overlap >= MIN_OVERLAP).any(1))
