"""OpenPose: a JSON file an image or frame, as its option --write_json gives."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from calipose.formats.entries import Entry, Target, is_still
from calipose.formats.zipped import open_zip, unique_stems
from calipose.poses import Poses
from calipose.skeleton import COCO_17, Skeleton

VERSION = 1.3  # of the form, which OpenPose 1.5 and later write
NECK = -1
# OpenPose's COCO model with 18 keypoints: of each the index in COCO's 17, or the neck, which COCO has not.
COCO_18 = (0, NECK, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
LEFT_SHOULDER, RIGHT_SHOULDER = 5, 6
OTHER_PARTS = ("face_keypoints_2d", "hand_left_keypoints_2d", "hand_right_keypoints_2d", "pose_keypoints_3d",
               "face_keypoints_3d", "hand_left_keypoints_3d", "hand_right_keypoints_3d")  # fmt: skip


def to_openpose(poses: Poses) -> dict[str, Any]:
    """The content of OpenPose's JSON file of one image.

    COCO's 17 keypoints become OpenPose's 18 of its COCO model, whose neck is the middle of the shoulders, with the
    lower of their scores; other skeletons keep their keypoints and order. Coordinates are pixels. The third number is
    the keypoint's score, or the pose's where the model scores no keypoints. `person_id` is the track's number, or -1.

    Args:
        poses: of one image.

    Returns:
        The content, fit for JSON.

    Example:
        Path("photo_keypoints.json").write_text(json.dumps(to_openpose(predictor.predict("photo.jpg"))))

    Source: OpenPose's documentation, "Output format"; rtmlib makes the neck in the same way.
    """
    own = poses.keypoint_scores
    scores = np.repeat(poses.scores[:, None], len(poses.skeleton), 1) if own is None else own
    triples = np.concatenate([poses.keypoints_img, scores[..., None]], axis=-1)
    if poses.skeleton.keypoints == COCO_17.keypoints:
        shoulders = triples[:, [LEFT_SHOULDER, RIGHT_SHOULDER]]
        neck = np.concatenate([shoulders[..., :2].mean(1), shoulders[:, :, 2].min(1)[:, None]], axis=-1)
        triples = np.concatenate([triples, neck[:, None]], axis=1)[:, list(COCO_18)]
    people = []
    for i, person in enumerate(triples):
        track = -1 if poses.track_ids is None else int(poses.track_ids[i])
        numbers = {"pose_keypoints_2d": person.ravel().tolist()}
        people.append({"person_id": [track], **numbers, **{part: [] for part in OTHER_PARTS}})
    return {"version": VERSION, "people": people}


def write_openpose(target: Target, entries: Iterable[Entry], skeleton: Skeleton = COCO_17) -> None:
    """Write a .zip with OpenPose's file of each image, and of each frame of a video.

    They are `NAME_keypoints.json` and, for frame 12, `NAME_000000000012_keypoints.json`.

    Example:
        write_openpose("openpose.zip", read_entries("calipose-out/dance.poses.jsonl"))

    Args:
        target: a file, which appears whole or not at all.
        entries: see `calipose.formats.entries`.
        skeleton: of all entries.

    Raises:
        InputError: an entry is of another skeleton, or the file cannot be written.
    """
    stem = unique_stems()
    with open_zip(target) as add:
        for entry in entries:
            frame = "" if is_still(entry) else f"_{entry['index']:012d}"
            add(f"{stem(entry)}{frame}_keypoints.json", json.dumps(to_openpose(Poses.from_dict(entry, skeleton))))
