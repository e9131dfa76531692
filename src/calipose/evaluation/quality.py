"""The quality of each pose: who it is of, by COCO's matching, its OKS, and how well its score foretells that.

COCO's files are read here, strictly, once for all of `evaluation`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from calipose.data.coco import require_keypoints
from calipose.errors import InputError
from calipose.geometry import Floats, keypoint_similarity, oks
from calipose.skeleton import COCO_17, Skeleton

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]
GroundTruthSource = str | Path | Mapping[str, Any]
ResultsSource = str | Path | Sequence[Mapping[str, Any]]

POSES_PER_PICTURE = 20  # pycocotools' maxDets for keypoints
LARGEST_AREA = 1e5**2  # pixels; the end of pycocotools' area ranges
LEAST_SCORE = 0.05  # of the population "all returned poses" (docs/design: the contract of the score)
LEAST_OKS = 0.1  # below it a pose is of nobody


class _Image(msgspec.Struct):
    id: int


class _Category(msgspec.Struct):
    id: int
    keypoints: list[str] | None = None


class _Annotation(msgspec.Struct):
    image_id: int
    category_id: int
    area: float | None = None
    keypoints: list[float] | None = None
    bbox: list[float] | None = None
    num_keypoints: int | None = None
    iscrowd: int | bool | None = None


class _GroundTruthFile(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


class _Result(msgspec.Struct):
    image_id: int
    category_id: int
    keypoints: list[float]
    score: float


@dataclass(frozen=True)
class People:
    """The annotated people of one picture.

    Attributes: `keypoints_img` (g, k, 2); `labelled` (g, k); `area` (g,) pixels; `box` (g, 4) left, top,
    width, height; `crowd` (g,); `ignored` (g,): crowds and people without labelled keypoints, whom COCO
    neither wants found nor calls false.
    """

    keypoints_img: Floats
    labelled: Flags
    area: Floats
    box: Floats
    crowd: Flags
    ignored: Flags


@dataclass(frozen=True)
class Found:
    """One picture's poses, best first.

    Attributes: `keypoints_img` (p, k, 2); `scores` (p,); `entries` (p,), their positions in the results.
    """

    keypoints_img: Floats
    scores: Floats
    entries: Integers


@dataclass(frozen=True)
class GroundTruth:
    """All pictures of a COCO keypoint file in the order of their ids, and their people."""

    image_ids: tuple[int, ...]
    category_id: int
    people: tuple[People, ...]
    skeleton: Skeleton

    @cached_property
    def position(self) -> dict[int, int]:
        """Picture id -> position in `image_ids`."""
        return {image_id: i for i, image_id in enumerate(self.image_ids)}

    @cached_property
    def wanted(self) -> Integers:
        """`(pictures,)`: the number of people that are not ignored."""
        return np.array([(~people.ignored).sum() for people in self.people], np.int64)


def _load(source: Any, what: str, kind: Any) -> tuple[str, Any]:
    """A JSON file or plain objects -> name for errors, checked structs."""
    name = what
    if isinstance(source, str | Path):
        name = f"{what} {source}"
        try:
            source = json.loads(Path(source).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{name}: {error}") from None
    try:
        return name, msgspec.convert(source, kind)
    except msgspec.ValidationError as error:
        raise InputError(f"{name}: {error}") from None


def _by_picture(positions: list[int], pictures: int) -> list[Integers]:
    """Indices of each picture's entries, in the order of the file."""
    order = np.argsort(positions, kind="stable")
    return np.split(order, np.searchsorted(np.array(positions, np.int64)[order], np.arange(1, pictures)))


