"""Tampered files of every kind that Calipose reads, and what reading them gives: the mutations behind a fuzz run.

`Kind.read` reads a file as far as a user would, down to predicting. Any outcome other than success or a
`CaliposeError` is a fault, and so is one that takes more than `PATIENCE` seconds of the processor.
"""

from __future__ import annotations

import copy
import json
import random
import re
import struct
import time
import tomllib
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper

from calipose.calibration.maps import Calibration, CalibrationMap
from calipose.calibration.second_look import SecondLook
from calipose.config.method import Method
from calipose.config.recipe import Recipe, load_recipe
from calipose.config.settings import BackboneSettings, PredictSettings
from calipose.config.stored import StoredModel, write_stored
from calipose.data.coco import read_coco
from calipose.data.labels.convert import convert_labels
from calipose.data.locate import find_data
from calipose.errors import CaliposeError
from calipose.evaluation.ground_truth import read_ground_truth
from calipose.evaluation.results import read_results
from calipose.formats.table import FORMATS
from calipose.inference.backends.onnx import METADATA_KEY
from calipose.inference.output_folder import OutputFolder
from calipose.inference.predictor import Predictor
from calipose.io.images import read_image
from calipose.io.sources import find_sources
from calipose.poses import Poses
from calipose.skeleton import COCO_17, Skeleton
from foreign_graphs import yolo_pose
from labels_of_tools import write_cvat, write_label_studio, write_yolo

PATIENCE = 5.0  # seconds of the processor, all threads together, for one file: other programs do not count
SIDE = 64  # of the images
PAIR = Skeleton("pair", ("left", "right"), ((0, 1),), ((0, 1),), (0.1, 0.1))

DEEP = "[" * 100_000
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 17, 10**6, 2**31, 2**53 + 1, 2**63, 2**64, 10**30, 10**400, -(10**400), 0.5, -0.0,
    1e-320, 1e300, -1e300, float("nan"), float("inf"), -float("inf"), "", "a", "0.5", "1", "nose", "\ud800", "\udcff",
    "a\0b", "\n", "../../x", "/etc/passwd", "x" * 5000, "\U0001f600", [], [[]], [0], [[1, 2]], ["\ud800"], {},
    {"\ud800": 1}, {"a": {"b": []}}, [None] * 3,
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        make: writes a sound one into a folder, and gives its path.
        mutate: the bytes of a tampered one, from those of the sound one.
        read: reads it; raises what is wrong.
    """

    make: Callable[[Path], Path]
    mutate: Callable[[bytes, random.Random], bytes]
    read: Callable[[Path], object]


@dataclass(frozen=True)
class Trial:
    """What reading one tampered file gave.

    Attributes:
        kind: of the file.
        case: its number.
        refused: a `CaliposeError` was raised; else it was read, or is at fault.
        seconds: of the processor, all threads together.
        fault: what is wrong: the exception, or how long it took; empty if nothing.
        trace: the last lines of the exception's traceback.
    """

    kind: str
    case: int
    refused: bool
    seconds: float
    fault: str = ""
    trace: str = ""


def trials(kind: str, folder: Path, cases: int, seed: int = 0) -> Iterator[Trial]:
    """Tamper with a file again and again.

    Args:
        kind: key of `KINDS`.
        folder: an empty one.
        cases: how often.
        seed: case i of a seed is always the same.
    """
    what = KINDS[kind]
    path = what.make(folder)
    sound = path.read_bytes()
    what.read(path)  # a kind whose sound file is refused would find nothing
    for case in range(cases):
        path.write_bytes(what.mutate(sound, random.Random(f"{kind} {seed} {case}")))
        refused, fault, trace = False, "", ""
        start = time.process_time()
        try:
            what.read(path)
        except CaliposeError as error:
            refused = True
            try:
                str(error).encode("utf-8", "surrogateescape")  # as the command line prints it
            except UnicodeEncodeError as problem:
                fault = f"a message that cannot be printed: {problem}"
        except Exception as error:
            fault = f"{type(error).__name__}: {str(error)[:200]!a}"
            trace = "".join(traceback.format_exception(error)[-3:])
        seconds = time.process_time() - start
        if seconds > PATIENCE:
            fault = f"took {seconds:.1f} s{fault and f', then {fault}'}"
        yield Trial(kind, case, refused, seconds, fault, trace)
    path.write_bytes(sound)


# Mutations


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, left out, doubled or put in, or the file cut off."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at = rng.randrange(len(out) + 1)
        end = min(len(out), at + rng.choice((1, 2, 8, 100)))
        how = rng.randrange(6)
        if how == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            out[at:end] = rng.randbytes(end - at)
        elif how == 2:
            del out[at:end]
        elif how == 3:
            out[at:at] = out[at:end]
        elif how == 4:
            out[at:at] = rng.randbytes(rng.randrange(9))
        elif rng.random() < 0.2:
            del out[at:]
    return bytes(out)


def mutate_tree(content: Any, rng: random.Random) -> Any:
    """Plain data with one to three values replaced, removed, added or exchanged."""
    content = copy.deepcopy(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        spots = list(_spots(content))
        if not spots:
            return rng.choice(ODD_VALUES)
        parent, key = rng.choice(spots)
        how = rng.randrange(8)
        if how == 0:
            del parent[key]
        elif how == 1 and isinstance(parent, dict):
            parent[rng.choice(("extra", "\ud800", "", "id", "score"))] = rng.choice(ODD_VALUES)
        elif how == 1:
            parent.insert(key, copy.deepcopy(parent[key]))
        elif how == 2:
            other, other_key = rng.choice(spots)
            parent[key] = copy.deepcopy(other[other_key])
        elif how == 3:
            parent[key] = [parent[key]]
        else:
            parent[key] = copy.deepcopy(rng.choice(ODD_VALUES))
    return content if rng.random() > 0.02 else rng.choice(ODD_VALUES)


def _spots(content: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in plain data, as a list or table and its index or key."""
    if isinstance(content, dict | list):
        for key in list(content) if isinstance(content, dict) else range(len(content)):
            yield content, key
            yield from _spots(content[key])


