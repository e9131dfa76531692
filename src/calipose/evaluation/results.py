"""COCO's keypoint results files, read once a file, for all that is computed from it.

They are read strictly, but for what other tools write otherwise with one meaning: ids as text, names of files as image
ids, keypoints as triples, NaN for a keypoint that was not detected.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn, TypeAlias

import msgspec
import numpy as np

from calipose.data.dialects import Assumptions, mend_results, whole_number
from calipose.errors import InputError
from calipose.evaluation.ground_truth import Flags, GroundTruth, Integers, by_image
from calipose.evaluation.json_files import checked, read_json
from calipose.geometry import Floats
from calipose.plain_data import as_builtins
from calipose.poses import Poses
from calipose.skeleton import Skeleton

ResultsSource: TypeAlias = "str | Path | Sequence[Mapping[str, Any]] | ResultEntries"


class _Result(msgspec.Struct):
    image_id: int | str
    category_id: int
    keypoints: list[float]
    score: float


@dataclass(frozen=True)
class DetectedPoses:
    """The poses of a results file in one image, best first.

    Attributes:
        keypoints_img: (p, k, 2), NaN where a keypoint was not detected.
        keypoint_scores: (p, k), the third numbers of the keypoints; 0 where one was not detected.
        scores: (p,).
        entries: (p,) index of each pose in the results.
    """

    keypoints_img: Floats
    keypoint_scores: Floats
    scores: Floats
    entries: Integers


def drawable_poses(keypoints_img: Floats, scores: Floats, image_size: tuple[int, int], skeleton: Skeleton) -> Poses:
    """Poses for drawing with `min_keypoint_score` 0.5: keypoints that were not detected are not drawn.

    Args:
        keypoints_img: `(p, k, 2)`, NaN where a keypoint was not detected.
        scores: `(p,)`.
        image_size: width and height.
        skeleton: of the poses.
    """
    detected: Flags = np.asarray(np.isfinite(keypoints_img).all(-1))
    if detected.all():
        return Poses(keypoints_img, scores, image_size, None, skeleton)
    middle = np.nanmean(keypoints_img, axis=1, keepdims=True)
    points = np.where(detected[..., None], keypoints_img, middle)
    return Poses(points, scores, image_size, np.where(detected, 1.0, 0.0), skeleton)


def num_entries(found: Sequence[DetectedPoses]) -> int:
    """Number of a results file's entries up to the last that is in an image, for arrays by `DetectedPoses.entries`."""
    return max((int(image.entries.max()) + 1 for image in found if len(image.entries)), default=0)


@dataclass(frozen=True)
class ResultEntries:
    """A COCO results file that was read and whose entries were checked one by one.

    Attributes:
        source: what messages call the file.
        entries: with all that they hold.
        records: the same, in their types.
        assumptions: what was assumed in reading a file that is not as COCO writes it; a sentence each.
    """

    source: str
    entries: Sequence[Mapping[str, Any]]
    records: Sequence[_Result] = field(repr=False)
    assumptions: tuple[str, ...] = ()

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
        if isinstance(entries, Mapping) and "annotations" in entries:
            raise InputError(f"{name}: holds annotations, and no results; results are a list, an entry a pose")
    else:
        name, entries = "results", source
    assumed = Assumptions()

    def mend(content: Any) -> Any:
        nonlocal entries
        if not isinstance(source, str | Path):
            content = entries = as_builtins(content)
        return mend_results(content, assumed)

    records = checked(entries, name, list[_Result], mend)
    return ResultEntries(name, entries, records, assumed.remarks(name))


def require_triples(results: ResultEntries) -> None:
    """Check what can be checked without a ground truth.

    Raises:
        InputError: an entry's keypoints are no triples, or hold numbers that are infinite.
    """
    for i, entry in enumerate(results.records):
        if len(entry.keypoints) % 3 or not math.isfinite(entry.score) or any(map(math.isinf, entry.keypoints)):
            raise InputError(
                f"{results.source}: entry {i}: 'keypoints' must be x, y, score of each, and all numbers finite"
            )


