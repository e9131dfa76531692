"""COCO's ground truth files, read once a file, for all that is computed from it.

They are read as `calipose.data.coco` reads them: strictly, but for what other tools write otherwise with one meaning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from calipose.data.coco import NO_AREA, OTHER_SPELLING, require_keypoints
from calipose.data.dialects import Assumptions, choose_category, find_names, mend_ground_truth, place_unlabelled
from calipose.data.labels.base import LabelSource
from calipose.data.labels.table import read_labels
from calipose.errors import InputError
from calipose.evaluation.json_files import checked, decode_json
from calipose.geometry import AREA_PER_BOX, Floats
from calipose.plain_data import as_builtins
from calipose.skeleton import COCO_17, Skeleton

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]
GroundTruthSource: TypeAlias = "str | Path | Mapping[str, Any] | GroundTruth"

LARGEST_AREA = 1e5**2  # pixels; the end of pycocotools' area ranges


class _Image(msgspec.Struct):
    id: int
    file_name: Any = None


class _Category(msgspec.Struct):
    id: int
    name: Any = None
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


@dataclass(frozen=True)
class People:
    """The annotated people of one image.

    Attributes:
        keypoints_img: (g, k, 2).
        labelled: (g, k).
        visible: (g, k) labelled with COCO's flag 2; a labelled keypoint that is not visible is occluded.
        area: (g,) pixels.
        box: (g, 4) left, top, width, height.
        crowd: (g,).
        ignored: (g,) crowds and people without labelled keypoints: COCO counts neither their detection as correct nor
            their absence as a miss.
    """

    keypoints_img: Floats
    labelled: Flags
    visible: Flags
    area: Floats
    box: Floats
    crowd: Flags
    ignored: Flags


@dataclass(frozen=True)
class GroundTruth:
    """All images of a COCO keypoint file in the order of their ids, and their people.

    Attributes:
        image_ids: rising.
        category_id: of people.
        people: of each image; empty for a file that lists images only.
        skeleton: of the people.
        files: image id -> `file_name`, in the order of the file; images without one are left out.
        source: what messages call the file.
        assumptions: what was assumed in reading a file that is not as COCO writes it; a sentence each.

    Example:
        >>> truth = calipose.read_ground_truth("annotations.json")
        >>> len(truth.image_ids), truth.wanted.sum()
    """

    image_ids: tuple[int, ...]
    category_id: int
    people: tuple[People, ...]
    skeleton: Skeleton
    files: Mapping[int, str] = field(default_factory=dict)
    source: str = "ground truth"
    assumptions: tuple[str, ...] = ()

    def in_folder(self, images: str | Path) -> GroundTruth:
        """The same, with `files` as they lie in a folder of images: `val2017/1.jpg` may lie there as `1.jpg`.

        Args:
            images: the folder. A file that is not found there keeps its name.

        Returns:
            The same ground truth with these names.
        """
        assumed = Assumptions()
        files = dict(zip(self.files, find_names(Path(images), list(self.files.values()), assumed), strict=True))
        if files == self.files:
            return self
        return replace(self, files=files, assumptions=self.assumptions + assumed.remarks(self.source))

    def require_files(self) -> Mapping[int, str]:
        """The file names of all images.

        Returns:
            `files`: image id to file name, of every image.

        Raises:
            InputError: an image has no file name.
        """
        for image_id in self.image_ids:
            if image_id not in self.files:
                raise InputError(f"{self.source}: image {image_id} has no 'file_name', which is needed to read it")
        return self.files

    @cached_property
    def position(self) -> dict[int, int]:
        """Image id -> index in `image_ids`."""
        return {image_id: i for i, image_id in enumerate(self.image_ids)}

    @cached_property
    def wanted(self) -> Integers:
        """`(images,)`: the number of people that are not ignored."""
        return np.array([(~people.ignored).sum() for people in self.people], np.int64)


def by_image(image: Sequence[int], images: int) -> list[Integers]:
    """Indices of each image's entries, in the order of the file."""
    order = np.argsort(image, kind="stable")
    return np.split(order, np.searchsorted(np.array(image, np.int64)[order], np.arange(1, images)))


