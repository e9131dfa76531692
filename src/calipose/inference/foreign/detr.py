"""DETRPose, ECPose and GTR (`tools/deployment/export_onnx.py`); RF-DETR keypoint (`models/postprocess.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calipose.geometry import Floats
from calipose.inference.foreign.base import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Detections,
    Form,
    Graph,
    image_port,
    planes,
    shapes,
    sigmoid,
    squash,
    squash_without_averaging,
    stretched,
)
from calipose.io.images import Image

TRACE_POWER = 0.2  # RF-DETR's `postprocess_trace_alpha`
RFDETR_NUMBERS = 7  # of a keypoint: x, y, findable, visible, and three of the precision; a class may follow
ALL_IMAGES = "all 5,000 images of COCO val2017, 640 x 640, no flip"


# Outputs that are decoded in the graph


def _decoded_keypoints(graph: Graph) -> int:
    """K of outputs scores (n, q) and keypoints (n, q, k, 2) with the input orig_target_sizes; 0 for other forms."""
    outputs = shapes(graph.output_ports)
    shape = outputs.get("keypoints", ())
    fits = (
        "orig_target_sizes" in shapes(graph.input_ports)
        and image_port(graph) is not None
        and len(outputs.get("scores", ())) == 2
        and len(shape) == 4
        and shape[3] == 2
    )
    return int(shape[2] or 0) if fits else 0


def _feed_decoded(graph: Graph, pixels: Image, mean: tuple[float, ...] = (), std: tuple[float, ...] = ()) -> Any:
    port = image_port(graph)
    assert port is not None
    sizes = next(port for port in graph.input_ports if port.name == "orig_target_sizes")
    height, width = pixels.shape[:2]
    # The graph's answer is in pixels of whatever size is named here: the input's.
    return {port.name: planes(graph, pixels, mean, std), sizes.name: np.array([[width, height]], sizes.dtype)}


def decode_decoded(outputs: Mapping[str, NDArray[Any]], size: tuple[int, int]) -> Detections:
    """Scores (1, q) and keypoints (1, q, k, 2) in pixels; keypoints have no scores."""
    return Detections(outputs["keypoints"][0].astype(np.float64), outputs["scores"][0].astype(np.float64))


# Raw outputs


def _raw_keypoints(graph: Graph) -> int:
    """K of outputs pred_logits (n, q, c) and pred_keypoints (n, q, 2 k); 0 for other forms."""
    outputs = shapes(graph.output_ports)
    shape = outputs.get("pred_keypoints", ())
    fits = len(outputs.get("pred_logits", ())) == 3 and len(shape) == 3 and image_port(graph) is not None
    return int(shape[2] or 0) // 2 if fits else 0


def _feed_imagenet(graph: Graph, pixels: Image) -> dict[str, NDArray[Any]]:
    port = image_port(graph)
    assert port is not None
    return {port.name: planes(graph, pixels, IMAGENET_MEAN, IMAGENET_STD)}


def decode_raw(outputs: Mapping[str, NDArray[Any]], size: tuple[int, int]) -> Detections:
    """Logits of classes (1, q, c), of which the best counts, and keypoints (1, q, 2 k) in shares of the input."""
    logits = outputs["pred_logits"][0].astype(np.float64)
    points = outputs["pred_keypoints"][0].astype(np.float64)
    return Detections(stretched(points.reshape(len(points), -1, 2), size), sigmoid(logits).max(1))


# RF-DETR


def _rfdetr_keypoints(graph: Graph) -> int:
    """K of outputs dets (n, q, 4), labels (n, q, c) and keypoints (n, q, k, 7 or 8); 0 for other forms."""
    outputs = shapes(graph.output_ports)
    shape = outputs.get("keypoints", ())
    fits = (
        len(outputs.get("dets", ())) == 3
        and len(outputs.get("labels", ())) == 3
        and len(shape) == 4
        and shape[3] is not None
        and shape[3] >= RFDETR_NUMBERS
        and image_port(graph) is not None
    )
    return int(shape[2] or 0) if fits else 0


def decode_rfdetr(outputs: Mapping[str, NDArray[Any]], size: tuple[int, int]) -> Detections:
    """The score is x / (1 + x), x = p t^-0.2: p of the person's logit, t the mean trace of the keypoints' covariances.

    The covariance is the inverse of L L^T, with log l11, l21, log l22 in columns 4 to 6. Each keypoint counts in t as
    much as it is likely to be findable (column 2), which is also its own score.
    """
    logits = outputs["labels"][0].astype(np.float64)[:, 0]  # people come first, the background last
    numbers = outputs["keypoints"][0].astype(np.float64)
    findable = sigmoid(numbers[..., 2])
    l11, l21, l22 = (numbers[..., column].clip(-300, 300) for column in (4, 5, 6))
    traces = np.exp(-2 * l11) + np.exp(-2 * l22) + l21**2 * np.exp(-2 * l11 - 2 * l22)
    weight = findable.clip(1e-12)
    mean_trace: Floats = (weight * traces).sum(1) / weight.sum(1)
    fused = sigmoid(logits) * mean_trace.clip(1e-300) ** -TRACE_POWER
    return Detections(stretched(numbers[..., :2], size), fused / (1 + fused), findable)


_DECODED: dict[str, Any] = {
    "published": ALL_IMAGES,
    "keypoints": _decoded_keypoints,
    "prepare": squash,
    "decode": decode_decoded,
}
DETRPOSE = Form(
    name="detrpose",
    description="DETRPose, exported with its decoding",
    prepared="stretched to 640 x 640, RGB 0 to 1",
    feed=_feed_decoded,
    **_DECODED,
)
ECPOSE = Form(
    name="ecpose",
    description="ECPose (EdgeCrafter) and GTR, exported with their decoding",
    prepared="stretched to 640 x 640, RGB less ImageNet's mean over its deviation",
    feed=partial(_feed_decoded, mean=IMAGENET_MEAN, std=IMAGENET_STD),
    **_DECODED,
)
ECPOSE_RAW = Form(
    name="ecpose-raw",
    description="ECPose and GTR as LibreYOLO exports them, without decoding",
    prepared="stretched to 640 x 640, RGB less ImageNet's mean over its deviation",
    published=ALL_IMAGES,
    keypoints=_raw_keypoints,
    prepare=squash,
    feed=_feed_imagenet,
    decode=decode_raw,
)
RFDETR = Form(
    name="rfdetr-keypoint",
    description="RF-DETR keypoint (preview)",
    prepared="stretched to 576 x 576 without averaging, RGB less ImageNet's mean over its deviation",
    published="all 5,000 images of COCO val2017, 576 x 576, no flip",
    keypoints=_rfdetr_keypoints,
    prepare=squash_without_averaging,
    feed=_feed_imagenet,
    decode=decode_rfdetr,
    side=576,
)
