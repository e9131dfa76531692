"""Tiny ONNX graphs of the forms that other projects export, with known answers.

Each gives constants; the score of the first detection is the mean of the input's first channel, so that the order of
channels and the normalisation show.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 64  # of the input
K = 17
COLOUR = (200, 100, 50)  # RGB of the image
IMAGENET_RED = (200 / 255 - 0.485) / 0.229

# Two people: keypoints in pixels of the input, well inside of it.
PLACES = np.random.default_rng(5).uniform(8, 56, (2, K, 2)).astype(np.float32)
CONFIDENCE = np.random.default_rng(6).uniform(0.1, 0.9, (2, K)).astype(np.float32)
WEAK = 0.25  # score of the second


def write_graph(
    path: Path,
    outputs: Mapping[str, np.ndarray],
    masks: Mapping[str, np.ndarray],
    gain: float = 1.0,
    inputs: Sequence[tuple[str, int, Sequence[int | str]]] = (("images", TensorProto.FLOAT, (1, 3, SIDE, SIDE)),),
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """A graph of constant outputs; where a mask is 1, `gain` x the mean of the input's first channel is added."""
    name, _, shape = inputs[0]
    last = shape[-1] == 3
    initializers = [
        numpy_helper.from_array(np.array([0]), "zero"),
        numpy_helper.from_array(np.array([1]), "one"),
        numpy_helper.from_array(np.array([3 if last else 1]), "channels"),
        numpy_helper.from_array(np.array([gain], np.float32), "gain"),
    ]
    nodes = [
        helper.make_node("Cast", [name], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Slice", ["floats", "zero", "one", "channels"], ["first"]),
        helper.make_node("ReduceMean", ["first"], ["mean"], axes=[0, 1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "gain"], ["shown"]),
    ]
    declared = []
    for output, values in outputs.items():
        mask = masks.get(output, np.zeros_like(values))
        initializers += [
            numpy_helper.from_array(values.astype(np.float32), f"{output}_values"),
            numpy_helper.from_array(mask.astype(np.float32), f"{output}_mask"),
        ]
        nodes.append(helper.make_node("Mul", [f"{output}_mask", "shown"], [f"{output}_shown"]))
        nodes.append(helper.make_node("Add", [f"{output}_values", f"{output}_shown"], [output]))
        declared.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, values.shape))
    ports = [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs]
    graph = helper.make_graph(nodes, "tiny", ports, declared, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    if metadata:
        helper.set_model_props(model, dict(metadata))
    onnx.save(model, str(path))
    return path


def _triples() -> np.ndarray:
    return np.concatenate([PLACES, CONFIDENCE[..., None]], -1).reshape(2, -1)


def _corners() -> np.ndarray:
    return np.concatenate([PLACES.min(1) - 2, PLACES.max(1) + 2], 1)


def _mask(shape: tuple[int, ...], *index: int) -> np.ndarray:
    mask = np.zeros(shape)
    mask[index] = 1
    return mask


def yolo_pose(path: Path, **more: object) -> Path:
    """(1, 56, 525): the first person twice, a little apart; the box NMS must drop the second of them."""
    corners = np.array([[2, 2, 40, 60], [3, 2, 40, 60], [30, 20, 62, 62]], np.float32)
    boxes = np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], 1)
    output = np.zeros((1, 56, 525), np.float32)
    output[0, :4, :3] = boxes.T
    output[0, 4, :3] = (0, 0.1, WEAK)
    output[0, 5:, :3] = _triples()[[0, 0, 1]].T
    return write_graph(path, {"output0": output}, {"output0": _mask(output.shape, 0, 4, 0)}, **more)  # type: ignore[arg-type]


def yolo26_pose(path: Path) -> Path:
    """(1, 300, 57)."""
    output = np.zeros((1, 300, 57), np.float32)
    output[0, :2] = np.concatenate([_corners(), [[0, 0], [WEAK, 0]], _triples()], 1)
    return write_graph(path, {"output0": output}, {"output0": _mask(output.shape, 0, 0, 4)})


def rtmo(path: Path) -> Path:
    """(1, 3, 5) and (1, 3, 17, 3): the first person twice. BGR 0 to 255, so the first channel is blue."""
    boxes = np.array([[[2, 2, 40, 60, 0], [3, 2, 40, 60, 0.1], [30, 20, 62, 62, WEAK]]], np.float32)
    points = _triples()[[0, 0, 1]].reshape(1, 3, K, 3)
    inputs = (("input", TensorProto.FLOAT, ("batch", 3, SIDE, SIDE)),)
    masks = {"dets": _mask(boxes.shape, 0, 0, 4)}
    return write_graph(path, {"dets": boxes, "keypoints": points}, masks, 1 / 255, inputs)


def detr_decoded(path: Path) -> Path:
    """DETRPose's and ECPose's form: scores, labels, keypoints, with the size as input."""
    scores, labels = np.array([[0, WEAK]], np.float32), np.array([[1, 1]], np.float32)
    inputs = (
        ("images", TensorProto.FLOAT, ("n", 3, SIDE, SIDE)),
        ("orig_target_sizes", TensorProto.INT64, ("n", 2)),
    )
    outputs = {"scores": scores, "labels": labels, "keypoints": PLACES[None]}
    return write_graph(path, outputs, {"scores": _mask(scores.shape, 0, 0)}, 1.0, inputs)


def detr_raw(path: Path) -> Path:
    """LibreYOLO's form: logits and keypoints in shares of the input."""
    logits = np.array([[[-9, 0], [-9, np.log(WEAK / (1 - WEAK))]]], np.float32)
    outputs = {"pred_logits": logits, "pred_keypoints": PLACES.reshape(1, 2, -1) / SIDE}
    return write_graph(path, outputs, {"pred_logits": _mask(logits.shape, 0, 0, 1)})


def rfdetr(path: Path) -> Path:
    """dets, labels, keypoints (1, 2, 17, 8): all covariances of the first are I / 4, of the second I."""
    logits = np.array([[[0, -9], [0, -9]]], np.float32)
    points = np.zeros((1, 2, K, 8), np.float32)
    points[0, ..., :2] = PLACES / SIDE
    points[0, ..., 2] = np.log(CONFIDENCE / (1 - CONFIDENCE))
    points[0, 0, :, 4] = points[0, 0, :, 6] = np.log(2)
    outputs = {"dets": np.full((1, 2, 4), 0.5, np.float32), "labels": logits, "keypoints": points}
    return write_graph(path, outputs, {"labels": _mask(logits.shape, 0, 0, 0)})


def movenet(path: Path) -> Path:
    """(1, 6, 56) of an image (1, h, w, 3) of any size."""
    output = np.zeros((1, 6, 56), np.float32)
    triples = np.concatenate([PLACES[..., ::-1] / SIDE, CONFIDENCE[..., None]], -1)
    output[0, :2, :51] = triples.reshape(2, -1)
    output[0, :2, 55] = (0, WEAK)
    inputs = (("input", TensorProto.INT32, (1, "h", "w", 3)),)
    return write_graph(path, {"out": output}, {"out": _mask(output.shape, 0, 0, 55)}, 1 / 255, inputs)
