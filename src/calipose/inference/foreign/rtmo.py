"""RTMO as MMDeploy exports it and rtmlib runs it (`tools/pose_estimation/rtmo.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calipose.inference.foreign.base import Detections, Form, Graph, box_nms, corner_box, image_port, planes
from calipose.io.images import Image

NMS_OVERLAP = 0.45
MIN_SCORE = 0.01  # rtmlib cuts at 0.7, for display


def _keypoints(graph: Graph) -> int:
    """K of outputs boxes (1, n, 5) and keypoints (1, n, k, 3); 0 for other forms."""
    outputs = sorted((port.shape for port in graph.output_ports), key=len)
    if len(graph.input_ports) != 1 or image_port(graph) is None or [len(shape) for shape in outputs] != [3, 4]:
        return 0
    boxes, points = outputs
    return int(points[2] or 0) if boxes[2] == 5 and points[3] == 3 else 0


def _feed(graph: Graph, pixels: Image) -> dict[str, NDArray[Any]]:
    values = planes(graph, pixels[..., ::-1]) * 255  # BGR, 0 to 255
    return {graph.input_ports[0].name: values.round().astype(values.dtype)}


def decode_rtmo(outputs: Mapping[str, NDArray[Any]], size: tuple[int, int]) -> Detections:
    """Boxes with scores (1, n, 5) and keypoints (1, n, k, 3), in pixels of the input."""
    boxes, points = sorted(outputs.values(), key=np.ndim)
    boxes, points = boxes[0].astype(np.float64), points[0].astype(np.float64)
    kept = box_nms(boxes[:, :4], boxes[:, 4], NMS_OVERLAP, MIN_SCORE)
    return Detections(points[kept, :, :2], boxes[kept, 4], points[kept, :, 2])


RTMO = Form(
    name="rtmo",
    description="RTMO (MMPose), as MMDeploy exports it and rtmlib runs it",
    prepared="aspect kept, in the corner of 640 x 640 (tiny: 416 x 416) on grey 114, BGR 0 to 255",
    published="all 5,000 images of COCO val2017, single scale, no flip; models trained on COCO only score lower",
    keypoints=_keypoints,
    prepare=corner_box,
    feed=_feed,
    decode=decode_rtmo,
)
