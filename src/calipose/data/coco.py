"""Reading COCO keypoint files into the compact store (numpy and OpenCV, no torch).

Files are read strictly: what is broken is refused, with all of its places. What other tools write otherwise, but with
one meaning only, is read, and `KeypointData.assumptions` says what was assumed.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from calipose.data.dialects import (
    Assumptions,
    choose_category,
    find_names,
    listing,
    mend_ground_truth,
    place_unlabelled,
    same_name,
)
from calipose.data.labels.base import LabelSource
from calipose.data.labels.table import read_labels
from calipose.data.store import KeypointData, Ragged, name_bytes
from calipose.data.tars import ImagesInTars, find_images, tars_of
from calipose.errors import ImageError, InputError
from calipose.geometry import AREA_PER_BOX
from calipose.io.images import read_image
from calipose.plain_data import parse_json
from calipose.skeleton import COCO_17, Skeleton

Outline = NDArray[np.float32]

LISTED_PROBLEMS = 20
NO_AREA = f"annotations without 'area' (or 0) got {AREA_PER_BOX} x the area of their box"
OTHER_SPELLING = "keypoints whose names differ from the skeleton's in case or spaces only were taken for the same"
OUTLINE_TOLERANCE_IMG = 1.0  # pixels by which a run-length mask's outline may be simplified; a cell is four


def read_coco(
    annotations: str | Path,
    image_folder: str | Path,
    skeleton: Skeleton | None = None,
    check_files: bool = True,
) -> KeypointData:
    """Read a COCO keypoint file, or labels of CVAT, Label Studio or YOLO (`calipose.data.labels`).

    Crowds, people without labelled keypoints and people with `num_keypoints` 0 become ignore regions.
    Boxes and polygons, which COCO counts from the image's corner, are moved by half a pixel to pixel
    centres. Annotations of categories without keypoints are skipped. An image's own field
    `people_complete` (default true) is kept.

    What other tools leave out is taken from what is there: the `area` from the box, an image's size from the image, a
    file's place from its name without folders. `KeypointData.assumptions` says what was assumed.

    Args:
        annotations: the JSON file, or another tool's labels.
        image_folder: the folder that `file_name` starts from; or a plain tar, or a folder of tars, whose images have
            these names, with folders or without.
        skeleton: needed unless the file has COCO's own 17 keypoints.
        check_files: find all image files, and check that they exist (each folder is listed once).

    Raises:
        InputError: the file is missing or not a COCO keypoint file; the keypoints' names are not the skeleton's; or
            entries are broken: all of them are counted and the first 20 listed, with image and annotation.

    Example:
        >>> data = read_coco("people/annotations.json", "people/images")
        >>> len(data), data.skeleton.name
        (1000, 'coco-17')
    """
    annotations, image_folder = Path(annotations), Path(image_folder)
    assumed = Assumptions()
    source = LabelSource(annotations, f"annotation file {annotations}")
    labels = read_labels(source)
    if labels is None:
        content = mend_ground_truth(_parse_content(source), assumed)
    else:
        content = labels.content(skeleton or COCO_17)
        assumed.take(labels.assumed)
    category_id, other_ids, names = _categories(content["categories"], skeleton or COCO_17, annotations, assumed)
    skeleton = _matching(skeleton, names, annotations, assumed)
    problems: list[str] = []
    images: dict[int, _Image] = {}
    for index, entry in enumerate(content["images"]):
        try:
            image = _image(entry)
            if image.id in images:
                raise ValueError("its id appears twice")
            images[image.id] = image
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            problems.append(f"image {_entry_name(entry, 'id', index)}: {_description(error)}")
    tars = find_images(paths) if (paths := tars_of(image_folder)) else None
    if check_files and tars is None:
        _find_files(images, image_folder, assumed)
    _measure(images, image_folder, tars, problems, assumed)
    seen: set[int] = set()
    for index, entry in enumerate(content["annotations"]):
        try:
            if entry["category_id"] in other_ids:
                continue
            if entry["category_id"] != category_id:
                raise ValueError(f"unknown category {entry['category_id']}")
            number = _integer(entry, "id")
            if number in seen:
                raise ValueError("its id appears twice")
            seen.add(number)
            if entry["image_id"] not in images:
                raise ValueError("the file has no valid image with this id")
            image = images[entry["image_id"]]
            outline = _outline(entry, image.size)
            person = _person(entry, len(skeleton), outline, assumed)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            where = f"image {_entry_name(entry, 'image_id', '?')}, annotation {_entry_name(entry, 'id', index)}"
            problems.append(f"{where}: {_description(error)}")
        else:
            image.regions.append(outline) if person is None else image.people.append(person)
    if tars is not None or check_files:
        problems += _missing_images(image_folder, images.values(), tars)
    if problems:
        lines = problems[:LISTED_PROBLEMS]
        if len(problems) > LISTED_PROBLEMS:
            lines.append(f"and {len(problems) - LISTED_PROBLEMS} more")
        raise InputError("\n  ".join([f"{annotations}: {len(problems)} broken entries", *lines]))
    data = _store(skeleton, image_folder, list(images.values()), assumed.remarks(f"annotation file {annotations}"))
    if tars is not None:
        data = tars.placed(data, [image.name for image in images.values()])
    del content, images
    _trim_heap()
    return data


def _trim_heap() -> None:
    """Give freed memory back to the system, where the C library can: a file of COCO's size leaves 170 MB."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


