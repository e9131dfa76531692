"""The rows of a bulk prediction: one an image, as Arrow and Parquet hold them, and as entries of `calipose.formats`."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from calipose.errors import InputError
from calipose.formats.entries import Entry
from calipose.poses import Poses
from calipose.skeleton import Skeleton

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 1  # of the schema: it grows by one when a column is renamed, removed, or means something else
POSE_SCORES = ("score", "raw_score", "p_oks50", "p_oks75")


def result_schema() -> pa.Schema:
    """The columns, in their order; docs/scale.md says what each means. Coordinates are pixels of the upright image."""
    import pyarrow as pa

    keypoint = pa.struct([("x", pa.float32()), ("y", pa.float32()), ("score", pa.float32())])
    scores = [(name, pa.float32()) for name in POSE_SCORES]
    pose = pa.struct([*scores, ("keypoints", pa.list_(keypoint))])
    return pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            pa.field("width", pa.int32()),
            pa.field("height", pa.int32()),
            pa.field("poses", pa.list_(pose)),
            pa.field("error", pa.string()),
            pa.field("skeleton", pa.string(), nullable=False),
            pa.field("model", pa.string(), nullable=False),
            pa.field("calibration", pa.string()),
        ],
        metadata={"calipose.schema": str(VERSION)},
    )


def row_of_poses(poses: Poses) -> dict[str, Any]:
    """The columns of an image that was predicted."""
    entry = poses.to_dict()
    found = []
    for pose in entry["poses"]:
        keypoints = list(pose["keypoints"].values())  # in the skeleton's order
        found.append({**{name: pose.get(name) for name in POSE_SCORES}, "keypoints": keypoints})
    return {"width": poses.image_size[0], "height": poses.image_size[1], "poses": found, "error": None}


def entry_of_row(row: dict[str, Any], skeleton: Skeleton) -> Entry:
    """What the writers of `calipose.formats` take, of a row without an error.

    Raises:
        InputError: the row is of another skeleton.
    """
    if row["skeleton"] != skeleton.name:
        raise InputError(f"the row of {row['key']} is of skeleton '{row['skeleton']}', not '{skeleton.name}'")
    poses = []
    for pose in row["poses"]:
        named = dict(zip(skeleton.keypoints, map(_without_none, pose["keypoints"]), strict=True))
        poses.append({**_without_none({name: pose[name] for name in POSE_SCORES}), "keypoints": named})
    return {
        "file": row["key"],
        "image_size": [row["width"], row["height"]],
        "skeleton": skeleton.name,
        "poses": poses,
    }


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def digest(content: object) -> str:
    """Twelve hexadecimal digits that name what JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
