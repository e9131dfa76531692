"""COCO's ground truth and results files, read strictly, once for all of `evaluation`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from calipose.data.coco import require_keypoints
from calipose.errors import InputError
from calipose.geometry import Floats
from calipose.skeleton import COCO_17, Skeleton

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]
GroundTruthSource = str | Path | Mapping[str, Any]
ResultsSource = str | Path | Sequence[Mapping[str, Any]]

LARGEST_AREA = 1e5**2  # pixels; the end of pycocotools' area ranges


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
    """The annotated people of one image.

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
    """One image's poses, best first.

    Attributes: `keypoints_img` (p, k, 2); `keypoint_scores` (p, k), the third numbers; `scores` (p,); `entries` (p,),
    their positions in the results.
    """

    keypoints_img: Floats
    keypoint_scores: Floats
    scores: Floats
    entries: Integers


@dataclass(frozen=True)
class GroundTruth:
    """All images of a COCO keypoint file in the order of their ids, and their people."""

    image_ids: tuple[int, ...]
    category_id: int
    people: tuple[People, ...]
    skeleton: Skeleton

    @cached_property
    def position(self) -> dict[int, int]:
        """Image id -> position in `image_ids`."""
        return {image_id: i for i, image_id in enumerate(self.image_ids)}

    @cached_property
    def wanted(self) -> Integers:
        """`(images,)`: the number of people that are not ignored."""
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


def _by_image(positions: list[int], images: int) -> list[Integers]:
    """Indices of each image's entries, in the order of the file."""
    order = np.argsort(positions, kind="stable")
    return np.split(order, np.searchsorted(np.array(positions, np.int64)[order], np.arange(1, images)))


def read_ground_truth(source: GroundTruthSource, skeleton: Skeleton = COCO_17) -> GroundTruth:
    """A COCO keypoint file, or its content, as arrays.

    The people's category is the one with `keypoints`, as `read_coco` chooses it; where none has them, the only one.
    Annotations of other categories are left out. A crowd, or a person without labelled keypoints, has the area of its
    box where it has none of its own.

    Raises:
        InputError: unreadable; no images, or one twice; not exactly one category of people; keypoints whose names
            are not the skeleton's; an annotation of an unknown image, with a wrong number of keypoints, with
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
        raise InputError(f"{name}: 'images' is empty or has an id twice; list each image once")
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
        box = entry.bbox or _extent(triple)
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

    keypoints = np.array(triples, np.float64).reshape(-1, k, 3)
    table = np.array(numbers, np.float64).reshape(-1, 7)
    flags = table[:, 5:] > 0
    people = tuple(
        People(keypoints[i, :, :2], keypoints[i, :, 2] > 0, table[i, 0], table[i, 1:5], flags[i, 0], flags[i, 1])
        for i in _by_image(positions, len(image_ids))
    )
    return GroundTruth(tuple(image_ids), category.id, people, skeleton)


def _extent(triple: Floats) -> list[float]:
    """Left, top, width and height of a person's labelled keypoints, of (3 k,) numbers."""
    points = triple.reshape(-1, 3)
    points = points[points[:, 2] > 0, :2]
    low, high = points.min(0), points.max(0)
    return [*low.tolist(), *(high - low).tolist()]


def load_images(path: Path) -> list[tuple[int, str]]:
    """Ids and file names of the images of an annotation file, in its order.

    Raises:
        InputError: unreadable, or it lists no images.
    """
    try:
        images = json.loads(path.read_text(encoding="utf-8"))["images"]
        return [(int(image["id"]), str(image["file_name"])) for image in images]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: no list 'images' with 'id' and 'file_name' can be read ({error!r})") from None


def load_results(source: ResultsSource) -> list[dict[str, Any]]:
    """The entries of a results file, or of its content, with all that they hold.

    Raises:
        InputError: unreadable, or an entry is none of a COCO results file, or holds numbers that are not finite.
    """
    name, results = _load(source, "results", list[_Result])
    for i, entry in enumerate(results):
        if len(entry.keypoints) % 3 or not math.isfinite(entry.score) or not all(map(math.isfinite, entry.keypoints)):
            raise InputError(f"{name}: entry {i}: 'keypoints' must be x, y, score of each, and all numbers finite")
    entries: Any = source
    if isinstance(source, str | Path):
        entries = json.loads(Path(source).read_text(encoding="utf-8"))
    return [dict(entry) for entry in entries]


def read_results(source: ResultsSource, truth: GroundTruth) -> list[Found]:
    """A COCO keypoint results file, or its entries: one `Found` an image of the ground truth.

    Raises:
        InputError: unreadable, or an entry of an unknown image or category, with a wrong number of
            keypoints, or with numbers that are not finite.
    """
    name, results = _load(source, "results", list[_Result])
    k = len(truth.skeleton)
    foreign = sum(entry.image_id not in truth.position for entry in results)
    for i, entry in enumerate(results):
        where = f"{name}: entry {i}"
        if entry.image_id not in truth.position:
            if foreign > 1:
                raise InputError(
                    f"{where}: image_id {entry.image_id} is not among the images of the ground truth, as in {foreign}"
                    f" of {len(results)} entries; is that the annotation file of these results?"
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
    triples = np.array([r.keypoints for r in results], np.float64).reshape(-1, k, 3)
    scores = np.array([r.score for r in results], np.float64)
    found = []
    for entries in _by_image([truth.position[r.image_id] for r in results], len(truth.image_ids)):
        best_first = entries[np.argsort(-scores[entries], kind="stable")]
        points = triples[best_first]
        found.append(Found(points[..., :2], points[..., 2], scores[best_first], best_first))
    return found