@dataclass(frozen=True, eq=False)
class _Person:
    id: int
    keypoints: NDArray[np.float64]  # (k, 3)
    area: float
    outline: Outline


@dataclass(frozen=True, eq=False)
class _Image:
    id: int
    name: str
    size: tuple[int, int]  # width, height; zeros where the file does not say them
    people_complete: bool
    people: list[_Person]
    regions: list[Outline]


def _parse_content(source: LabelSource) -> dict[str, Any]:
    if not source.data.strip():
        raise InputError(f"{source.name} is empty")
    content = parse_json(source.data, source.name)
    parts = ("images", "annotations", "categories")
    missing = [p for p in parts if not isinstance(content, dict) or not isinstance(content.get(p), list)]
    if missing:
        raise InputError(f"{source.name} is not a COCO keypoint file: it has no list '{missing[0]}'")
    return dict(content)


def _categories(
    entries: list[Any], skeleton: Skeleton, path: Path, assumed: Assumptions
) -> tuple[int, set[int], tuple[str, ...]]:
    """The id of the category of people, the ids of the others, the names of the people's keypoints."""
    try:
        named = [(entry.get("name"), entry.get("keypoints")) for entry in entries]
        chosen = choose_category(named, skeleton.keypoints, assumed)
        if len(chosen) != 1:
            having = sum(bool(keypoints) for _, keypoints in named)
            raise InputError(f"{path}: {having} categories have 'keypoints'; exactly one is needed")
        people = entries[chosen[0]]
        others = {_integer(entry, "id") for entry in entries if entry is not people}
        return _integer(people, "id"), others, tuple(map(str, people.get("keypoints") or skeleton.keypoints))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: broken entry in 'categories': {_description(error)}") from None


def _matching(skeleton: Skeleton | None, names: tuple[str, ...], path: Path, assumed: Assumptions) -> Skeleton:
    """The skeleton, COCO's where none is given, if its keypoints are those of the file."""
    required = skeleton or COCO_17
    advice = "" if skeleton else "; give the skeleton that belongs to the file"
    assumed.add(OTHER_SPELLING, require_keypoints(names, required, str(path), advice))
    return required


def require_keypoints(names: Sequence[str], skeleton: Skeleton, source: str, advice: str = "") -> int:
    """Check that a file's keypoints are the skeleton's, in its order.

    Args:
        names: names of the file's keypoints.
        skeleton: the skeleton that they should be of.
        source: what messages call the file.
        advice: end of the message.

    Returns:
        How many names are spelt differently: in case, spaces, underscores or hyphens.

    Raises:
        InputError: the keypoints differ; the message names the first that does.
    """
    if len(names) != len(skeleton):
        raise InputError(f"{source}: {len(names)} keypoints, skeleton '{skeleton.name}' has {len(skeleton)}{advice}")
    for i, (name, expected) in enumerate(zip(names, skeleton.keypoints, strict=True)):
        if not same_name(name, expected):
            raise InputError(f"{source}: keypoint {i} is '{name}', not '{expected}' of '{skeleton.name}'{advice}")
    return sum(name != expected for name, expected in zip(names, skeleton.keypoints, strict=True))


