"""MoveNet MultiPose (Google), as TensorFlow Lite or ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from calipose.geometry import Floats, resize_affine
from calipose.inference.foreign.base import Detections, Form, Graph
from calipose.io.images import INPUT_MULTIPLE, Image

BOX_AND_SCORE = 5
KEYPOINTS = 17
PEOPLE = 6  # found at most
MIN_SCORE = 0.01  # rows below are nobody: MoveNet always gives six


def _keypoints(graph: Graph) -> int:
    """17 of (1, 6, 56); 0 for other forms."""
    inputs, outputs = graph.input_ports, graph.output_ports
    if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[3] != 3:
        return 0
    return KEYPOINTS if outputs[0].shape[1:] == (PEOPLE, 3 * KEYPOINTS + BOX_AND_SCORE) else 0


def _prepare(image: Image, size: tuple[int, int]) -> tuple[Image, Floats]:
    """Aspect kept, the long side as asked, black to the right and below up to multiples of 32."""
    height, width = image.shape[:2]
    scale = max(size) / max(height, width)
    inner = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(image, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    wide, high = (-(-side // INPUT_MULTIPLE) * INPUT_MULTIPLE for side in inner)
    canvas = np.zeros((high, wide, 3), np.uint8)
    canvas[: inner[1], : inner[0]] = small
    return canvas, resize_affine(scale)


def _feed(graph: Graph, pixels: Image) -> dict[str, NDArray[Any]]:
    return {graph.input_ports[0].name: pixels[None].astype(graph.input_ports[0].dtype)}


def decode_movenet(outputs: Mapping[str, NDArray[Any]], size: tuple[int, int]) -> Detections:
    """(1, 6, 56): 17 x (y, x, confidence) in shares of the input from its corner, box, score."""
    (output,) = outputs.values()
    rows = output[0].astype(np.float64)
    rows = rows[rows[:, -1] >= MIN_SCORE]
    triples = rows[:, : 3 * KEYPOINTS].reshape(-1, KEYPOINTS, 3)
    return Detections(triples[..., [1, 0]] * np.array(size) - 0.5, rows[:, -1], triples[..., 2])


MOVENET = Form(
    name="movenet-multipose",
    description="MoveNet MultiPose (.tflite, or converted to ONNX)",
    prepared="aspect kept, long side 512, black up to multiples of 32, RGB 0 to 255",
    published="none on COCO val2017 that can be compared; measured on 154 of its images (docs/other-models.md)",
    keypoints=_keypoints,
    prepare=_prepare,
    feed=_feed,
    decode=decode_movenet,
    side=512,
    channels_last=True,
)
