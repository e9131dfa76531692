"""CVAT: files of its format "CVAT for images 1.1" (XML), with skeletons or with points."""

from __future__ import annotations

from collections.abc import Sequence
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
    positive_size,
)
from calipose.errors import InputError

Element = Any  # xml.etree's, whose parser is defusedxml's


def read_cvat(path: Path, data: bytes) -> LabelFile:
    """Read a "CVAT for images 1.1" file.

    A `<skeleton>` is a person. `<points>` outside of skeletons are one keypoint each, of the person of their group; or,
    several in one element, a whole person. A `<box>` of the people's label and of no group is a person without
    keypoints. A keypoint with outside="1" is not labelled, one with occluded="1" is hidden.

    Args:
        path: of the file, for messages.
        data: its content.

    Raises:
        InputError: no such XML, a file of videos' tracks, or broken entries: all are counted, the first 20 listed.
    """
    root = parse_xml(data, f"label file {path}")
    if root.tag != "annotations":
        raise InputError(f"{path}: XML, but not of CVAT: it starts with <{root.tag[:40]!a}>, not <annotations>")
    if root.find("track") is not None:
        raise InputError(f"{path}: tracks, of the format 'CVAT for video 1.1'; export 'CVAT for images 1.1' instead")
    assumed = Assumptions()
    labels = _Labels(root)
    problems = Problems(str(path))
    images, counts = [], set()
    for index, element in enumerate(root.iter("image")):
        name = element.get("name") or ""
        where = f"image {name or f'number {index}'}"
        try:
            if not name:
                raise ValueError("it has no name")
            size = positive_size(element.get("width"), element.get("height"))
        except ValueError as error:
            problems.add(where, error)
            continue
        people = _people(element, labels, where, problems, assumed)
        counts |= {len(person.points) for person in people if labels.unnamed}
        images.append(LabelledImage(name, size, people))
    counts.discard(0)
    if len(counts) > 1:
        problems.add("points", f"people have {' and '.join(map(str, sorted(counts)))} points; all need the same number")
    problems.raise_any()
    if not images:
        raise InputError(f"{path}: no <image> in it; export 'CVAT for images 1.1' of a task with images")
    if labels.unnamed:
        numbered = [f"keypoint_{i + 1}" for i in range(max(counts, default=0))]
        assumed.add("points without names of keypoints were taken in the skeleton's order", len(images))
        return LabelFile(str(path), images, numbered, named=False, category=labels.person, assumed=assumed)
    return LabelFile(str(path), images, labels.keypoints, category=labels.person, assumed=assumed)


class _Labels:
    """The names of keypoints and of people, from the file's head and as they are used.

    Attributes:
        keypoints: in the order of the head, then of use.
        person: label of the people.
        unnamed: people are `<points>` of several points.
    """

    def __init__(self, root: Element) -> None:
        entries = [(e.findtext("name") or "", e.findtext("type"), e.findtext("parent")) for e in root.iter("label")]
        used = [e.get("label") or "" for e in root.iter("skeleton")]
        skeletons = [name for name, kind, _ in entries if kind == "skeleton"] + used
        self._skeletons = dict.fromkeys(skeletons)
        names = list(dict.fromkeys(name for name in skeletons if name in used)) or list(self._skeletons)
        self.person = next((name for name in names if name.casefold() in PERSON_NAMES), names[0] if names else "")
        inside = [p.get("label") or "" for e in root.iter("skeleton") for p in e.iter("points")]
        outside = [
            (e.get("label") or "", e.get("points") or "") for i in root.iter("image") for e in i.findall("points")
        ]
        self.unnamed = not inside and any(";" in points for _, points in outside)
        declared = [name for name, _, parent in entries if parent and parent == self.person]
        if self.unnamed:
            self.person = next(label for label, points in outside if ";" in points) or "person"
        loose = [] if inside or self.unnamed else [label for label, _ in outside]
        if loose and not self.person:
            declared = [name for name, kind, _ in entries if kind == "points" and name in loose]
        self.keypoints = [name for name in dict.fromkeys([*declared, *inside, *loose]) if name]
        boxes = dict.fromkeys(e.get("label") or "" for e in root.iter("box"))
        self.person = self.person or next((name for name in boxes if name.casefold() in PERSON_NAMES), "person")

    def is_person(self, label: str) -> bool:
        """Whether a skeleton's label is the people's."""
        return label == self.person


