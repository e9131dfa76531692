"""Label Studio: tasks with pre-annotations, and the labelling interface that they need."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from xml.etree import ElementTree

import numpy as np

from calipose.formats.annotation import inside_image, scored_at_least, xml_text
from calipose.formats.entries import Entry, Target, is_still, write_json_list
from calipose.poses import Poses
from calipose.skeleton import COCO_17, Skeleton

POINT_SIZE = 0.5  # Label Studio's dots, in percent of the image's width


def to_label_studio(
    poses: Poses,
    image: str,
    *,
    label: str = "person",
    min_keypoint_score: float = 0.0,
    model_version: str = "calipose",
) -> dict[str, Any]:
    """One Label Studio task with its pre-annotation, for a project with the labels of `label_studio_config`.

    Each pose is a rectangle with its score, and keypoints that name the rectangle as their `parentID`; coordinates
    are percentages of the image's size. Label Studio shows nothing outside the image, so keypoints there are left
    out, as are those below `min_keypoint_score` where the poses carry scores of keypoints, and poses without any
    keypoint left.

    Args:
        poses: of one image.
        image: the URL or path under which Label Studio finds the image.
        label: the rectangle's label.
        min_keypoint_score: keypoints below are left to the annotator.
        model_version: under which Label Studio lists the prediction.

    Returns:
        The task, fit for JSON.

    Example:
        task = to_label_studio(predictor.predict("photo.jpg"), "/data/local-files/?d=photo.jpg")
        Path("tasks.json").write_text(json.dumps([task]))

    Source: Label Studio's documentation, "Import pre-annotated data"; its YOLO export reads `parentID`.
    """
    size = np.array(poses.image_size, np.float64)
    frame = {"original_width": poses.image_size[0], "original_height": poses.image_size[1], "image_rotation": 0}
    percent = 100.0 * poses.keypoints_img / size
    boxes = 100.0 * (poses.boxes_img.reshape(-1, 2, 2) / size).clip(0.0, 1.0)
    shown = inside_image(poses) & scored_at_least(poses, min_keypoint_score)
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
    """The labelling interface (XML) that a Label Studio project needs for tasks of `to_label_studio`.

    Args:
        skeleton: whose keypoints are labelled.
        label: name of the rectangle around a person, as in `to_label_studio`.

    Returns:
        The interface as XML.

    Example:
        Path("interface.xml").write_text(label_studio_config(COCO_17))
    """
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name="image", value="$image")
    boxes = ElementTree.SubElement(view, "RectangleLabels", name="box", toName="image")
    ElementTree.SubElement(boxes, "Label", value=label)
    points = ElementTree.SubElement(view, "KeyPointLabels", name="keypoint", toName="image")
    for j, name in enumerate(skeleton.keypoints):  # model_index: the keypoints' order in its COCO and YOLO exports
        ElementTree.SubElement(points, "Label", value=name, model_index=str(j))
    return xml_text(view, 0)


def write_label_studio(target: Target, entries: Iterable[Entry], skeleton: Skeleton = COCO_17) -> None:
    """Write Label Studio tasks with pre-annotations, of still images; frames of videos are passed over.

    Each task names its image as the entry does, and Label Studio opens it under that name: `with_image_prefix` in
    `calipose.formats.annotation` gives it addresses. The project needs the labels of `label_studio_config`.

    Example:
        write_label_studio("label_studio.json", read_entries("calipose-out/poses.jsonl"))

    Args:
        target: a file, which appears whole or not at all, or a text stream, which is flushed after each entry.
        entries: see `calipose.formats.entries`.
        skeleton: of all entries.

    Raises:
        InputError: an entry is of another skeleton, or the file cannot be written.
    """
    stills = filter(is_still, entries)
    write_json_list(target, ([to_label_studio(Poses.from_dict(entry, skeleton), entry["file"])] for entry in stills))
