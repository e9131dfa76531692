"""YOLO pose models as Ultralytics exports them (`engine/exporter.py`, `nn/modules/head.py`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calipose.geometry import Floats
from calipose.inference.foreign.base import (
    FEWEST_ANCHORS,
    Detections,
    Form,
    Graph,
    box_nms,
    image_port,
    letterbox,
    planes,
)
from calipose.io.images import Image

NMS_OVERLAP = 0.7  # Ultralytics' `iou`
MIN_SCORE = 0.001  # Ultralytics' `conf` in validation
BOX, BOX_SCORE_CLASS = 4, 6  # numbers before the keypoints: of the dense form with one class 4 + 1
PREPARED = "aspect kept, in the middle of 640 x 640 on grey 114, RGB 0 to 1"
PUBLISHED = (
    "Ultralytics validates on the 2,346 images of COCO val2017 that hold keypoints, not on all 5,000, at confidence "
    "0.001 and IoU 0.7, without flip"
)


def _only_output(graph: Graph) -> tuple[int | None, ...]:
    one = len(graph.output_ports) == 1 and len(graph.input_ports) == 1 and image_port(graph) is not None
    shape = graph.output_ports[0].shape if one else ()
    return shape[1:] if len(shape) == 3 else ()


def _if_said(graph: Graph, k: int) -> int:
    """K, or 0 where Ultralytics' metadata say another number of keypoints, or points of other than three numbers."""
    if "kpt_shape" not in graph.metadata:
        return k
    match = re.fullmatch(r"\s*[\[(]\s*(\d{1,4})\s*,\s*3\s*[\])]\s*", graph.metadata["kpt_shape"])
    return k if match and int(match.group(1)) == k else 0


def _dense_keypoints(graph: Graph) -> int:
    """K of (1, 5 + 3 k, anchors); 0 for other forms."""
    channels, anchors = (*_only_output(graph), None, None)[:2]
    if channels is None or channels < 8 or (channels - 5) % 3 or (anchors is not None and anchors < FEWEST_ANCHORS):
        return 0
    return _if_said(graph, (channels - 5) // 3)


def _listed_keypoints(graph: Graph) -> int:
    """K of (1, n, 6 + 3 k); 0 for other forms."""
    rows, numbers = (*_only_output(graph), None, None)[:2]
    if numbers is None or not 9 <= numbers < FEWEST_ANCHORS or (numbers - 6) % 3:  # more are anchors of the dense form
        return 0
    if rows is not None and rows >= FEWEST_ANCHORS:
        return 0
    return _if_said(graph, (numbers - 6) // 3)


def _feed(graph: Graph, pixels: Image) -> dict[str, NDArray[Any]]:
    return {graph.input_ports[0].name: planes(graph, pixels)}


def _points(values: Floats) -> tuple[Floats, Floats]:
    triples = values.reshape(len(values), -1, 3)
    return triples[..., :2], triples[..., 2]


def decode_dense(outputs: Mapping[str, NDArray[Any]], size: tuple[int, int]) -> Detections:
    """(1, 5 + 3 k, anchors): centre, width and height, score, keypoints, in pixels; NMS of the boxes follows."""
    (output,) = outputs.values()
    rows = output[0].T.astype(np.float64)
    half = rows[:, 2:BOX] / 2
    corners = np.concatenate([rows[:, :2] - half, rows[:, :2] + half], axis=1)
    kept = box_nms(corners, rows[:, BOX], NMS_OVERLAP, MIN_SCORE)
    points, confidence = _points(rows[kept, BOX + 1 :])
    return Detections(points, rows[kept, BOX], confidence)


def decode_listed(outputs: Mapping[str, NDArray[Any]], size: tuple[int, int]) -> Detections:
    """(1, n, 6 + 3 k): corners, score, class, keypoints, in pixels; nothing follows."""
    (output,) = outputs.values()
    rows = output[0].astype(np.float64)
    rows = rows[rows[:, BOX] >= MIN_SCORE]
    points, confidence = _points(rows[:, BOX_SCORE_CLASS:])
    return Detections(points, rows[:, BOX], confidence)


_ULTRALYTICS: dict[str, Any] = {"prepared": PREPARED, "published": PUBLISHED, "prepare": letterbox, "feed": _feed}
YOLO_POSE = Form(
    name="yolo-pose",
    description="YOLOv8-pose and YOLO11-pose of Ultralytics, exported without NMS",
    keypoints=_dense_keypoints,
    decode=decode_dense,
    **_ULTRALYTICS,
)
YOLO26_POSE = Form(
    name="yolo26-pose",
    description="YOLO26-pose of Ultralytics, and its older pose models exported with NMS",
    keypoints=_listed_keypoints,
    decode=decode_listed,
    **_ULTRALYTICS,
)