def read_results(
    source: ResultsSource, truth: GroundTruth, *, only_labelled: bool = False, assumptions: list[str] | None = None
) -> list[DetectedPoses]:
    """A COCO keypoint results file, or its entries: the `DetectedPoses` of each image of the ground truth.

    A keypoint of which x or y is NaN was not detected; the pose is kept. An image id that is a text is the number that
    it says, or the name of the image's file, with or without folders and suffix.

    Args:
        source: the file, its entries, or what `load_results` gave.
        truth: the annotated people.
        only_labelled: leave out the poses of images that the ground truth does not have, instead of refusing them.
        assumptions: takes a sentence for each thing that was assumed or left out.

    Raises:
        InputError: unreadable, or an entry of an unknown image or category, with a wrong number of
            keypoints, or with numbers that are infinite, or NaN in all keypoints or the score.
    """
    results = load_results(source)
    assumed = Assumptions()
    image_ids = _image_ids(results, truth, assumed)
    kept = np.arange(len(image_ids))
    if only_labelled:
        kept = np.array([i for i in kept.tolist() if image_ids[i] in truth.position], np.int64)
        assumed.add("poses of images that are not labelled were left out", len(image_ids) - len(kept))
    records, position, k = [results.records[i] for i in kept.tolist()], truth.position, len(truth.skeleton)
    sound = all(
        image_ids[i] in position and record.category_id == truth.category_id and len(record.keypoints) == 3 * k
        for i, record in zip(kept, records, strict=True)
    )
    if not sound:
        _refuse(results, truth, image_ids, kept)
    triples = np.array([record.keypoints for record in records], np.float64).reshape(-1, k, 3)
    lost: Flags = np.asarray(np.isnan(triples[..., :2]).any(-1))
    if np.isinf(triples).any() or lost.all(1).any() or not np.isfinite(results.scores[kept]).all():
        _refuse(results, truth, image_ids, kept)
    unscored = np.isnan(triples[..., 2])
    assumed.add("keypoints without a score (NaN) got the score 0", int((unscored & ~lost).sum()))
    triples[lost, :2] = np.nan
    triples[lost | unscored, 2] = 0
    found = []
    for rows in by_image([position[image_ids[i]] for i in kept], len(truth.image_ids)):
        entries = kept[rows]
        order = np.argsort(-results.scores[entries], kind="stable")
        points = triples[rows[order]]
        best_first = entries[order]
        found.append(DetectedPoses(points[..., :2], points[..., 2], results.scores[best_first], best_first))
    if assumptions is not None:
        assumptions += [*results.assumptions, *assumed.remarks(results.source)]
    return found


def _image_ids(results: ResultEntries, truth: GroundTruth, assumed: Assumptions) -> list[Any]:
    """The image id of each entry as the ground truth has it; what it does not have stays as it is."""
    image_ids: list[Any] = [record.image_id for record in results.records]
    if not any(isinstance(image_id, str) for image_id in image_ids):
        return image_ids
    by_name: dict[str, set[int]] = {}
    for image_id, file in truth.files.items():
        path = PurePosixPath(file.replace("\\", "/"))
        for name in {file, path.name, path.stem}:
            by_name.setdefault(name, set()).add(image_id)
    for i, image_id in enumerate(image_ids):
        if not isinstance(image_id, str):
            continue
        number, named = whole_number(image_id), by_name.get(image_id, set())
        if number in truth.position:
            image_ids[i] = number
            assumed.add("image ids written as text were read as numbers")
        elif len(named) == 1:
            (image_ids[i],) = named
            assumed.add("image ids that name a file were read as the image with this 'file_name'")
    return image_ids


def _refuse(results: ResultEntries, truth: GroundTruth, image_ids: Sequence[Any], kept: Integers) -> NoReturn:
    """Name the first of the kept entries that does not fit the ground truth.

    Raises:
        InputError: always.
    """
    position, k = truth.position, len(truth.skeleton)
    unknown = sum(image_ids[i] not in position for i in kept)
    for i in kept.tolist():
        where, entry = f"{results.source}: entry {i}", results.records[i]
        if image_ids[i] not in position:
            known = f"image_id {image_ids[i]!r} is not among the images of the ground truth"
            if unknown > 1:
                raise InputError(
                    f"{where}: {known}, as in {unknown} of {len(kept)} entries; is that the annotation file of these"
                    " results? If it labels some of their images only, --only-labelled (in Python only_labelled=True)"
                    " leaves out the others"
                )
            raise InputError(f"{where}: {known}; remove it, or leave it out with --only-labelled")
        if entry.category_id != truth.category_id:
            raise InputError(
                f"{where}: category_id is {entry.category_id}; the truth's is {truth.category_id}: write that"
            )
        if len(entry.keypoints) != 3 * k:
            raise InputError(
                f"{where}: {len(entry.keypoints)} numbers in 'keypoints'; write x, y, score for each of"
                f" the {k} keypoints of skeleton '{truth.skeleton.name}'"
            )
        triples = np.array(entry.keypoints).reshape(k, 3)
        if np.isnan(triples[:, :2]).any(1).all():
            raise InputError(f"{where}: none of its 'keypoints' is finite; remove the entry")
        if not math.isfinite(entry.score) or np.isinf(triples).any():
            raise InputError(f"{where}: 'score' or 'keypoints' is not finite; remove the entry")
    raise AssertionError("every entry fits")