def mutate_json(data: bytes, rng: random.Random) -> bytes:
    """A JSON file whose content, or whose bytes, are changed."""
    how = rng.random()
    if how < 0.2:
        return mutate_bytes(data, rng)
    text = json.dumps(mutate_tree(json.loads(data), rng), ensure_ascii=rng.random() < 0.9)
    if how < 0.25:  # what no encoder writes, but JSON allows
        spot = rng.choice((DEEP, '{"a":' * 100_000, "9" * 5000, "1" + "0" * 400, "1e999", '"\\ud800"', "-0"))
        numbers = [i for i, character in enumerate(text) if character.isdigit()] or [0]
        at = rng.choice(numbers)
        text = text[:at] + spot + text[at + 1 :]
    return text.encode("utf-8", "surrogatepass")


def mutate_lines(data: bytes, rng: random.Random) -> bytes:
    """A file of JSON lines, one of which is changed."""
    lines = data.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    lines[at] = mutate_json(lines[at].rstrip(b"\n"), rng) + b"\n"
    return b"".join(lines)


def mutate_safetensors(data: bytes, rng: random.Random) -> bytes:
    """A checkpoint: its metadata, its table of tensors, or its bytes changed."""
    if rng.random() < 0.2:
        return mutate_bytes(data, rng)
    (length,) = struct.unpack("<Q", data[:8])
    table = json.loads(data[8 : 8 + length])
    if rng.random() < 0.75:
        metadata = table["__metadata__"]
        metadata["calipose"] = mutate_json(metadata["calipose"].encode(), rng).decode("utf-8", "replace")
    else:
        table = mutate_tree(table, rng)
    header = json.dumps(table).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


def mutate_onnx(data: bytes, rng: random.Random) -> bytes:
    """An ONNX file: its metadata, the names and shapes of its inputs and outputs, or its bytes changed."""
    how = rng.random()
    if how < 0.25:
        return mutate_bytes(data, rng)
    model = onnx.load_from_string(data)
    graph = model.graph
    if how < 0.7:
        entry = model.metadata_props[0]
        entry.value = mutate_json(entry.value.encode(), rng).decode("utf-8", "replace")
    elif how < 0.8:
        entry = rng.choice([*graph.input, *graph.output])
        entry.name = rng.choice(("", "other", *(value.name for value in (*graph.input, *graph.output))))
    elif how < 0.9:
        tensor = rng.choice(graph.initializer)
        values = onnx.numpy_helper.to_array(tensor)
        odd = rng.choice((values[..., :-1], values * np.float32(np.nan), values[None], values.astype(np.float64)))
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(odd), tensor.name))
    else:
        shape = rng.choice([*graph.input, *graph.output]).type.tensor_type
        if rng.random() < 0.5:
            shape.elem_type = rng.choice((TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING))
        elif shape.shape.dim:
            rng.choice(shape.shape.dim).dim_value = rng.choice((0, 1, 5, 10**9))
    return bytes(model.SerializeToString())


