"""YOLO pose: a file of labels (.txt) an image, and the data.yaml that describes them."""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np

from calipose.formats.annotation import inside_image
from calipose.formats.entries import Entry, Target, is_still
from calipose.formats.zipped import open_zip, unique_stems
from calipose.poses import Poses
from calipose.skeleton import COCO_17, Skeleton


def write_yolo_pose(target: Target, entries: Iterable[Entry], skeleton: Skeleton = COCO_17) -> None:
    """Write a .zip with `labels/NAME.txt` of each still image, and `data.yaml`; the images go beside into `images`.

    A line is: class 0, box (centre, width, height) around the keypoints, and x, y, visibility of each keypoint, in
    shares of the image. YOLO reads no coordinates outside of the image: a keypoint there is not labelled, 0 0 0.

    Example:
        write_yolo_pose("yolo.zip", read_entries("calipose-out/poses.jsonl"))

    Args:
        target: a file, which appears whole or not at all.
        entries: see `calipose.formats.entries`.
        skeleton: of all entries.

    Raises:
        InputError: an entry is of another skeleton, or the file cannot be written.
    """
    stem = unique_stems()
    with open_zip(target) as add:
        for entry in filter(is_still, entries):
            add(f"labels/{stem(entry)}.txt", yolo_lines(Poses.from_dict(entry, skeleton)))
        add("data.yaml", data_yaml(skeleton))


def yolo_lines(poses: Poses) -> str:
    """The lines of one image's file of labels; poses wholly outside of the image are left out."""
    size = np.array(poses.image_size, np.float64)
    lines = []
    for points, inside in zip(poses.keypoints_img / size, inside_image(poses), strict=True):
        if not inside.any():
            continue
        low, high = points[inside].min(0), points[inside].max(0)
        numbers = [*((low + high) / 2), *(high - low)]
        for (x, y), seen in zip(points, inside, strict=True):
            numbers += [x, y, 2] if seen else [0, 0, 0]
        lines.append("0 " + " ".join(f"{number:.8g}" for number in numbers) + "\n")
    return "".join(lines)


def data_yaml(skeleton: Skeleton) -> str:
    """The description of a data set of the skeleton; JSON's lists are YAML's, too.

    Without a `path`, Ultralytics takes the folder of the file; a `.` would be the folder in which it runs. sleap-io
    finds the labels by the "/images" in `train`, and takes the keypoints' names from `node_names`.
    """
    rows = {
        "train": "./images",
        "val": "./images",
        "kpt_shape": [len(skeleton), 3],
        "flip_idx": skeleton.flip_index.tolist(),
        "names": ["person"],
    }
    text = "".join(f"{key}: {json.dumps(value)}\n" for key, value in rows.items())
    names = json.dumps(list(skeleton.keypoints))
    return text + f"kpt_names:\n  0: {names}\nnode_names: {names}\n"