def read_ground_truth(source: GroundTruthSource, skeleton: Skeleton = COCO_17) -> GroundTruth:
    """A COCO keypoint file, or its content, as arrays.

    The people's category is the one with `keypoints`, as `read_coco` chooses it; where none has them, the only one.
    Annotations of other categories are left out. A crowd, or a person without labelled keypoints, has the area of its
    box where it has none of its own.

    Raises:
        InputError: unreadable; no pictures, or one twice; not exactly one category of people; keypoints whose names
            are not the skeleton's; an annotation of an unknown picture, with a wrong number of keypoints, with
            numbers that are missing or not finite, or with neither labelled keypoints nor box.
    """
    name, content = _load(source, "ground truth", _GroundTruthFile)
    k = len(skeleton)
    fitting = [c for c in content.categories if c.keypoints] or content.categories
    if len(fitting) != 1:
        raise InputError(f"{name}: {len(fitting)} categories may be the people's; give 'keypoints' to exactly one")
    category = fitting[0]
    if category.keypoints:
        require_keypoints(category.keypoints, skeleton, name)
    image_ids = sorted(image.id for image in content.images)
    if not image_ids or len(set(image_ids)) != len(image_ids):
        raise InputError(f"{name}: 'images' is empty or has an id twice; list each picture once")
    position = {image_id: i for i, image_id in enumerate(image_ids)}

    triples, numbers, positions = [], [], []
    for i, entry in enumerate(content.annotations):
        if entry.category_id != category.id:
            continue
        where = f"{name}: annotations[{i}]"
        if entry.image_id not in position:
            raise InputError(f"{where}: image_id {entry.image_id} is not among 'images'; add or remove it")
        triple = np.array(entry.keypoints or [0.0] * 3 * k, np.float64)
        if len(triple) != 3 * k:
            raise InputError(f"{where}: {len(triple)} numbers in 'keypoints'; {k} keypoints have {3 * k}")
        labelled = int((triple[2::3] > 0).sum())
        if not entry.bbox and labelled == 0:
            raise InputError(f"{where}: neither labelled keypoints nor 'bbox'; give one of them")
        box = entry.bbox or [0.0] * 4
        if len(box) != 4:
            raise InputError(f"{where}: {len(box)} numbers in 'bbox'; write x, y, width, height")
        count = labelled if entry.num_keypoints is None else entry.num_keypoints
        crowd = bool(entry.iscrowd)
        area = entry.area
        if area is None and (crowd or count == 0 or labelled == 0):
            area = box[2] * box[3]
        if area is None or not (np.isfinite([*triple, *box]).all() and 0 <= area <= LARGEST_AREA):
            raise InputError(f"{where}: 'keypoints', 'bbox', 'area' must be finite numbers, 'area' in 0 to 1e10 pixels")
        triples.append(triple)
        numbers.append([area, *box, crowd, crowd or count == 0])
        positions.append(position[entry.image_id])

    joints = np.array(triples, np.float64).reshape(-1, k, 3)
    table = np.array(numbers, np.float64).reshape(-1, 7)
    flags = table[:, 5:] > 0
    people = tuple(
        People(joints[i, :, :2], joints[i, :, 2] > 0, table[i, 0], table[i, 1:5], flags[i, 0], flags[i, 1])
        for i in _by_picture(positions, len(image_ids))
    )
    return GroundTruth(tuple(image_ids), category.id, people, skeleton)


def read_results(source: ResultsSource, truth: GroundTruth) -> list[Found]:
    """A COCO keypoint results file, or its entries: one `Found` a picture of the ground truth.

    Raises:
        InputError: unreadable, or an entry of an unknown picture or category, with a wrong number of
            keypoints, or with numbers that are not finite.
    """
    name, results = _load(source, "results", list[_Result])
    k = len(truth.skeleton)
    for i, entry in enumerate(results):
        where = f"{name}: entry {i}"
        if entry.image_id not in truth.position:
            raise InputError(f"{where}: image_id {entry.image_id} is not in the ground truth; remove the entry")
        if entry.category_id != truth.category_id:
            raise InputError(f"{where}: category_id is {entry.category_id}; the truth's is {truth.category_id}")
        if len(entry.keypoints) != 3 * k:
            raise InputError(
                f"{where}: {len(entry.keypoints)} numbers in 'keypoints'; write x, y, score for each of"
                f" the {k} keypoints of skeleton '{truth.skeleton.name}'"
            )
        if not (math.isfinite(entry.score) and all(map(math.isfinite, entry.keypoints))):
            raise InputError(f"{where}: 'score' or 'keypoints' is not finite; remove the entry")
    keypoints = np.array([r.keypoints for r in results], np.float64).reshape(-1, k, 3)[..., :2]
    scores = np.array([r.score for r in results], np.float64)
    found = []
    for entries in _by_picture([truth.position[r.image_id] for r in results], len(truth.image_ids)):
        best_first = entries[np.argsort(-scores[entries], kind="stable")]
        found.append(Found(keypoints[best_first], scores[best_first], best_first))
    return found


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
