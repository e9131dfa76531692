"""What a reader of other tools' labels gives, and how it becomes the content of a COCO annotation file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from calipose.data.dialects import Assumptions, same_name
from calipose.errors import InputError
from calipose.skeleton import COCO_17, MEAN_SIGMA, Skeleton

Point = tuple[float, float, int]  # x and y in pixels, visibility as COCO counts it: 1 hidden, 2 visible

DEFAULT_SIGMA = MEAN_SIGMA  # of a keypoint that COCO does not have
LISTED_PROBLEMS = 20
LARGEST_PLACE = 1e6  # pixels


@dataclass(frozen=True)
class LabelledPerson:
    """One person of an image.

    Attributes:
        points: labelled keypoints by name; none for a person of whom the box alone is known.
        box: left, top, width, height in pixels; None: the extent of the keypoints.
    """

    points: Mapping[str, Point]
    box: tuple[float, float, float, float] | None = None

    @property
    def extent(self) -> list[float]:
        """Left, top, width and height: the box, or else what holds the keypoints."""
        if self.box is not None or not self.points:
            return list(self.box or (0.0, 0.0, 0.0, 0.0))
        places = np.array([point[:2] for point in self.points.values()], np.float64)
        low, high = places.min(0), places.max(0)
        return [*low.tolist(), *(high - low).tolist()]

    @property
    def has_area(self) -> bool:
        """Whether width and height are positive, so that an area can be taken from them."""
        return min(self.extent[2:]) > 0


@dataclass(frozen=True)
class LabelledImage:
    """One labelled image.

    Attributes:
        name: of its file, as the tool has it.
        size: width and height; None where the labels do not say them.
        people: in it; none: nobody is in it.
    """

    name: str
    size: tuple[int, int] | None
    people: Sequence[LabelledPerson]


@dataclass(frozen=True)
class LabelFile:
    """What a file or folder of labels holds.

    Attributes:
        source: the file.
        images: in its order.
        keypoints: names in the tool's order.
        named: the tool says these names; False: they are numbers, and the order of the skeleton is assumed.
        category: what the tool calls a person.
        flip_pairs: pairs of names that a mirror exchanges.
        assumed: what was assumed in reading.
    """

    source: str
    images: Sequence[LabelledImage]
    keypoints: Sequence[str]
    named: bool = True
    category: str = "person"
    flip_pairs: Sequence[tuple[str, str]] = ()
    assumed: Assumptions = field(default_factory=Assumptions)

    def __post_init__(self) -> None:
        flat = sum(person.points != {} and not person.has_area for image in self.images for person in image.people)
        self.assumed.add("people without a box whose keypoints span no area were taken for ignore regions", flat)

    @property
    def skeleton(self) -> Skeleton:
        """The skeleton of the labels: COCO's if its 17 keypoints hold all of them, else one of their names.

        Its sigmas are COCO's for keypoints that COCO has, by name, and `DEFAULT_SIGMA` for others.

        Raises:
            InputError: the names make no skeleton.
        """
        names = tuple(self.keypoints)
        if not names:
            raise InputError(f"{self.source}: no keypoint is labelled; label one at least")
        if _align(names, COCO_17) or (not self.named and len(names) == len(COCO_17)):
            return COCO_17
        known = {name: _coco_sigma(name) for name in names}
        place = {name: i for i, name in enumerate(names)}
        pairs = [(place[a], place[b]) for a, b in self.flip_pairs or _mirrored(names)]
        sigmas = tuple(DEFAULT_SIGMA if sigma is None else sigma for sigma in known.values())
        return Skeleton(self.category or "person", names, tuple(pairs), (), sigmas)

    @property
    def default_sigmas(self) -> list[str]:
        """The keypoints whose sigma is `DEFAULT_SIGMA`."""
        skeleton = self.skeleton
        return [] if skeleton is COCO_17 else [name for name in skeleton.keypoints if _coco_sigma(name) is None]

    def content(self, skeleton: Skeleton | None = None) -> dict[str, Any]:
        """The labels as a COCO annotation file holds them; images and people are numbered from 1.

        Areas are left out: the readers of COCO files take them from the boxes, and say so.

        Args:
            skeleton: whose keypoints and order are wanted; by default the labels' own.

        Raises:
            InputError: the keypoints are not the skeleton's.
        """
        skeleton = skeleton or self.skeleton
        order = self._order(skeleton)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for image_id, image in enumerate(self.images, 1):
            size = {} if image.size is None else {"width": image.size[0], "height": image.size[1]}
            images.append({"id": image_id, "file_name": image.name, **size})
            for person in image.people:
                triples = [person.points.get(name, (0.0, 0.0, 0)) for name in order]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": 1,
                        "iscrowd": 0,
                        "num_keypoints": len(person.points) if person.has_area else 0,
                        "keypoints": list(chain(*triples)),
                        "bbox": person.extent,
                    }
                )
        category = {
            "id": 1,
            "name": self.category,
            "keypoints": list(skeleton.keypoints),
            "skeleton": [[a + 1, b + 1] for a, b in skeleton.limbs],
        }
        return {"images": images, "annotations": annotations, "categories": [category]}

    def _order(self, skeleton: Skeleton) -> list[str]:
        """The labels' name of each keypoint of the skeleton.

        Raises:
            InputError: there are other keypoints.
        """
        advice = "; give the skeleton that belongs to the labels, which calipose convert writes beside its output"
        if not self.keypoints:
            return list(skeleton.keypoints)
        if not self.named:
            if len(self.keypoints) != len(skeleton):
                many = f"{len(self.keypoints)} keypoints, skeleton '{skeleton.name}' has {len(skeleton)}"
                raise InputError(f"{self.source}: {many}{advice}")
            return list(self.keypoints)
        if order := _align(self.keypoints, skeleton):
            return order
        for name in self.keypoints:
            if not any(same_name(name, own) for own in skeleton.keypoints):
                raise InputError(f"{self.source}: keypoint '{name}' is none of skeleton '{skeleton.name}'{advice}")
        raise InputError(f"{self.source}: two names of keypoints differ in case or spaces only; give both the same")


class LabelSource:
    """A file or folder that may hold labels; a file is read once, when it is first asked for.

    Args:
        path: of it.
        name: what messages call it.
    """

    def __init__(self, path: str | Path, name: str = "") -> None:
        self.path = Path(path)
        self.name = name or f"label file {path}"

    @cached_property
    def data(self) -> bytes:
        """The file's content.

        Raises:
            InputError: it cannot be read.
        """
        return read_bytes(self.path, self.name)


class Problems:
    """Broken entries, gathered so that all of them are told at once.

    Args:
        source: the file.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._lines: list[str] = []

    def add(self, where: str, what: object) -> None:
        """Note one."""
        self._lines.append(f"{where}: {what}")

    def raise_any(self) -> None:
        """Raise if there are some.

        Raises:
            InputError: with their number and the first 20.
        """
        if self._lines:
            lines = self._lines[:LISTED_PROBLEMS]
            if len(self._lines) > LISTED_PROBLEMS:
                lines.append(f"and {len(self._lines) - LISTED_PROBLEMS} more")
            raise InputError("\n  ".join([f"{self._source}: {len(self._lines)} broken entries", *lines]))


