"""What tools write otherwise than COCO does, read as COCO would have written it (numpy only).

CVAT, Label Studio, Roboflow, FiftyOne, Ultralytics and detectron2 leave out an `area`, write ids as text, keypoints as
triples, or names in another spelling. Each function here takes one such habit, and `Assumptions` collects what was
assumed, so that whoever reads the figures is told. What has no single meaning is refused by the readers instead.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

UPLOAD_PREFIX = re.compile(r"[0-9a-f]{8}-")  # that Label Studio puts before the names of uploaded files
PERSON_NAMES = {"person", "people", "human"}  # of the category of people, where several may be it
TRIPLE = 3  # numbers of a keypoint: x, y, visibility or score


class Assumptions:
    """What was assumed in reading one file, each with how often.

    Example:
        >>> assumed = Assumptions()
        >>> assumed.add("ids written as text or with decimals were read as whole numbers", 2)
        >>> assumed.remarks("a.json")
        ('a.json: ids written as text or with decimals were read as whole numbers (2)',)
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, what: str, count: int = 1) -> None:
        """Count one more, or several more, of an assumption; none of count 0."""
        if count:
            self._counts[what] += count

    def take(self, other: Assumptions) -> None:
        """Count what was assumed elsewhere, too."""
        self._counts.update(other._counts)

    def remarks(self, source: str) -> tuple[str, ...]:
        """A sentence for each assumption.

        Args:
            source: what messages call the file.
        """
        return tuple(f"{source}: {what} ({count})" for what, count in self._counts.items())


def mend_ground_truth(content: Mapping[str, Any], assumed: Assumptions) -> dict[str, Any]:
    """A COCO annotation file with ids as numbers and keypoints in one row; what is well stays the same object.

    Args:
        content: as decoded.
        assumed: takes what was assumed.
    """
    ids = {"images": ("id",), "annotations": ("id", "image_id", "category_id"), "categories": ("id",)}
    mended = dict(content)
    for part, fields in ids.items():
        entries = content.get(part)
        if isinstance(entries, list):
            mended[part] = [_mended(entry, fields, part == "annotations", assumed) for entry in entries]
    return mended


def mend_results(entries: Any, assumed: Assumptions) -> Any:
    """A COCO results file with category ids as numbers and keypoints in one row; image ids stay as they are.

    Args:
        entries: as decoded.
        assumed: takes what was assumed.
    """
    if not isinstance(entries, list | tuple):
        return entries
    return [_mended(entry, ("category_id",), True, assumed) for entry in entries]


def _mended(entry: Any, ids: Sequence[str], has_keypoints: bool, assumed: Assumptions) -> Any:
    if not isinstance(entry, Mapping):
        return entry
    new: dict[str, Any] = {}
    for field in ids:
        value = entry.get(field)
        number = whole_number(value)
        if number is not None and number is not value:
            assumed.add("ids written as text or with decimals were read as whole numbers")
            new[field] = number
    keypoints = entry.get("keypoints") if has_keypoints else None
    if isinstance(keypoints, list) and keypoints:
        if all(isinstance(point, list | tuple) and len(point) == TRIPLE for point in keypoints):
            assumed.add("entries whose 'keypoints' are lists of three were read one keypoint after the other")
            keypoints = new["keypoints"] = [number for point in keypoints for number in point]
        if None in keypoints:
            new["keypoints"] = [np.nan if number is None else number for number in keypoints]
    return {**entry, **new} if new else entry


