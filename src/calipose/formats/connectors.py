"""Poses for other tools: supervision, pandas, CSV, Label Studio and CVAT.

Pixels stay the numbers of `keypoints_img`: Label Studio and CVAT import and export COCO's keypoints unshifted, so a
pose that is corrected there comes back in the same frame.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from calipose.errors import InputError
from calipose.io.atomic import replacing
from calipose.poses import OF_POSES, Poses
from calipose.skeleton import Skeleton

# Columns of a table of keypoints, and how pandas holds them where some or all are missing.
COLUMNS = {
    "pose": "int64",
    "keypoint": "str",
    "x": "float64",
    "y": "float64",
    "keypoint_score": "float64",
    "score": "float64",
    "raw_score": "float64",
    "p_oks50": "float64",
    "p_oks75": "float64",
    "track_id": "Int64",
    "filled": "boolean",
}
SUFFIXES = (".json", ".jsonl", ".csv")
CVAT_TAIL = "</annotations>\n"
POINT_SIZE = 0.5  # Label Studio's dots, in percent of the image's width


def to_supervision(poses: Poses, class_id: int = 0) -> Any:
    """`supervision.KeyPoints` (0.29 or newer): the scores of poses and of joints in their own fields.

    Track ids and filled marks go to its `data`. supervision rounds to float32, and takes a joint at exactly (0, 0) for
    missing in some of its functions.

    Raises:
        InputError: supervision is not installed, or older.
    """
    try:
        from supervision import KeyPoints
    except ImportError:
        raise InputError("to_supervision needs supervision: pip install 'calipose[supervision]'") from None
    keypoint = None if poses.keypoint_scores is None else poses.keypoint_scores.astype(np.float32)
    extra = {"track_id": poses.track_ids, "filled": poses.filled}
    try:
        return KeyPoints(
            xy=poses.keypoints_img.astype(np.float32),
            class_id=np.full(len(poses), class_id),
            keypoint_confidence=keypoint,
            detection_confidence=poses.scores.astype(np.float32),
            data={key: values for key, values in extra.items() if values is not None},
        )
    except TypeError:
        raise InputError("to_supervision needs supervision 0.29 or newer: pip install -U supervision") from None


def rows(poses: Poses) -> Iterator[tuple[int | float | str | bool | None, ...]]:
    """One row a keypoint, in the order of `COLUMNS`; `pose` counts from 0, and None stands for what is not there."""
    for i in range(len(poses)):
        fields = (poses.scores, *(getattr(poses, field) for field in OF_POSES.values()))
        pose = [None if values is None else values[i].item() for values in fields]
        for j, name in enumerate(poses.skeleton.keypoints):
            x, y = poses.keypoints_img[i, j].tolist()
            yield i, name, x, y, None if poses.keypoint_scores is None else poses.keypoint_scores[i, j].item(), *pose


def to_pandas(poses: Poses) -> Any:
    """`pandas.DataFrame` with one row a keypoint and the columns of `COLUMNS`, all of them always there.

    Raises:
        InputError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise InputError("to_pandas needs pandas: pip install 'calipose[pandas]'") from None
    return pandas.DataFrame(list(rows(poses)), columns=list(COLUMNS)).astype(COLUMNS)


