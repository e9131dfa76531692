"""What a form of exported model is: how it is recognised, fed and decoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from calipose.geometry import Floats, apply_affine
from calipose.io.images import Image

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PAD = 114  # grey beside a letterboxed image, as YOLO and RTMO pad
LETTERBOX_SIDE = 640  # where the graph leaves the size free
FEWEST_ANCHORS = 500  # of a detector's dense output: more than there are channels


@dataclass(frozen=True)
class Port:
    """An input or output of a graph.

    Attributes:
        name: of it.
        shape: its sides; None where the graph leaves one free.
        dtype: numpy's name of its type, such as "float32".
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    def __str__(self) -> str:
        sides = ", ".join("?" if side is None else str(side) for side in self.shape)
        return f"{self.name} {self.dtype} ({sides})"


class Graph(Protocol):
    """An open file of a model, whatever runs it."""

    @property
    def path(self) -> Path:
        """The file."""
        ...

    @property
    def input_ports(self) -> Sequence[Port]:
        """What it takes."""
        ...

    @property
    def output_ports(self) -> Sequence[Port]:
        """What it gives."""
        ...

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the file says of itself."""
        ...

    def run(self, outputs: list[str], feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs of these names."""
        ...


@dataclass(frozen=True, eq=False)
class Detections:
    """What a model finds in one image, in pixels of the network's input as that project counts them.

    Attributes:
        keypoints: (n, k, 2).
        scores: (n,), the model's own.
        keypoint_scores: (n, k), the model's own; None where it gives none.
    """

    keypoints: Floats
    scores: Floats
    keypoint_scores: Floats | None = None

    def chosen(self, index: NDArray[np.int64]) -> Detections:
        """Some of them, in that order."""
        scores = self.keypoint_scores
        return Detections(self.keypoints[index], self.scores[index], None if scores is None else scores[index])


@dataclass(frozen=True)
class Form:
    """One form of exported model; a row of `FORMS`.

    Attributes:
        name: that `--as` takes.
        description: which models have it, in a few words.
        prepared: what is done to an image, for people.
        published: what the project's own accuracy figures hold for, for people who compare.
        keypoints: their number in a graph; 0 where the graph has another form.
        prepare: image and size (width, height) of the input -> pixels of the input (h, w, 3) uint8 RGB, and the affine
            (2, 3) from the image to the coordinates that the model counts in.
        feed: graph and pixels -> what the graph takes.
        decode: the outputs by name and the input's size -> what is found.
        side: of the input where the graph leaves it free.
        channels_last: the input is (1, h, w, 3).
    """

    name: str
    description: str
    prepared: str
    published: str
    keypoints: Callable[[Graph], int]
    prepare: Callable[[Image, tuple[int, int]], tuple[Image, Floats]]
    feed: Callable[[Graph, Image], dict[str, NDArray[Any]]]
    decode: Callable[[Mapping[str, NDArray[Any]], tuple[int, int]], Detections]
    side: int = LETTERBOX_SIDE
    channels_last: bool = False

    def fits(self, graph: Graph) -> bool:
        """Whether a graph has this form."""
        return self.keypoints(graph) > 0


# Recognising


def image_port(graph: Graph) -> Port | None:
    """The input that takes three channels first; None where there is none, or several."""
    found = [
        port for port in graph.input_ports if len(port.shape) == 4 and port.shape[1] == 3 and "float" in port.dtype
    ]
    return found[0] if len(found) == 1 else None


def shapes(ports: Sequence[Port]) -> dict[str, tuple[int | None, ...]]:
    """Sides of each port, by its name."""
    return {port.name: port.shape for port in ports}


# Preparing


def letterbox(image: Image, size: tuple[int, int]) -> tuple[Image, Floats]:
    """As Ultralytics: the aspect is kept, the image lies in the middle, grey around it."""
    height, width = image.shape[:2]
    scale = min(size[1] / height, size[0] / width)
    inner = round(width * scale), round(height * scale)
    left, top = (round((side - part) / 2 - 0.1) for side, part in zip(size, inner, strict=True))
    canvas = np.full((size[1], size[0], 3), PAD, np.uint8)
    canvas[top : top + inner[1], left : left + inner[0]] = _resized(image, inner, cv2.INTER_LINEAR)
    return canvas, np.array([[scale, 0, left], [0, scale, top]])


def corner_box(image: Image, size: tuple[int, int]) -> tuple[Image, Floats]:
    """As RTMO: the aspect is kept, the image lies in the upper left corner, grey beside it."""
    height, width = image.shape[:2]
    scale = min(size[1] / height, size[0] / width)
    inner = int(width * scale), int(height * scale)
    canvas = np.full((size[1], size[0], 3), PAD, np.uint8)
    canvas[: inner[1], : inner[0]] = _resized(image, inner, cv2.INTER_LINEAR)
    return canvas, np.array([[scale, 0, 0], [0, scale, 0]], np.float64)


def squash(image: Image, size: tuple[int, int]) -> tuple[Image, Floats]:
    """The whole image stretched to the input, averaging where it shrinks."""
    return _squashed(image, size, cv2.INTER_AREA if size[0] < image.shape[1] else cv2.INTER_LINEAR)


def squash_without_averaging(image: Image, size: tuple[int, int]) -> tuple[Image, Floats]:
    """The whole image stretched to the input, bilinearly whatever the scale."""
    return _squashed(image, size, cv2.INTER_LINEAR)


def _squashed(image: Image, size: tuple[int, int], interpolation: int) -> tuple[Image, Floats]:
    height, width = image.shape[:2]
    affine = np.array([[size[0] / width, 0, 0], [0, size[1] / height, 0]])
    return _resized(image, size, interpolation), affine


def _resized(image: Image, size: tuple[int, int], interpolation: int) -> Image:
    resized = cv2.resize(image, (max(1, size[0]), max(1, size[1])), interpolation=interpolation)
    return np.asarray(resized, np.uint8)[: size[1], : size[0]]


# Feeding


def planes(graph: Graph, pixels: Image, mean: Sequence[float] = (), std: Sequence[float] = ()) -> NDArray[Any]:
    """`(1, 3, h, w)` of pixels: 0 to 1, or less the mean over the deviation, in the type that the graph takes."""
    values = pixels.astype(np.float32) / 255
    if mean:
        values = (values - np.array(mean, np.float32)) / np.array(std, np.float32)
    port = image_port(graph)
    dtype = port.dtype if port is not None else "float32"
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None], dtype)


# Decoding


def sigmoid(logits: Floats) -> Floats:
    """1 / (1 + exp(-x)), without overflow."""
    value: Floats = 0.5 * (1 + np.tanh(0.5 * np.asarray(logits, np.float64)))
    return value


def box_nms(corners: Floats, scores: Floats, overlap: float, min_score: float) -> NDArray[np.int64]:
    """Indices of the boxes that are kept, best first.

    Args:
        corners: (n, 4) left, top, right, bottom.
        scores: (n,).
        overlap: IoU above which the box of lower score is dropped.
        min_score: boxes below are dropped.
    """
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    usable = np.flatnonzero((scores >= min_score) & np.isfinite(boxes).all(1))
    if not len(usable):
        return usable
    kept = cv2.dnn.NMSBoxes(boxes[usable].tolist(), scores[usable].tolist(), min_score, overlap)
    return np.asarray(usable[np.asarray(kept, np.int64).ravel()], np.int64)


def stretched(points: Floats, size: tuple[int, int]) -> Floats:
    """Points (..., 2) in shares of the input as pixels of it."""
    return apply_affine([[size[0], 0, 0], [0, size[1], 0]], points)