def _people(
    image: Element, labels: _Labels, where: str, problems: Problems, assumed: Assumptions
) -> list[LabelledPerson]:
    """The people of an image."""
    people: list[LabelledPerson] = []
    groups: dict[str, dict[str, Point]] = {}
    boxes: dict[str, tuple[float, float, float, float]] = {}
    for number, element in enumerate(image):
        label, group = element.get("label") or "", element.get("group_id") or ""
        spot = f"{where}, <{element.tag[:20]}> number {number}"
        try:
            if element.tag == "skeleton" and labels.is_person(label):
                people.append(LabelledPerson(_skeleton(element)))
            elif element.tag == "skeleton":
                assumed.add(f"skeletons of other labels than '{labels.person}' were left out")
            elif element.tag == "points" and labels.unnamed:
                if label == labels.person:
                    people.append(LabelledPerson(_numbered(element)))
            elif element.tag == "points" and label in labels.keypoints:
                points = groups.setdefault(group, {})
                if label in points:
                    raise ValueError(
                        f"keypoint '{label}' a second time; give the points of each person a group of its own"
                    )
                points |= _point(element, label)
            elif element.tag == "box" and label == labels.person:
                box = _box(element)
                if group and group not in boxes:
                    boxes[group] = box
                elif not group:
                    people.append(LabelledPerson({}, box))
        except ValueError as error:
            problems.add(spot, error)
    people += [LabelledPerson(points, boxes.get(group)) for group, points in groups.items()]
    return people


def _skeleton(element: Element) -> dict[str, Point]:
    points: dict[str, Point] = {}
    for point in element.findall("points"):
        name = point.get("label") or ""
        if not name:
            raise ValueError("a keypoint has no label")
        if name in points:
            raise ValueError(f"keypoint '{name}' twice")
        points |= _point(point, name)
    return points


def _point(element: Element, name: str) -> dict[str, Point]:
    """The keypoint by its name, or nothing where it is not labelled."""
    x, y = _places(element, 1)[0]
    if element.get("outside") == "1":
        return {}
    return {name: (x, y, 1 if element.get("occluded") == "1" else 2)}


def _numbered(element: Element) -> dict[str, Point]:
    v = 1 if element.get("occluded") == "1" else 2
    return {f"keypoint_{i + 1}": (x, y, v) for i, (x, y) in enumerate(_places(element))}


def _places(element: Element, number: int | None = None) -> Sequence[tuple[float, float]]:
    text = element.get("points") or ""
    places = [finite(pair.split(","), "points") for pair in text.split(";")]
    if not all(len(place) == 2 for place in places) or (number is not None and len(places) != number):
        raise ValueError(f"points {text[:60]!a}: write x,y{' of one keypoint' if number else '; between the points'}")
    return [(x, y) for x, y in places]


def _box(element: Element) -> tuple[float, float, float, float]:
    left, top, right, bottom = finite((element.get(key) for key in ("xtl", "ytl", "xbr", "ybr")), "xtl, ytl, xbr, ybr")
    if right < left or bottom < top:
        raise ValueError(f"box from {left:g}, {top:g} to {right:g}, {bottom:g}: its right lies left of its left")
    return left, top, right - left, bottom - top


def parse_xml(data: bytes, name: str) -> Element:
    """The root of an XML file; entities, which can make a small file fill the memory, are refused.

    Args:
        data: the file's bytes.
        name: what messages call the file.

    Raises:
        InputError: no XML, or XML with declarations of its own.
    """
    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        return fromstring(data, forbid_dtd=True)
    except DefusedXmlException:
        raise InputError(
            f"{name}: declares entities or a document type, which are not read; remove <!DOCTYPE>"
        ) from None
    except (SyntaxError, ValueError, LookupError, RecursionError) as error:
        raise InputError(f"{name} is not valid XML: {error}") from None