def whole_number(value: object) -> int | None:
    """The whole number that an id is, or that its text or fraction of zeros says; None where it says none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]{1,18}\s*", value):
        return int(value)
    return None


def place_unlabelled(triples: NDArray[np.float64], assumed: Assumptions) -> NDArray[np.float64]:
    """Annotated keypoints `(3 k,)`, in which those of visibility 0 that have no place (NaN) get COCO's (0, 0).

    Args:
        triples: x, y, visibility of each keypoint.
        assumed: takes what was assumed.
    """
    points = triples.reshape(-1, TRIPLE)
    lost = np.isnan(points[:, :2]).any(1) & (points[:, 2] == 0)
    if not lost.any():
        return triples
    assumed.add("keypoints without a place (NaN) were read as not labelled", int(lost.sum()))
    return np.where(lost[:, None], 0.0, points).ravel()


def same_name(a: str, b: str) -> bool:
    """Whether two names are the same but for case, spaces, underscores and hyphens."""
    return _plain_name(a) == _plain_name(b)


def _plain_name(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name.casefold())


def choose_category(
    categories: Sequence[tuple[object, Sequence[str] | None]], keypoints: Sequence[str], assumed: Assumptions
) -> list[int]:
    """The indices of the categories that may be the people's: one, or several between which nothing decides.

    It is the one with keypoints; where none has them, any. Of several it is the one whose keypoints are the
    skeleton's, and of these the one that is called a person.

    Args:
        categories: name and keypoints of each.
        keypoints: of the skeleton.
        assumed: takes what was assumed.
    """
    chosen = [i for i, (_, names) in enumerate(categories) if names] or list(range(len(categories)))

    def fits(index: int) -> bool:
        names = categories[index][1] or ()
        return len(names) == len(keypoints) and all(map(same_name, names, keypoints))

    def is_person(index: int) -> bool:
        return _plain_name(str(categories[index][0])) in PERSON_NAMES

    several = len(chosen) > 1
    for rule in (fits, is_person):
        if len(chosen) > 1:
            chosen = [i for i in chosen if rule(i)] or chosen
    if len(chosen) == 1 and several:
        assumed.add(f"of several categories, '{categories[chosen[0]][0]}' was taken for the people's")
    if len(chosen) == 1 and not categories[chosen[0]][1]:
        assumed.add("no category has 'keypoints', so the skeleton's order was assumed")
    return chosen


def find_names(folder: Path, names: Sequence[str], assumed: Assumptions) -> list[str]:
    """The file names below a folder, without those of their own folders that are not there.

    A name such as `val2017/1.jpg`, or a whole path of another machine, is cut from the left until the file is found;
    backslashes may stand for slashes, and Label Studio's prefix of an uploaded file is left out. A name
    that is not found, and one that would then be the file of two names, stays as it is.

    Args:
        folder: of the images; each of its folders is listed once.
        names: as an annotation file has them.
        assumed: takes what was assumed.
    """
    is_there = listing()
    found = [_find_name(folder, name, is_there) for name in names]
    uses = Counter(found)
    found = [new if uses[new] == 1 else name for name, new in zip(names, found, strict=True)]
    changed = [name for name, new in zip(names, found, strict=True) if new != name]
    if changed:
        assumed.add(f"file names such as '{changed[0]}' were found in {folder} without their folders", len(changed))
    return found


def listing() -> Callable[[Path], bool]:
    """A function that says whether a file is there; it lists each folder once."""
    listed: dict[Path, set[str]] = {}

    def is_there(path: Path) -> bool:
        if path.parent not in listed:
            listed[path.parent] = set(os.listdir(path.parent)) if path.parent.is_dir() else set()
        return path.name in listed[path.parent]

    return is_there


def _find_name(folder: Path, name: str, is_there: Callable[[Path], bool]) -> str:
    if is_there(folder / name):
        return name
    for spelling in dict.fromkeys((name, name.replace("\\", "/"))):
        parts = PurePosixPath(spelling).parts
        for i in range(len(parts)):
            shorter = str(PurePosixPath(*parts[i:]))
            if is_there(folder / shorter):
                return shorter
        if parts and (prefix := UPLOAD_PREFIX.match(parts[-1])) and is_there(folder / parts[-1][prefix.end() :]):
            return parts[-1][prefix.end() :]
    return name
