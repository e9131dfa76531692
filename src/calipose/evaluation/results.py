"""COCO's keypoint results files, read strictly: once a file, for all that is computed from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import msgspec
import numpy as np

from calipose.errors import InputError
from calipose.evaluation.ground_truth import GroundTruth, Integers, by_image, checked, read_json
from calipose.geometry import Floats

ResultsSource: TypeAlias = "str | Path | Sequence[Mapping[str, Any]] | ResultEntries"


class _Result(msgspec.Struct):
    image_id: int
    category_id: int
    keypoints: list[float]
    score: float


@dataclass(frozen=True)
class DetectedPoses:
    """The poses of a results file in one image, best first.

    Attributes:
        keypoints_img: (p, k, 2).
        keypoint_scores: (p, k), the third numbers of the keypoints.
        scores: (p,).
        entries: (p,) index of each pose in the results.
    """

    keypoints_img: Floats
    keypoint_scores: Floats
    scores: Floats
    entries: Integers


@dataclass(frozen=True)
class ResultEntries:
    """A COCO results file that was read and whose entries were checked one by one.

    Attributes:
        source: what messages call the file.
        entries: with all that they hold.
        records: the same, in their types.
    """

    source: str
    entries: Sequence[Mapping[str, Any]]
    records: Sequence[_Result] = field(repr=False)

    def __len__(self) -> int:
        return len(self.records)

    @cached_property
    def scores(self) -> Floats:
        """`(n,)`."""
        return np.array([record.score for record in self.records], np.float64)


def load_results(source: ResultsSource) -> ResultEntries:
    """A results file, or its entries; what was read already is returned as it is.

    Raises:
        InputError: unreadable, or an entry is none of a COCO results file.
    """
    if isinstance(source, ResultEntries):
        return source
    if isinstance(source, str | Path):
        name = f"results {source}"
        entries = read_json(source, name)
    else:
        name, entries = "results", source
    return ResultEntries(name, entries, checked(entries, name, list[_Result]))


def require_triples(results: ResultEntries) -> None:
    """Check what can be checked without a ground truth.

    Raises:
        InputError: an entry's keypoints are no triples, or hold numbers that are not finite.
    """
    for i, entry in enumerate(results.records):
        if len(entry.keypoints) % 3 or not math.isfinite(entry.score) or not all(map(math.isfinite, entry.keypoints)):
            raise InputError(
                f"{results.source}: entry {i}: 'keypoints' must be x, y, score of each, and all numbers finite"
            )


def read_results(source: ResultsSource, truth: GroundTruth) -> list[DetectedPoses]:
    """A COCO keypoint results file, or its entries: the `DetectedPoses` of each image of the ground truth.

    Raises:
        InputError: unreadable, or an entry of an unknown image or category, with a wrong number of
            keypoints, or with numbers that are not finite.
    """
    results = load_results(source)
    records, position, k = results.records, truth.position, len(truth.skeleton)
    sound = all(
        entry.image_id in position and entry.category_id == truth.category_id and len(entry.keypoints) == 3 * k
        for entry in records
    )
    if not sound:
        _refuse(results, truth)
    triples = np.array([entry.keypoints for entry in records], np.float64).reshape(-1, k, 3)
    if not (np.isfinite(triples).all() and np.isfinite(results.scores).all()):
        _refuse(results, truth)
    scores = results.scores
    found = []
    for entries in by_image([position[r.image_id] for r in records], len(truth.image_ids)):
        best_first = entries[np.argsort(-scores[entries], kind="stable")]
        points = triples[best_first]
        found.append(DetectedPoses(points[..., :2], points[..., 2], scores[best_first], best_first))
    return found


def _refuse(results: ResultEntries, truth: GroundTruth) -> NoReturn:
    """Name the first entry that does not fit the ground truth.

    Raises:
        InputError: always.
    """
    records, position, k = results.records, truth.position, len(truth.skeleton)
    unknown = sum(entry.image_id not in position for entry in records)
    for i, entry in enumerate(records):
        where = f"{results.source}: entry {i}"
        if entry.image_id not in position:
            if unknown > 1:
                raise InputError(
                    f"{where}: image_id {entry.image_id} is not among the images of the ground truth, as in {unknown}"
                    f" of {len(records)} entries; is that the annotation file of these results?"
                )
            raise InputError(
                f"{where}: image_id {entry.image_id} is not among the images of the ground truth; remove it"
            )
        if entry.category_id != truth.category_id:
            raise InputError(f"{where}: category_id is {entry.category_id}; the truth's is {truth.category_id}")
        if len(entry.keypoints) != 3 * k:
            raise InputError(
                f"{where}: {len(entry.keypoints)} numbers in 'keypoints'; write x, y, score for each of"
                f" the {k} keypoints of skeleton '{truth.skeleton.name}'"
            )
        if not (math.isfinite(entry.score) and all(map(math.isfinite, entry.keypoints))):
            raise InputError(f"{where}: 'score' or 'keypoints' is not finite; remove the entry")
    raise AssertionError("every entry fits")