def read_ground_truth(source: GroundTruthSource, skeleton: Skeleton = COCO_17) -> GroundTruth:
    """Read a COCO keypoint file, or its content, into arrays.

    The file may also hold labels of CVAT, Label Studio or YOLO (`calipose.data.labels`).

    The people's category is the one with `keypoints`, as `read_coco` chooses it; where none has them, the only one.
    Annotations of other categories are left out. A crowd, or a person without labelled keypoints, has the area of its
    box where it has none of its own; any other person 0.53 times that. What other tools write otherwise is read where
    it has one meaning only; `GroundTruth.assumptions` says what was assumed.

    Args:
        source: path of the file, its decoded content, or a `GroundTruth`, which is returned as it is.
        skeleton: whose keypoints the people have.

    Returns:
        Images, people, keypoints `(people, k, 2)` in pixels of the images, and what was assumed.

    Raises:
        InputError: unreadable; no images, or one twice; not exactly one category of people; keypoints whose names
            are not the skeleton's; a `source` that was read for another skeleton; an annotation of an unknown image,
            with a wrong number of keypoints, with numbers that are missing or not finite, or with neither labelled
            keypoints nor box.
    """
    if isinstance(source, GroundTruth):
        if source.skeleton.keypoints != skeleton.keypoints:
            require_keypoints(source.skeleton.keypoints, skeleton, source.source)
        return source
    assumed = Assumptions()

    def mend(content: Any) -> Any:
        return mend_ground_truth(content, assumed) if isinstance(content, Mapping) else content

    if isinstance(source, str | Path):
        name = f"ground truth {source}"
        labels_source = LabelSource(source, name)
        if (labels := read_labels(labels_source)) is not None:
            content = checked(labels.content(skeleton), name, _GroundTruthFile)
            assumed.take(labels.assumed)
        else:
            content = decode_json(labels_source.data, name, _GroundTruthFile, mend)
    else:
        name = "ground truth"
        content = checked(source, name, _GroundTruthFile, lambda content: mend(as_builtins(content)))
    k = len(skeleton)
    fitting = choose_category([(c.name, c.keypoints) for c in content.categories], skeleton.keypoints, assumed)
    if len(fitting) != 1:
        raise InputError(f"{name}: {len(fitting)} categories may be the people's; give 'keypoints' to exactly one")
    category = content.categories[fitting[0]]
    if category.keypoints:
        assumed.add(OTHER_SPELLING, require_keypoints(category.keypoints, skeleton, name))
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
        triple, row = _person(entry, k, where, assumed)
        triples.append(triple)
        numbers.append(row)
        positions.append(position[entry.image_id])

    keypoints = np.array(triples, np.float64).reshape(-1, k, 3)
    table = np.array(numbers, np.float64).reshape(-1, 7)
    flags = table[:, 5:] > 0
    people = tuple(
        People(
            keypoints[i, :, :2],
            keypoints[i, :, 2] > 0,
            keypoints[i, :, 2] > 1,
            table[i, 0],
            table[i, 1:5],
            flags[i, 0],
            flags[i, 1],
        )
        for i in by_image(positions, len(image_ids))
    )
    files = {
        image.id: image.file_name for image in content.images if isinstance(image.file_name, str) and image.file_name
    }
    return GroundTruth(tuple(image_ids), category.id, people, skeleton, files, name, assumed.remarks(name))


def _person(entry: _Annotation, k: int, where: str, assumed: Assumptions) -> tuple[Floats, list[float]]:
    """An annotation as numbers.

    Args:
        entry: the annotation.
        k: number of keypoints.
        where: its place in the file, for messages.
        assumed: takes what had to be assumed.

    Returns:
        `(3 k,)` x, y, visibility of each keypoint; and area, left, top, width, height, crowd, ignored.

    Raises:
        InputError: numbers are missing, too many, or not finite.
    """
    triple = np.array(entry.keypoints or [0.0] * 3 * k, np.float64)
    if len(triple) != 3 * k:
        raise InputError(f"{where}: {len(triple)} numbers in 'keypoints'; {k} keypoints have {3 * k}")
    triple = place_unlabelled(triple, assumed)
    labelled = int((triple[2::3] > 0).sum())
    if not entry.bbox and labelled == 0:
        raise InputError(f"{where}: neither labelled keypoints nor 'bbox'; give one of them")
    box = entry.bbox or _extent(triple)
    if len(box) != 4:
        raise InputError(f"{where}: {len(box)} numbers in 'bbox'; write x, y, width, height")
    count = labelled if entry.num_keypoints is None else entry.num_keypoints
    crowd = bool(entry.iscrowd)
    area = entry.area
    if crowd or count == 0 or labelled == 0:
        area = box[2] * box[3] if area is None else area
    elif area is None or area == 0:
        area = AREA_PER_BOX * box[2] * box[3]
        assumed.add(NO_AREA)
        if area == 0:
            raise InputError(f"{where}: no 'area', and a box without one; give 'area' or 'bbox'")
    if not (np.isfinite([*triple, *box]).all() and 0 <= area <= LARGEST_AREA):
        raise InputError(f"{where}: 'keypoints', 'bbox', 'area' must be finite numbers, 'area' in 0 to 1e10 pixels")
    return triple, [area, *box, crowd, crowd or count == 0]


def _extent(triple: Floats) -> list[float]:
    """Left, top, width and height of a person's labelled keypoints, of (3 k,) numbers."""
    points = triple.reshape(-1, 3)
    points = points[points[:, 2] > 0, :2]
    low, high = points.min(0), points.max(0)
    return [*low.tolist(), *(high - low).tolist()]