def _image(entry: dict[str, Any]) -> _Image:
    if not isinstance(entry, dict):
        raise TypeError("an image is a table of names and values")
    size = 0, 0
    if entry.get("width") is not None or entry.get("height") is not None:
        size = _integer(entry, "width"), _integer(entry, "height")
        if min(size) <= 0 or max(size) >= 2**31:
            raise ValueError(f"width {size[0]} and height {size[1]} must be positive, and below 2^31")
    if not isinstance(entry["file_name"], str) or not entry["file_name"]:
        raise ValueError("file_name must be a name")
    return _Image(_integer(entry, "id"), entry["file_name"], size, bool(entry.get("people_complete", True)), [], [])


def _find_files(images: dict[int, _Image], folder: Path, assumed: Assumptions) -> None:
    """Give images whose files lie elsewhere in the folder than their names say the names that they have there."""
    found = find_names(folder, [image.name for image in images.values()], assumed)
    for image, name in zip(list(images.values()), found, strict=True):
        if name != image.name:
            images[image.id] = replace(image, name=name)


def _measure(
    images: dict[int, _Image], folder: Path, tars: ImagesInTars | None, problems: list[str], assumed: Assumptions
) -> None:
    """Take the sizes that the file does not say from the images themselves; such images are broken without one."""
    for image in [image for image in images.values() if image.size == (0, 0)]:
        try:
            pixels = read_image(folder / image.name, True) if tars is None else tars.read(image.name)
            height, width = pixels.shape[:2]
        except ImageError as error:
            problems.append(f"image {image.id}: no 'width' and 'height', and they cannot be measured: {error}")
            width, height = 1, 1
        else:
            assumed.add("images without 'width' and 'height' were measured")
        images[image.id] = replace(image, size=(width, height))


def _person(entry: dict[str, Any], k: int, outline: Outline, assumed: Assumptions) -> _Person | None:
    """The annotated person, or None for a crowd and for a person without labelled keypoints.

    Raises:
        KeyError: a field is missing.
        TypeError: a field is of the wrong type.
        ValueError: a field has a wrong value.
    """
    unlabelled = bool(entry.get("iscrowd", 0)) or entry.get("num_keypoints") == 0 or entry.get("keypoints") == []
    if unlabelled and not entry.get("keypoints"):
        return None
    numbers = np.array(entry["keypoints"], np.float64)
    if numbers.shape != (3 * k,):
        raise ValueError(f"{numbers.size} numbers in keypoints; {3 * k} (3 x {k}) are needed")
    numbers = place_unlabelled(numbers, assumed)
    if not (np.abs(numbers) <= np.finfo(np.float32).max).all():
        raise ValueError("keypoints hold numbers that are not finite")
    if not np.isin(numbers[2::3], (0, 1, 2)).all():
        raise ValueError("a keypoint's visibility is not 0, 1 or 2")
    if unlabelled or not numbers[2::3].any():
        return None
    area = entry.get("area")
    if area is None or area == 0:
        assumed.add(NO_AREA)
        corners = outline[np.isfinite(outline).all(1)]
        size = entry["bbox"][2:] if entry.get("bbox") else (corners.max(0) - corners.min(0)).tolist()
        area = AREA_PER_BOX * size[0] * size[1]
    area = float(area)
    if not 0 < area <= np.finfo(np.float32).max:
        raise ValueError(f"area {area} must be positive; without 'area', {AREA_PER_BOX} x the box's is taken")
    return _Person(entry["id"], numbers.reshape(k, 3), area, outline)


def _outline(entry: dict[str, Any], size: tuple[int, int]) -> Outline:
    """The segmentation, or the box where there is none, as closed rings (see `KeypointData.outlines_img`)."""
    box = np.array(entry.get("bbox") or [], np.float64)
    if box.size and (box.shape != (4,) or not np.isfinite(box).all() or (box[2:] < 0).any()):
        raise ValueError(f"bbox {entry['bbox']} must be x, y, and a width and height that are not negative")
    segmentation = entry.get("segmentation")
    if isinstance(segmentation, dict):
        rings = _mask_rings(_run_length_mask(segmentation, size))
    elif segmentation:
        rings = [np.array(ring, np.float64).reshape(-1, 2) - 0.5 for ring in segmentation]
        if not all(np.isfinite(ring).all() for ring in rings):
            raise ValueError("segmentation holds numbers that are not finite")
    elif box.size:
        corners = box[:2] + box[2:] * np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
        rings = [corners - 0.5]
    else:
        raise ValueError("neither segmentation nor bbox")
    gap = np.full((1, 2), np.nan)
    rows = [part for ring in rings for part in (gap, ring, ring[:1])][1:]
    return np.concatenate([np.zeros((0, 2)), *rows]).astype(np.float32)


