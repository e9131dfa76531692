"""Poses for roboflow's supervision."""

from __future__ import annotations

from typing import Any

import numpy as np

from calipose.errors import InputError, install_hint
from calipose.poses import Poses


def to_supervision(poses: Poses, class_id: int = 0) -> Any:
    """`supervision.KeyPoints` (0.30 or newer): the scores of poses and of keypoints in their own fields.

    Track ids and filled marks go to its `data`. supervision rounds to float32, and some of its functions take a
    keypoint at exactly (0, 0) for missing.

    Example:
        points = to_supervision(predictor.predict("photo.jpg"))
        boxes = points.as_detections()

    Args:
        poses: of one image.
        class_id: of every pose.

    Raises:
        InputError: supervision is not installed, or older.
    """
    try:
        from supervision import KeyPoints
    except ImportError:
        raise InputError(f"to_supervision needs supervision: {install_hint('supervision')}") from None
    keypoint_confidence = None if poses.keypoint_scores is None else poses.keypoint_scores.astype(np.float32)
    extra = {"track_id": poses.track_ids, "filled": poses.filled}
    try:
        return KeyPoints(
            xy=poses.keypoints_img.astype(np.float32),
            class_id=np.full(len(poses), class_id),
            keypoint_confidence=keypoint_confidence,
            detection_confidence=poses.scores.astype(np.float32),
            data={key: values for key, values in extra.items() if values is not None},
        )
    except TypeError:
        raise InputError("to_supervision needs supervision 0.30 or newer: pip install -U supervision") from None