def mutate_toml(data: bytes, rng: random.Random) -> bytes:
    """A recipe: its values or its bytes changed."""
    if rng.random() < 0.3:
        return mutate_bytes(data, rng)
    lines = data.decode().splitlines()
    spots = [i for i, line in enumerate(lines) if "=" in line]
    at = rng.choice(spots)
    key = lines[at].partition("=")[0]
    odd = (
        DEEP,
        "{a=" * 50_000,
        "9" * 5000,
        "nan",
        "-inf",
        "true",
        '""',
        "[]",
        "1979-05-27",
        '"\\u0000"',
        "1e400",
        "-1",
    )
    lines[at] = f"{key}= {rng.choice((*odd, *(json.dumps(v) for v in ODD_VALUES)))}"
    return "\n".join(lines).encode("utf-8", "surrogatepass")


ODD_TEXTS = (
    "",
    "nan",
    "-1",
    "1e400",
    "a",
    "1,2",
    "1,2;3,4",
    ";",
    "\u00e9",
    "person",
    "nose",
    "0",
    "1",
    "x" * 5000,
    "../x",
)


def mutate_xml(data: bytes, rng: random.Random) -> bytes:
    """An XML file: texts between quotes or tags, whole elements, or its bytes changed."""
    if rng.random() < 0.3:
        return mutate_bytes(data, rng)
    text = data.decode()
    for _ in range(rng.choice((1, 1, 2, 5))):
        spots = list(re.finditer(r'"[^"<>]*"|(?<=>)[^<>]+(?=</)|<[^<>]*>|(?<=<)[a-z]+|[a-z_]+(?==)', text))
        spot = rng.choice(spots)
        how = rng.randrange(4)
        old = spot.group()
        new = {0: "", 1: old + old, 2: rng.choice(spots).group(), 3: rng.choice(ODD_TEXTS)}[how]
        if how == 3 and old.startswith('"'):
            new = f'"{new}"'
        text = text[: spot.start()] + new + text[spot.end() :]
    if rng.random() < 0.05:
        text = "<a>" * 50_000 + text
    return text.encode()


def mutate_words(data: bytes, rng: random.Random) -> bytes:
    """A text file: some of its words, or its bytes, changed."""
    if rng.random() < 0.3:
        return mutate_bytes(data, rng)
    text = data.decode()
    odd = (
        *ODD_TEXTS,
        "[" * 2000,
        "{a: " * 2000,
        "&a [*a]",
        "!!python/object:os.system",
        "0x1F",
        "1:30",
        "~",
        "\t",
        "2.0",
    )
    for _ in range(rng.choice((1, 1, 2, 5))):
        spot = rng.choice(list(re.finditer(r"[^\s]+|\n", text)))
        text = text[: spot.start()] + rng.choice((*odd, spot.group() * 2)) + text[spot.end() :]
    return text.encode()


# Sound files


def image(seed: int = 0) -> np.ndarray:
    """`(SIDE, SIDE, 3)` uint8 noise."""
    return np.random.default_rng(seed).integers(0, 255, (SIDE, SIDE, 3), np.uint8)


def make_checkpoint(folder: Path) -> Path:
    """A checkpoint of the smallest network, with random weights."""
    import torch

    from calipose.model.checkpoint import Checkpoint, save_checkpoint
    from calipose.model.network import Network

    torch.manual_seed(0)
    recipe = Recipe(
        name="tiny",
        backbone=BackboneSettings(name="mobilenetv2-0.1"),
        method=Method(keypoint_width=2, instance_width=3),
        predict=PredictSettings(short_side=SIDE, max_poses=3, score_threshold=-10.0),
    )
    network = Network("mobilenetv2-0.1", 2, recipe.method)
    path = folder / "tiny.safetensors"
    save_checkpoint(path, Checkpoint(recipe, PAIR, network.state_dict(), {"step": 1}))
    return path