def _run_length_mask(segmentation: dict[str, Any], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Mask `(h, w)` from the lengths of alternating runs of 0 and 1, column by column; plain or compressed."""
    counts = segmentation["counts"]
    if isinstance(counts, str):
        counts = _expand(counts)
    runs = np.array(counts, np.int64)
    if list(segmentation["size"]) != [size[1], size[0]] or runs.sum() != size[0] * size[1] or (runs < 0).any():
        raise ValueError(f"run-length segmentation does not fit the image's {size[0]} x {size[1]} pixels")
    bits = (np.arange(len(runs)) % 2).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(bits, runs).reshape(size).T)


def _expand(text: str) -> list[int]:
    """Run lengths from pycocotools' compressed string (maskApi.c).

    Each character holds five bits (offset 48; bit 6: more follow), lowest first, signed. From the fourth number on,
    a number is the difference to the second last.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text.encode():
        chunk = character - 48
        value |= (chunk & 31) << shift
        shift += 5
        if not chunk & 32:
            value -= (1 << shift) if chunk & 16 else 0
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts


def _mask_rings(mask: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
    """Rings around a mask and around its holes, through the centres of its outermost pixels."""
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    rings = [cv2.approxPolyDP(contour, OUTLINE_TOLERANCE_IMG, True)[:, 0] for contour in contours]
    return [ring.astype(np.float64) for ring in rings if len(ring) > 2]


def _missing_images(folder: Path, images: Iterable[_Image], tars: ImagesInTars | None) -> list[str]:
    """One problem for each missing image; each folder is listed once."""
    if tars is not None:
        return [f"image {i.id}: no image {i.name} in the tars of {folder}" for i in images if not tars.find(i.name)]
    is_there = listing()
    return [
        f"image {image.id}: no image {folder / image.name}" for image in images if not is_there(folder / image.name)
    ]


def _integer(entry: dict[str, Any], field: str) -> int:
    value = entry[field]
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**63:
        raise ValueError(f"{field} is {value!r}; a whole number is needed")
    return value


def _entry_name(entry: object, field: str, index: object) -> object:
    """What to call a broken entry: its id, or its index in the list."""
    return entry.get(field, f"number {index}") if isinstance(entry, dict) else f"number {index}"


def _description(error: Exception) -> str:
    return f"no field {error}" if isinstance(error, KeyError) else str(error)


def _store(skeleton: Skeleton, folder: Path, images: list[_Image], assumptions: tuple[str, ...]) -> KeypointData:
    people = [person for image in images for person in image.people]
    regions = [region for image in images for region in image.regions]
    keypoints = np.array([person.keypoints for person in people]).reshape(-1, len(skeleton), 3)
    no_points = np.zeros((0, 2), np.float32)
    return KeypointData(
        skeleton=skeleton,
        folders=(folder,),
        folder=np.zeros(len(images), np.uint16),
        names=Ragged.from_rows([name_bytes(image.name) for image in images], np.zeros(0, np.uint8)),
        image_ids=np.array([image.id for image in images], np.int64),
        sizes=np.array([image.size for image in images], np.int32).reshape(-1, 2),
        people_complete=np.array([image.people_complete for image in images], bool),
        person_start=np.cumsum([0] + [len(image.people) for image in images], dtype=np.int64),
        keypoints_img=keypoints[..., :2].astype(np.float32),
        visibility=keypoints[..., 2].astype(np.uint8),
        area_img=np.array([person.area for person in people], np.float32),
        annotation_ids=np.array([person.id for person in people], np.int64),
        outlines_img=Ragged.from_rows([person.outline for person in people], no_points),
        region_start=np.cumsum([0] + [len(image.regions) for image in images], dtype=np.int64),
        regions_img=Ragged.from_rows(regions, no_points),
        assumptions=assumptions,
    )
