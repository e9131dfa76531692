"""YOLO pose: folders of images and labels (.txt), described by a data.yaml."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from calipose.data.dialects import PERSON_NAMES, Assumptions
from calipose.data.labels.base import (
    LabelFile,
    LabelledImage,
    LabelledPerson,
    Point,
    Problems,
    finite,
    read_bytes,
)
from calipose.errors import ImageError, InputError, first_line
from calipose.io.image_size import image_size
from calipose.skeleton import COCO_17

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".heic", ".avif"}
SPLITS = ("train", "val", "test")
DESCRIPTIONS = ("data.yaml", "data.yml", "dataset.yaml")
MAX_DEPTH = 100  # of brackets in a data.yaml
BOX_NUMBERS = 5  # class, centre, width and height before the keypoints


def find_description(folder: Path) -> Path | None:
    """The data.yaml of a folder, or of one of its parents up to three above."""
    for place in (folder, *list(folder.absolute().parents)[:3]):
        for name in DESCRIPTIONS:
            if (place / name).is_file():
                return place / name
    return None


def find_split(source: Path) -> Path:
    """The folder of images that a data.yaml, or the folder with it, stands for.

    Raises:
        InputError: it names several splits, or none; the message names their folders.
    """
    path = source if source.is_file() else find_description(source)
    if path is None:
        raise InputError(f"{source}: no data.yaml here")
    content = _read_yaml(path)
    root = path.parent
    if isinstance(content.get("path"), str) and os.path.isdir(root / content["path"]):
        root = root / content["path"]
    folders = {}
    for split in SPLITS:
        named = content.get(split)
        if isinstance(named, str) and named and "\0" not in named:
            # Roboflow writes "../train/images" for "train/images" beside the file.
            places = [root / named, path.parent / named, path.parent / named.removeprefix("../")]
            folders[split] = next((place for place in places if os.path.isdir(place)), places[0])
    if len(set(folders.values())) == 1:
        folder = next(iter(folders.values()))
        if not os.path.isdir(folder):
            raise InputError(f"{path}: names the folder of images {str(folder)[:200]}, which is not there")
        return folder
    if not folders:
        raise InputError(f"{path}: names no folder of images as 'train', 'val' or 'test'")
    listed = ", ".join(f"{folder}" for folder in folders.values())
    raise InputError(f"{path}: has several parts; name the folder of images of one: {listed}")


def read_yolo_pose(folder: Path) -> LabelFile:
    """Read the labels of a folder of images, which lie beside it in `labels` where the images lie in `images`.

    A line is: class, box (centre, width, height), and x, y and maybe visibility of each keypoint, all as shares of the
    image. Without visibilities, a keypoint at exactly (0, 0) is not labelled. An image without a file of labels holds
    nobody.

    Raises:
        InputError: no data.yaml above the folder, or broken entries: all are counted, the first 20 listed.
    """
    description = find_description(folder)
    if description is None:
        raise InputError(f"{folder}: no data.yaml in it or above it, which says the number of keypoints (kpt_shape)")
    content = _read_yaml(description)
    shape = content.get("kpt_shape")
    if not isinstance(shape, list) or len(shape) != 2 or not _whole(shape[0], 1, 10_000) or not _whole(shape[1], 2, 3):
        raise InputError(f"{description}: 'kpt_shape' must be two numbers, such as [17, 3], not {ascii(shape)[:60]}")
    k, dimensions = int(shape[0]), int(shape[1])
    person, category = _person_class(content, description)
    names, named = _keypoint_names(content, person, k)
    assumed, problems = Assumptions(), Problems(str(folder))
    if not named:
        assumed.add(f"no 'kpt_names' in {description.name}, so the skeleton's order was assumed")
    images = []
    for image in _image_files(folder):
        name = str(image.relative_to(folder))
        try:
            size, orientation = image_size(image)
            if orientation != 1:
                raise ValueError("turned by its EXIF orientation, so its labels have two meanings; save it upright")
        except (ImageError, ValueError) as error:
            problems.add(f"image {name}", error)
            continue
        people = []
        for number, line in _lines(labels_of(image), problems):
            try:
                if person_of := _person(line, names, dimensions, size, person):
                    people.append(person_of)
            except ValueError as error:
                problems.add(f"{labels_of(image)}, line {number}", error)
        images.append(LabelledImage(name, size, people))
    problems.raise_any()
    if not images:
        raise InputError(f"{folder}: no images here")
    pairs = _flip_pairs(content, names)
    return LabelFile(str(description), images, names, named, category, pairs, assumed)


def labels_of(image: Path) -> Path:
    """The file of an image's labels: .../images/a.jpg has .../labels/a.txt."""
    parts = list(image.absolute().parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == "images":
            parts[i] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _person(line: str, names: list[str], dimensions: int, size: tuple[int, int], person: int) -> LabelledPerson | None:
    """The person of a line, or None where it is of another class."""
    numbers = finite(line.split(), "numbers")
    needed = BOX_NUMBERS + dimensions * len(names)
    if len(numbers) != needed:
        raise ValueError(f"{len(numbers)} numbers; {needed} (class, box, {len(names)} x {dimensions}) are needed")
    if numbers[0] != person:
        return None
    width, height = size
    cx, cy, w, h = numbers[1:BOX_NUMBERS]
    if w < 0 or h < 0:
        raise ValueError(f"box of width {w:g} and height {h:g}")
    points: dict[str, Point] = {}
    for j, name in enumerate(names):
        x, y, *rest = numbers[BOX_NUMBERS + dimensions * j : BOX_NUMBERS + dimensions * (j + 1)]
        v = rest[0] if rest else 2.0 * bool(x or y)
        if v not in {0, 1, 2}:
            raise ValueError(f"the visibility {v:g} of keypoint {j} is not 0, 1 or 2")
        if v:
            points[name] = (x * width, y * height, int(v))
    return LabelledPerson(points, ((cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height))


def _lines(path: Path, problems: Problems) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is not empty."""
    if not path.is_file():
        return
    try:
        text = read_bytes(path, f"label file {path}").decode()
    except ValueError as error:
        problems.add(str(path), f"not a text file ({error})")
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield number, line


def _image_files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed: {error.strerror}") from None


def _person_class(content: dict[str, Any], path: Path) -> tuple[int, str]:
    """Number and name of the class of people."""
    entries = content.get("names")
    if isinstance(entries, list):
        entries = dict(enumerate(entries))
    if not isinstance(entries, dict) or not entries:
        return 0, "person"
    if not all(_whole(number, 0, 10**6) and isinstance(name, str) for number, name in entries.items()):
        raise InputError(f"{path}: 'names' must be names, each with its number")
    people = [number for number, name in entries.items() if name.casefold() in PERSON_NAMES]
    if len(entries) > 1 and len(people) != 1:
        raise InputError(f"{path}: {len(entries)} 'names', and none or several of them is 'person'; keep one class")
    number = people[0] if people else next(iter(entries))
    return number, entries[number]


def _keypoint_names(content: dict[str, Any], person: int, k: int) -> tuple[list[str], bool]:
    """The keypoints' names, and whether the file says them."""
    entries = content.get("kpt_names")
    if isinstance(entries, dict):
        entries = entries.get(person)
    if (
        isinstance(entries, list)
        and len(entries) == k
        and all(isinstance(name, str) and name for name in entries)
        and len(set(entries)) == k
    ):
        return [str(name) for name in entries], True
    if k == len(COCO_17):
        return list(COCO_17.keypoints), False
    return [f"keypoint_{i + 1}" for i in range(k)], False


def _flip_pairs(content: dict[str, Any], names: list[str]) -> list[tuple[str, str]]:
    index = content.get("flip_idx")
    if not isinstance(index, list) or len(index) != len(names) or not all(_whole(i, 0, len(names) - 1) for i in index):
        return []
    return [(names[i], names[j]) for i, j in enumerate(index) if i < j and index[j] == i]


def _depth(data: bytes) -> int:
    """How deeply brackets are nested, at most."""
    deepest = depth = 0
    for byte in data:
        depth += (byte in b"[{") - (byte in b"]}")
        deepest = max(deepest, depth)
    return deepest


def _whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _read_yaml(path: Path) -> dict[str, Any]:
    """The content of a YAML file.

    Raises:
        InputError: it is none, or no table.
    """
    import yaml

    data = read_bytes(path, f"file {path}")
    if _depth(data) > MAX_DEPTH:  # the parser's time grows with the square of it
        raise InputError(f"{path} is not valid YAML: lists or tables are nested too deeply")
    try:
        content = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError, TypeError) as error:
        raise InputError(f"{path} is not valid YAML: {first_line(error)}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: a {type(content).__name__}, not a table with 'kpt_shape' and 'train' or 'val'")
    return content