def make_onnx(folder: Path) -> Path:
    """An ONNX file of the form of an exported one, which gives the same two poses of every image."""
    points = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2) * 7
    scores = np.array([[0.9, 0.4]], np.float32)
    header = {
        "skeleton": PAIR.to_dict(),
        "pad_colour": [1, 2, 3],
        "predict": {"short_side": SIDE, "max_poses": 2},
        "calibration": Calibration().to_dict(),
        "outputs": ["keypoints", "raw_scores", "raw_keypoint_scores"],
    }
    outputs = {"keypoints": points, "raw_scores": scores, "raw_keypoint_scores": points[..., 0] / 60}
    return _write_onnx(folder / "tiny.onnx", header, {"images": ["b", "h", "w", 3]}, outputs)


def make_refiner(folder: Path) -> Path:
    """An ONNX file of the form of a refiner, which gives the same keypoints for every crop."""
    outputs = {
        "refined": np.array([[[5, 6], [20, 30]]], np.float32),
        "confidences": np.array([[0.5, 0.9]], np.float32),
    }
    header = {"skeleton": PAIR.to_dict(), "size": 32}
    return _write_onnx(folder / "refiner.onnx", header, {"crops": ["b", 32, 32, 3]}, outputs)


def _write_onnx(
    path: Path, header: dict[str, Any], inputs: dict[str, list[Any]], outputs: dict[str, np.ndarray]
) -> Path:
    """A graph that adds 0 x the mean of its input to constants, so that their first axis follows the batch."""
    ((name, shape),) = inputs.items()
    nodes = [
        helper.make_node("Cast", [name], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
    ]
    initializers = [onnx.numpy_helper.from_array(np.zeros(1, np.float32), "zero")]
    declared = []
    for output, values in outputs.items():
        initializers += [
            onnx.numpy_helper.from_array(values, f"{output}_values"),
            onnx.numpy_helper.from_array(np.array([-1] + [1] * (values.ndim - 1), np.int64), f"{output}_shape"),
        ]
        nodes.append(helper.make_node("Reshape", ["nothing", f"{output}_shape"], [f"{output}_nothing"]))
        nodes.append(helper.make_node("Add", [f"{output}_values", f"{output}_nothing"], [output]))
        declared.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, ["b", *values.shape[1:]]))
    declared_inputs = [helper.make_tensor_value_info(name, TensorProto.UINT8, shape)]
    graph = helper.make_graph(nodes, "tiny", declared_inputs, declared, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, {METADATA_KEY: json.dumps(header)})
    onnx.save(model, str(path))
    return path


def make_two_networks(folder: Path) -> Path:
    """A .model.json file with both its networks beside it."""
    content = {
        "model": make_onnx(folder).name,
        "refiner": make_refiner(folder).name,
        "second_look": SecondLook().to_dict(),
        "predict": {"short_side": SIDE},
        "calibration": Calibration().to_dict(),
    }
    return _write_json(folder / "both.model.json", content)


def make_annotations(folder: Path) -> Path:
    """A COCO keypoint file of three images with all that such a file holds."""
    people = []
    for number in range(4):
        points = [[5.0 + 3 * j, 7.0 + 2 * j, 2] for j in range(17)]
        people.append({
            "id": number + 1, "image_id": 1 + number % 3, "category_id": 1, "area": 900.0, "bbox": [4, 5, 50, 40],
            "num_keypoints": 17, "iscrowd": 0, "keypoints": [value for point in points for value in point],
            "segmentation": [[4, 5, 54, 5, 54, 45, 4, 45]],
        })  # fmt: skip
    people[1]["segmentation"] = {"size": [SIDE, SIDE], "counts": [100, 200, SIDE * SIDE - 300]}
    people[2]["segmentation"] = {"size": [SIDE, SIDE], "counts": "T3X6XMhk1"}
    people[3] |= {"iscrowd": 1, "num_keypoints": 0, "keypoints": [0] * 51, "segmentation": []}
    images = [{"id": i, "file_name": f"{i}.png", "width": SIDE, "height": SIDE} for i in (1, 2, 3)]
    categories = [{"id": 1, "name": "person", "keypoints": list(COCO_17.keypoints), "skeleton": [[1, 2]]}]
    del people[2]["segmentation"]
    content = {"images": images, "annotations": people, "categories": categories}
    return _write_json(folder / "annotations.json", content)