def finite(values: Iterable[Any], what: str) -> list[float]:
    """Values, or their texts, as numbers that can be places in an image.

    Args:
        values: numbers or texts.
        what: they are, for the message.

    Raises:
        ValueError: one is none.
    """
    values = list(values)
    try:
        numbers = [float(value) for value in values if not isinstance(value, bool)]
    except (TypeError, ValueError, OverflowError):
        numbers = []
    if len(numbers) != len(values) or not all(abs(number) <= LARGEST_PLACE for number in numbers):
        raise ValueError(f"{what} {_short(values)}: finite numbers are needed")
    return numbers


def positive_size(width: object, height: object) -> tuple[int, int]:
    """An image's size, of numbers or their texts.

    Raises:
        ValueError: it is none.
    """
    sides = finite((width, height), "width and height")
    if not all(side >= 1 and side == int(side) for side in sides):
        raise ValueError(f"width {width} and height {height} must be whole numbers of at least 1")
    return int(sides[0]), int(sides[1])


def read_bytes(path: Path, name: str) -> bytes:
    """A file's content.

    Args:
        path: of it.
        name: what messages call it.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _short(values: object) -> str:
    return ascii(values)[:80]


def _align(names: Sequence[str], skeleton: Skeleton) -> list[str] | None:
    """For each keypoint of the skeleton the same name among `names`; None if a name is of no keypoint.

    A keypoint that nobody has labelled gets its own name.
    """
    found = []
    for own in skeleton.keypoints:
        same = [name for name in names if same_name(name, own)]
        found.append(same[0] if same else own)
    return found if set(names) <= set(found) else None


def _coco_sigma(name: str) -> float | None:
    for own, sigma in zip(COCO_17.keypoints, COCO_17.sigmas, strict=True):
        if same_name(own, name):
            return sigma
    return None


def _mirrored(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of names that differ by left and right only."""
    return [
        (name, other)
        for name in names
        if "left" in name.casefold()
        for other in names
        if other.casefold() == name.casefold().replace("left", "right")
    ]
