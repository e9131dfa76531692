"""COCO annotation files: poses as a data set that other tools train on, correct and show, not as results."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from calipose.formats.annotation import inside_image
from calipose.formats.coco import image_ids
from calipose.formats.entries import Entry, Target, flush_stream, is_still, open_target
from calipose.geometry import AREA_PER_BOX
from calipose.poses import Poses
from calipose.skeleton import COCO_17, Skeleton

VISIBLE = 2


def write_coco_dataset(target: Target, entries: Iterable[Entry], skeleton: Skeleton = COCO_17) -> None:
    """Write a COCO annotation file of still images; frames of videos, which have no file of their own, are left out.

    Images are numbered as in COCO results. A keypoint inside of the image counts as visible (2); one outside is not
    labelled, (0, 0, 0) as COCO writes it. `area` is 0.53 x the area of the box around the keypoints. Each annotation
    also has its `score`, and `keypoint_scores` where the model gives them; COCO's own tools pass these over.

    Example:
        write_coco_dataset("people.json", read_entries("calipose-out/poses.jsonl"))

    Args:
        target: a file, which appears whole or not at all, or a text stream.
        entries: see `calipose.formats.entries`.
        skeleton: of all entries.

    Raises:
        InputError: an entry is of another skeleton, or the file cannot be written.
    """
    image_id = image_ids()
    images: list[dict[str, Any]] = []
    number = 0
    category = {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(skeleton.keypoints),
        "skeleton": [[a + 1, b + 1] for a, b in skeleton.limbs],
    }
    with open_target(target) as stream:
        stream.write('{"annotations": [')
        for entry in filter(is_still, entries):
            poses = Poses.from_dict(entry, skeleton)
            width, height = poses.image_size
            images.append({"id": image_id(entry), "file_name": entry["file"], "width": width, "height": height})
            for annotation in _annotations(poses, images[-1]["id"]):
                number += 1
                stream.write(f"{',' if number > 1 else ''}\n{json.dumps({'id': number, **annotation})}")
            flush_stream(stream, target)
        listed = ",\n".join(json.dumps(image) for image in images)
        stream.write(f'\n],\n"images": [\n{listed}\n],\n"categories": [{json.dumps(category)}]}}\n')


def _annotations(poses: Poses, image_id: int) -> list[dict[str, Any]]:
    """The poses of one image that have a keypoint inside of it."""
    inside = inside_image(poses)
    found = []
    for i in range(len(poses)):
        if not inside[i].any():
            continue
        triples: list[float] = []
        for (x, y), seen in zip(poses.keypoints_img[i].tolist(), inside[i], strict=True):
            triples += [x, y, VISIBLE] if seen else [0, 0, 0]
        seen_img = poses.keypoints_img[i][inside[i]]
        (left, top), (width, height) = seen_img.min(0).tolist(), (seen_img.max(0) - seen_img.min(0)).tolist()
        annotation = {
            "image_id": image_id,
            "category_id": 1,
            "iscrowd": 0,
            "num_keypoints": int(inside[i].sum()),
            "keypoints": triples,
            "bbox": [left, top, width, height],
            "area": AREA_PER_BOX * width * height,
            "score": float(poses.scores[i]),
        }
        if poses.keypoint_scores is not None:
            annotation["keypoint_scores"] = poses.keypoint_scores[i].tolist()
        found.append(annotation)
    return found
