"""Label Studio: its export "JSON", with keypoint labels and, as people, rectangles or relations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from calipose.data.dialects import Assumptions
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
from calipose.plain_data import parse_json


def read_label_studio(path: Path, data: bytes) -> LabelFile:
    """Read Label Studio's export "JSON".

    The keypoints that name the same rectangle as their parent, or that a relation joins to it, are one person's. In an
    image where no keypoint has a parent, all are one person's if none stands twice. Rectangles without keypoints are
    people without keypoints. Of several annotations of a task, the one that is marked as ground truth is read, or else
    the last. Tasks without an annotation are left out.

    Args:
        path: of the file, for messages.
        data: its content.

    Raises:
        InputError: no such file, or broken entries: all are counted, the first 20 listed.
    """
    content = parse_json(data, f"label file {path}")
    if not isinstance(content, list) or not all(isinstance(task, dict) and "data" in task for task in content):
        if isinstance(content, list) and content and isinstance(content[0], dict) and "score" in content[0]:
            raise InputError(f"{path}: a results file, and no annotations; name the annotations of its images")
        raise InputError(
            f"{path}: a list, but not of Label Studio's tasks with 'data' (its export 'JSON', not 'JSON-MIN'), and not "
            "a COCO keypoint file: it has no list 'images'"
        )
    assumed, problems = Assumptions(), Problems(str(path))
    images: list[LabelledImage] = []
    for index, task in enumerate(content):
        where = f"task {task.get('id', f'number {index}')!a}"[:80]
        try:
            results = _results(task, assumed)
            if results is not None:
                images.append(_image(task, results))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            problems.add(where, f"no field {error}" if isinstance(error, KeyError) else error)
    problems.raise_any()
    if not images:
        raise InputError(f"{path}: no task has an annotation; predictions alone are not labels: submit them first")
    people = [person for image in images for person in image.people]
    names = list(dict.fromkeys(name for person in people for name in person.points))
    return LabelFile(str(path), images, names, assumed=assumed)


def _results(task: Mapping[str, Any], assumed: Assumptions) -> list[dict[str, Any]] | None:
    """The regions of the annotation that counts; None where the task has none."""
    entries = task.get("annotations", task.get("completions")) or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise TypeError("'annotations' is no list of objects; export as JSON")
    entries = [entry for entry in entries if not entry.get("was_cancelled")]
    if not entries:
        assumed.add("tasks without an annotation were left out")
        return None
    if len(entries) > 1:
        assumed.add("of several annotations of a task, the ground truth or else the last was read")
    chosen = next((entry for entry in entries if entry.get("ground_truth")), entries[-1])
    results = chosen["result"]
    if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
        raise TypeError("'result' is no list of objects")
    return results


def _image(task: Mapping[str, Any], results: list[dict[str, Any]]) -> LabelledImage:
    """The image of a task and the people in it."""
    points: dict[str | None, dict[str, Point]] = {}
    boxes: dict[str, tuple[float, float, float, float]] = {}
    parents = _relations(results)
    size = None
    for result in results:
        kind = result.get("type")
        if kind not in {"keypointlabels", "rectanglelabels", "keypoint", "rectangle"}:
            continue
        value = result["value"]
        size = positive_size(result["original_width"], result["original_height"])
        if result.get("image_rotation"):
            raise ValueError("the image is turned by Label Studio; turn the file instead, and label it again")
        x, y = finite((value["x"], value["y"]), "x, y")
        x, y = x / 100 * size[0], y / 100 * size[1]
        if str(kind).startswith("rectangle"):
            if value.get("rotation"):
                raise ValueError("a rectangle is turned; label people with upright ones")
            wide, high = finite((value["width"], value["height"]), "width, height")
            boxes[_text(result["id"])] = (x, y, wide / 100 * size[0], high / 100 * size[1])
        elif labels := value.get("keypointlabels"):
            parent = result.get("parentID") or parents.get(_text(result.get("id", "")))
            person = points.setdefault(None if parent is None else _text(parent), {})
            name = _text(labels[0])
            if name in person:
                raise ValueError(
                    f"keypoint '{name[:40]}' twice in one person; give each person a rectangle that is the parent of "
                    "their keypoints"
                )
            person[name] = (x, y, 2)
    if None in points and len(points) > 1:
        raise ValueError("some keypoints have a person's rectangle as parent and some have none")
    people = [LabelledPerson(person, boxes.get(parent or "")) for parent, person in points.items()]
    people += [LabelledPerson({}, box) for parent, box in boxes.items() if parent not in points and None not in points]
    return LabelledImage(_file_name(task), size, people)


def _relations(results: list[dict[str, Any]]) -> dict[str, str]:
    """Region of a keypoint -> region of its person, as relations join them, in either direction."""
    kinds = {_text(result["id"]): str(result.get("type")) for result in results if "id" in result}
    parents = {}
    for result in results:
        if result.get("type") == "relation":
            ends = [_text(result["from_id"]), _text(result["to_id"])]
            for one, other in (ends, ends[::-1]):
                if kinds.get(one, "").startswith("keypoint") and kinds.get(other, "").startswith("rectangle"):
                    parents[one] = other
    return parents


def _file_name(task: Mapping[str, Any]) -> str:
    """The path of a task's image, from the address under which Label Studio finds it.

    Local files are `/data/local-files/?d=PATH`, uploaded ones `/data/upload/1/1a2b3c4d-NAME`.
    """
    data = task["data"]
    texts = [value for value in data.values() if isinstance(value, str)] if isinstance(data, dict) else []
    address = data.get("image") if isinstance(data, dict) else None
    if not isinstance(address, str):
        images = [
            text for text in texts if re.search(r"\.(jpe?g|png|webp|tiff?|bmp|gif|heic|avif)$", text, re.IGNORECASE)
        ]
        if len(images) != 1:
            raise ValueError("'data' names no image; it needs 'image'")
        address = images[0]
    parts = urlsplit(address)
    local = parse_qs(parts.query).get("d")
    name = local[0] if local else unquote(parts.path) if parts.scheme or address.startswith("/data/") else address
    name = str(PurePosixPath(name)).lstrip("/")
    if not name.strip(".") or "\0" in name:
        raise ValueError(f"'data' names no image: {address[:80]!a}")
    return name


def _text(value: object) -> str:
    if not isinstance(value, str | int):
        raise TypeError(f"{ascii(value)[:40]} where a name is needed")
    return str(value)