def save(poses: Poses, path: str | Path) -> None:
    """Write the poses; the suffix tells the format: .json, .jsonl (one line) or .csv (one line a keypoint).

    Raises:
        InputError: an unknown suffix, or a place that cannot be written to.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: unknown suffix '{path.suffix}'; use one of {' '.join(SUFFIXES)}")
    if path.suffix.lower() == ".csv":
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows(rows(poses))
        content = text.getvalue()
    else:
        indent = 1 if path.suffix.lower() == ".json" else None
        content = json.dumps(poses.to_dict(), ensure_ascii=False, indent=indent) + "\n"
    try:
        with replacing(path) as temporary:
            temporary.write_text(content, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; does the folder exist, and may you write there?") from None


def to_label_studio(
    poses: Poses,
    image: str,
    *,
    label: str = "person",
    min_keypoint_score: float = 0.0,
    model_version: str = "calipose",
) -> dict[str, Any]:
    """One Label Studio task with its pre-annotation, for a project with the labels of `label_studio_config`.

    Each pose is a rectangle with its score, and keypoints that name the rectangle as their `parentID`; all places are
    in percent of the image's size. Label Studio shows nothing outside the image, so joints there are left out, as
    are those below `min_keypoint_score` where the poses carry scores of joints, and poses without any joint left.

    Args:
        poses: of one image.
        image: the URL or path under which Label Studio finds the image.
        label: the rectangle's label.
        min_keypoint_score: joints below are left to the annotator.
        model_version: under which Label Studio lists the prediction.

    Source: Label Studio's documentation, "Import pre-annotated data"; its YOLO export reads `parentID`.
    """
    size = np.array(poses.image_size, np.float64)
    frame = {"original_width": poses.image_size[0], "original_height": poses.image_size[1], "image_rotation": 0}
    percent = 100.0 * poses.keypoints_img / size
    boxes = 100.0 * (poses.boxes_img.reshape(-1, 2, 2) / size).clip(0.0, 1.0)
    shown = _inside(poses) & _sure(poses, min_keypoint_score)
    result: list[dict[str, Any]] = []
    for i in np.flatnonzero(shown.any(1)):
        parent = f"pose-{i + 1}"
        (left, top), (right, bottom) = boxes[i].tolist()
        box = {"x": left, "y": top, "width": right - left, "height": bottom - top, "rotation": 0}
        region = {
            "id": parent,
            "type": "rectanglelabels",
            "from_name": "box",
            "to_name": "image",
            **frame,
            "score": float(poses.scores[i]),
            "value": {**box, "rectanglelabels": [label]},
        }
        if poses.track_ids is not None:
            region["meta"] = {"text": [f"track {poses.track_ids[i]}"]}
        result.append(region)
        for j in np.flatnonzero(shown[i]):
            name = poses.skeleton.keypoints[j]
            x, y = percent[i, j].tolist()
            region = {
                "id": f"{parent}-{name}",
                "parentID": parent,
                "type": "keypointlabels",
                "from_name": "keypoint",
                "to_name": "image",
                **frame,
                "value": {"x": x, "y": y, "width": POINT_SIZE, "keypointlabels": [name]},
            }
            if poses.keypoint_scores is not None:
                region["score"] = float(poses.keypoint_scores[i, j])
            result.append(region)
    prediction: dict[str, Any] = {"model_version": model_version, "result": result}
    if result:
        prediction["score"] = float(poses.scores[shown.any(1)].mean())
    return {"data": {"image": image}, "predictions": [prediction]}


def label_studio_config(skeleton: Skeleton, label: str = "person") -> str:
    """The labelling interface (XML) that a Label Studio project needs for tasks of `to_label_studio`."""
    view = ElementTree.Element("ScaleCandidates")
    ElementTree.SubElement(view, "Image", name="image", value="$image")
    boxes = ElementTree.SubElement(view, "RectangleLabels", name="box", toName="image")
    ElementTree.SubElement(boxes, "Label", value=label)
    points = ElementTree.SubElement(view, "KeyPointLabels", name="keypoint", toName="image")
    for j, name in enumerate(skeleton.keypoints):  # model_index: the keypoints' order in its COCO and YOLO exports
        ElementTree.SubElement(points, "Label", value=name, model_index=str(j))
    return _xml(view, 0)


def to_cvat(
    poses: Poses, name: str, image_id: int = 0, *, label: str = "person", min_keypoint_score: float = 0.0
) -> str:
    """A whole "CVAT for images 1.1" file (XML) of one image; `cvat_image` has the arguments.

    Many images are written one by one: `cvat_head`, a `cvat_image` each, `CVAT_TAIL`.
    """
    image = cvat_image(poses, name, image_id, label=label, min_keypoint_score=min_keypoint_score)
    return cvat_head(poses.skeleton, label) + image + CVAT_TAIL


def cvat_head(skeleton: Skeleton, label: str = "person") -> str:
    """The start of a "CVAT for images 1.1" file, up to the first image; the task must have these labels."""
    meta = ElementTree.Element("meta")
    task = ElementTree.SubElement(meta, "task")
    ElementTree.SubElement(task, "id").text = "0"
    ElementTree.SubElement(task, "mode").text = "annotation"
    labels = ElementTree.SubElement(task, "labels")
    for name, kind in ((label, "skeleton"), *((keypoint, "points") for keypoint in skeleton.keypoints)):
        entry = ElementTree.SubElement(labels, "label")
        ElementTree.SubElement(entry, "name").text = name
        ElementTree.SubElement(entry, "type").text = kind
        ElementTree.SubElement(entry, "attributes")
        if kind == "points":
            ElementTree.SubElement(entry, "parent").text = label
    start = '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n'
    return start + _xml(meta, 1)


def cvat_image(
    poses: Poses, name: str, image_id: int, *, label: str = "person", min_keypoint_score: float = 0.0
) -> str:
    """One `<image>` element of a "CVAT for images 1.1" file: a `<skeleton>` a pose, its keypoints as `<points>`.

    A joint outside the image has outside="1" (CVAT does not show it), one below `min_keypoint_score` has
    occluded="1"; both keep their coordinates. Track ids become `group_id`. Scores are not written: CVAT refuses
    attributes that a task does not declare.

    Args:
        poses: of one image.
        name: the image's name in the CVAT task; CVAT finds the image by it.
        image_id: its number in the task, or the frame of a video, from 0.
        label: name of the task's skeleton label.
        min_keypoint_score: below, a joint counts as occluded, where the poses carry scores of joints.

    Source: CVAT's documentation, "XML annotation format", and what its importer reads of a skeleton.
    """
    width, height = (str(side) for side in poses.image_size)
    image = ElementTree.Element("image", id=str(image_id), name=name, width=width, height=height)
    inside, sure = _inside(poses), _sure(poses, min_keypoint_score)
    for i in range(len(poses)):
        skeleton = ElementTree.SubElement(image, "skeleton", label=label, source="auto", z_order="0")
        if poses.track_ids is not None:
            skeleton.set("group_id", str(poses.track_ids[i]))
        for j, keypoint in enumerate(poses.skeleton.keypoints):
            x, y = poses.keypoints_img[i, j].tolist()
            ElementTree.SubElement(
                skeleton,
                "points",
                label=keypoint,
                source="auto",
                outside=str(int(not inside[i, j])),
                occluded=str(int(not sure[i, j])),
                points=f"{x!r},{y!r}",
            )
    return _xml(image, 1)


def _inside(poses: Poses) -> NDArray[np.bool_]:
    """`(p, k)`: the joint lies where annotation tools can show it, 0 to the image's width and height."""
    inside = (poses.keypoints_img >= 0) & (poses.keypoints_img <= np.array(poses.image_size))
    return np.asarray(inside.all(-1))


def _sure(poses: Poses, min_keypoint_score: float) -> NDArray[np.bool_]:
    """`(p, k)`: the joint's score is at least that; always where the poses carry no scores of joints."""
    if poses.keypoint_scores is None:
        return np.ones(poses.keypoints_img.shape[:2], bool)
    return np.asarray(poses.keypoint_scores >= min_keypoint_score)


def _xml(element: ElementTree.Element, level: int) -> str:
    """The element's text, indented, at a level of the document."""
    ElementTree.indent(element, level=level)
    return "  " * level + ElementTree.tostring(element, encoding="unicode") + "\n"
