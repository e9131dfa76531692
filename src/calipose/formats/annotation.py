"""What the formats of annotation tools (Label Studio, CVAT) share.

Pixels stay the numbers of `keypoints_img`: both tools import and export COCO's keypoints unshifted, so a pose that is
corrected there comes back in the same frame.
"""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from calipose.poses import Poses


def inside_image(poses: Poses) -> NDArray[np.bool_]:
    """`(p, k)`: the keypoint lies where annotation tools can show it, 0 to the image's width and height."""
    inside = (poses.keypoints_img >= 0) & (poses.keypoints_img <= np.array(poses.image_size))
    return np.asarray(inside.all(-1))


def scored_at_least(poses: Poses, min_keypoint_score: float) -> NDArray[np.bool_]:
    """`(p, k)`: the keypoint's score is at least that; always where the poses carry no scores of keypoints."""
    if poses.keypoint_scores is None:
        return np.ones(poses.keypoints_img.shape[:2], bool)
    return np.asarray(poses.keypoint_scores >= min_keypoint_score)


def xml_text(element: ElementTree.Element, level: int) -> str:
    """The element's text, indented for its level in the document."""
    ElementTree.indent(element, level=level)
    return "  " * level + ElementTree.tostring(element, encoding="unicode") + "\n"