def make_results(folder: Path) -> Path:
    """COCO results of the images of `make_annotations`."""
    make_annotations(folder)
    keypoints = [value for j in range(17) for value in (5.0 + 3 * j, 7.0 + 2 * j, 0.5)]
    entries = [{"image_id": i, "category_id": 1, "keypoints": keypoints, "score": 0.3 * i} for i in (1, 2, 3)]
    return _write_json(folder / "results.json", entries)


def make_results_with_radii(folder: Path) -> Path:
    """The same with a region around each keypoint."""
    path = make_results(folder)
    entries = json.loads(path.read_text())
    return _write_json(path, [{**entry, "coverage": 0.8, "keypoint_radii": [2.0] * 16 + [None]} for entry in entries])


def make_frames(folder: Path) -> Path:
    """What was predicted: two images and two frames of a video."""
    path = make_journal(folder)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    frames = [{**line, "file": "v.mp4", "index": i, "seconds": i / 25} for i, line in enumerate(lines[:2])]
    path.write_text("".join(json.dumps(line) + "\n" for line in [*lines[:2], *frames]))
    return path


def make_skeleton(folder: Path) -> Path:
    """A skeleton file."""
    return _write_json(folder / "pair.json", PAIR.to_dict())


def make_recipe(folder: Path) -> Path:
    """A recipe file with every table."""
    lines = []
    for table, values in Recipe(name="own", description="of a test").to_dict().items():
        if isinstance(values, dict):
            lines += ["", f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
        else:
            lines.append(f"{table} = {json.dumps(values)}")
    path = folder / "own.toml"
    path.write_text("\n".join(lines))
    tomllib.loads(path.read_text())
    return path


def make_journal(folder: Path) -> Path:
    """The journal of a prediction of three images, which lie beside its folder."""
    out = folder / "out"
    out.mkdir()
    points = np.arange(34.0).reshape(1, 17, 2)
    poses = Poses(points, np.array([0.5]), (SIDE, SIDE), np.full((1, 17), 0.4), raw_scores=np.array([0.6]))
    lines = []
    for name in "abc":
        cv2.imwrite(str(folder / f"{name}.png"), image())
        cv2.imwrite(str(out / f"{name}.png"), image())
        lines.append({"file": str(folder / f"{name}.png"), "drawing": f"{name}.png", **poses.to_dict()})
    path = out / "poses.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def _make_image(suffix: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / f"noise{suffix}"
        cv2.imwrite(str(path), image())
        return path

    return make


def _write_json(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


# Reading


def predict_with(path: Path) -> None:
    """Open a model and predict an image with it."""
    Predictor(path, device="" if path.suffix != ".safetensors" else "cpu").predict(image())


def refine_with(path: Path) -> None:
    """Open a refiner and look at one pose."""
    from calipose.inference.refiner import Refiner

    refiner = Refiner(path)
    refiner.look(image(), np.full((1, len(refiner.skeleton), 2), 5.0), flip=True)


def read_annotations(path: Path) -> None:
    """Read annotations for training and for evaluation; each must cope alone."""
    problem: CaliposeError | None = None
    for read in (lambda: _names(read_coco(path, path.parent, check_files=False)), lambda: read_coco(path, path.parent),
                 lambda: read_ground_truth(path)):  # fmt: skip
        try:
            read()
        except CaliposeError as error:
            problem = error
    if problem is not None and "no image" not in str(problem):
        raise problem


def _names(data: Any) -> list[Path]:
    return [data.image_path(index) for index in range(len(data))]


def read_foreign_labels(path: Path) -> None:
    """Read labels of another tool as --data does, and convert them; each must cope alone."""
    source = path.parent.parent / "data.yaml" if path.suffix == ".txt" else path
    images = "" if path.suffix in {".txt", ".yaml"} else f"={path.parent / 'images'}"
    annotations, folder = find_data(f"{source}{images}")
    problem: CaliposeError | None = None
    for read in (lambda: read_coco(annotations, folder), lambda: read_ground_truth(annotations),
                 lambda: convert_labels(f"{source}{images}", path.parent / "out.json")):  # fmt: skip
        try:
            read()
        except CaliposeError as error:
            problem = error
    if problem is not None:
        raise problem


def make_yolo(folder: Path) -> Path:
    """The file of an image's labels."""
    write_yolo(folder)
    return folder / "labels" / "a.txt"


def make_foreign(folder: Path) -> Path:
    """Another project's ONNX file, which says its number of keypoints."""
    return yolo_pose(folder / "yolo.onnx", metadata={"kpt_shape": "[17, 3]"})


def make_stored(folder: Path) -> Path:
    """What Calipose knows of such a file, beside it."""
    score = CalibrationMap(x=(0.0, 1.0), y=(0.1, 0.6), kind="logistic")
    calibration = Calibration(score=score, oks50=score, oks75=score, keypoint=score)
    stored = StoredModel(
        form="yolo-pose", skeleton=COCO_17, predict=PredictSettings(short_side=64), calibration=calibration
    )
    return write_stored(make_foreign(folder), stored)


def predict_beside(path: Path) -> None:
    """Predict with the model that a file lies beside."""
    predict_with(path.parent / "yolo.onnx")


def evaluate_results(path: Path) -> None:
    """Evaluate results."""
    from calipose.evaluation.evaluation import Evaluation

    truth = read_ground_truth(path.parent / "annotations.json")
    read_results(path, truth)
    _ = Evaluation(truth, path).ap


def judge_radii(path: Path) -> None:
    """Count the keypoints that lie in the regions of results."""
    from calipose.evaluation.evaluation import Evaluation

    _ = Evaluation(read_ground_truth(path.parent / "annotations.json"), path).coverage


def convert_to_all(path: Path) -> None:
    """Write what was predicted in formats of every kind: of images, of frames, of both."""
    from calipose.formats.convert import convert_poses

    for name in ("coco", "cvat", "label-studio", "yolo", "openpose", "csv"):
        convert_poses(path, path.with_name("converted.json"), name)


def size_of(path: Path) -> None:
    """Read the size of an image from its head."""
    from calipose.io.image_size import image_size

    image_size(path)


def resume(path: Path) -> None:
    """Resume a prediction that has found all but one image, and write all its formats."""
    names = [path.parent.parent / f"{name}.png" for name in "abc"]
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    try:
        sources = find_sources(*names)
        formats = [name for name, row in FORMATS.items() if row.file_name]
        for draw in (False, True):
            folder = OutputFolder(path.parent, sources, resume=True, draw=draw, formats=[])
            folder.formats = formats
            for source in folder.todo:
                folder.add(source, Poses.empty((SIDE, SIDE)), image() if draw else None)
            folder.close()
            folder.save(COCO_17)
    finally:
        for file in set(path.parent.iterdir()) - set(before):
            file.unlink()
        for file, data in before.items():
            file.write_bytes(data)


KINDS: dict[str, Kind] = {
    "checkpoint": Kind(make_checkpoint, mutate_safetensors, predict_with),
    "onnx": Kind(make_onnx, mutate_onnx, predict_with),
    "foreign": Kind(make_foreign, mutate_onnx, predict_with),
    "calipose.json": Kind(make_stored, mutate_json, predict_beside),
    "refiner": Kind(make_refiner, mutate_onnx, refine_with),
    "model.json": Kind(make_two_networks, mutate_json, predict_with),
    "annotations": Kind(make_annotations, mutate_json, read_annotations),
    "cvat": Kind(write_cvat, mutate_xml, read_foreign_labels),
    "label-studio": Kind(write_label_studio, mutate_json, read_foreign_labels),
    "yolo": Kind(make_yolo, mutate_words, read_foreign_labels),
    "data.yaml": Kind(write_yolo, mutate_words, read_foreign_labels),
    "results": Kind(make_results, mutate_json, evaluate_results),
    "radii": Kind(make_results_with_radii, mutate_json, judge_radii),
    "poses.jsonl": Kind(make_frames, mutate_lines, convert_to_all),
    **{
        f"size of {suffix[1:]}": Kind(_make_image(suffix), mutate_bytes, size_of)
        for suffix in (".jpg", ".png", ".webp", ".bmp")
    },
    "skeleton": Kind(make_skeleton, mutate_json, Skeleton.from_file),
    "recipe": Kind(make_recipe, mutate_toml, load_recipe),
    "journal": Kind(make_journal, mutate_lines, resume),
    **{
        suffix[1:]: Kind(_make_image(suffix), mutate_bytes, read_image)
        for suffix in (".jpg", ".png", ".webp", ".tiff", ".bmp")
    },
}
