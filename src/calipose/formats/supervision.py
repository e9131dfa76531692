"""Poses for roboflow's supervision."""

from __future__ import annotations

from typing import Any

import numpy as np

from calipose.errors import InputError, install_hint
from calipose.poses import Poses


def to_supervision(poses: Poses, class_id: int = 0) -> Any:
    """Poses for supervision: the scores of poses and of keypoints are in their own fields.

    Track ids and filled marks go to its `data`. Poses of `Poses.with_regions` also have a "covariance" there, (p, k, 2,
    2) square pixels, which its ellipse annotators draw: of a Gaussian error that lies within `radii_img` with the
    probability `coverage`. So the ellipse of sigma `(-2 * math.log(1 - coverage)) ** 0.5`, 2.146 for 0.9, is it.

    supervision rounds to float32, and some of its functions take a keypoint at exactly (0, 0) for missing.

    Args:
        poses: of one image.
        class_id: of every pose.

    Returns:
        A `supervision.KeyPoints` (0.30 or newer).

    Raises:
        InputError: supervision is not installed, or older.

    Example:
        points = to_supervision(predictor.predict("photo.jpg"))
        boxes = points.as_detections()
    """
    try:
        from supervision import KeyPoints
    except ImportError:
        raise InputError(f"to_supervision needs supervision: {install_hint('supervision')}") from None
    keypoint_confidence = None if poses.keypoint_scores is None else poses.keypoint_scores.astype(np.float32)
    extra: dict[str, Any] = {"track_id": poses.track_ids, "filled": poses.filled}
    if poses.radii_img is not None and poses.coverage is not None:
        variance = poses.radii_img**2 / (-2 * np.log(1 - poses.coverage))
        extra["covariance"] = (variance[..., None, None] * np.eye(2)).astype(np.float32)
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
