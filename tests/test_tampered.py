"""Tampered files: each is read, or refused with an error of Calipose's own, fast (experiments/fuzz.py tries more)."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from calipose.data.coco import read_coco
from calipose.errors import InputError
from calipose.evaluation.ground_truth import read_ground_truth
from calipose.evaluation.results import load_results
from calipose.formats.entries import read_entries
from calipose.inference.backends.onnx import METADATA_KEY
from calipose.inference.opening import read_two_networks
from calipose.inference.predictor import Predictor
from calipose.inference.refiner import Refiner
from calipose.model.checkpoint import load_checkpoint
from calipose.plain_data import parse_json, parse_toml
from calipose.skeleton import Skeleton
from tampered import (
    KINDS,
    image,
    make_annotations,
    make_checkpoint,
    make_onnx,
    make_refiner,
    make_results,
    predict_with,
    trials,
)

CASES = 40  # of each kind


@pytest.mark.parametrize("kind", KINDS)
def test_tampered_files_are_read_or_refused(kind: str, tmp_path: Path) -> None:
    assert [trial for trial in trials(kind, tmp_path, CASES) if trial.fault] == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": [1, {"b": "\\ud800"}]}', r"own\.json: \$\.a\[1\]\.b holds '.ud800'"),
        ('{"\\udfff": 1}', r"own\.json: a key in \$ holds"),
        ("[" * 200_000, r"own\.json is not valid JSON: .* nested too deeply"),
        ('{"a":' * 200_000, "nested too deeply"),
        ("9" * 5000, r"own\.json is not valid JSON: .*4300"),
        ("{", r"own\.json is not valid JSON"),
        (b"\xff\xfe\xfd", r"own\.json is not valid JSON"),
        (b'"\xed\xa0\x80"', r"own\.json is not valid JSON"),
    ],
)
def test_what_json_may_hold_and_no_program_can_use(text: str | bytes, words: str) -> None:
    with pytest.raises(InputError, match=words) as raised:
        parse_json(text, "own.json")
    str(raised.value).encode()  # the message itself can be printed


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ('{"a": 1, "a": 2}', {"a": 2}),
        ('"\\ud83d\\ude00"', "\U0001f600"),
        ('"\\udcff.jpg"', "\udcff.jpg"),  # the name of a file that is no UTF-8
        ("\ufeff[]".encode(), []),
        ("[1]".encode("utf-16"), [1]),
        ("[-Infinity, 1e999]", [-np.inf, np.inf]),
    ],
)
def test_json_that_can_be_used(text: str | bytes, content: object) -> None:
    assert parse_json(text, "own.json") == content


def test_toml_nested_too_deeply() -> None:
    with pytest.raises(InputError, match=r"own\.toml: .* nested too deeply"):
        parse_toml("a = " + "[" * 100_000, "own.toml")


def half_character(content: Any, *where: Any) -> str:
    """The content as JSON, with half a character in a place."""
    inner = content
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = "\ud800"
    return json.dumps(content)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (("images", 0, "file_name"), r"\$\.images\[0\]\.file_name"),
        (("categories", 0, "keypoints", 3), r"\$\.categories\[0\]\.keypoints\[3\]"),
        (("annotations", 1, "note"), r"\$\.annotations\[1\]\.note"),
    ],
)
def test_half_a_character_in_annotations(tmp_path: Path, where: tuple[Any, ...], words: str) -> None:
    path = make_annotations(tmp_path)
    path.write_text(half_character(json.loads(path.read_text()), *where))
    readers: list[Callable[[], object]] = [lambda: read_coco(path, tmp_path), lambda: read_ground_truth(path)]
    for read in readers:
        with pytest.raises(InputError, match=rf"annotations\.json: {words} holds"):
            read()


def test_half_a_character_in_other_files(tmp_path: Path) -> None:
    results = make_results(tmp_path)
    results.write_text(half_character(json.loads(results.read_text()), 1, "note"))
    with pytest.raises(InputError, match=r"results\.json: \$\[1\]\.note holds"):
        load_results(results)
    skeleton = KINDS["skeleton"].make(tmp_path)
    skeleton.write_text(half_character(json.loads(skeleton.read_text()), "keypoints", 0))
    with pytest.raises(InputError, match=r"pair\.json: \$\.keypoints\[0\] holds"):
        Skeleton.from_file(skeleton)
    with pytest.raises(InputError, match=r"'one.ud800' holds characters that cannot be printed"):
        Skeleton("own", ("one\ud800",), (), (), (0.1,))
    (tmp_path / "poses.jsonl").write_text('{"file": "\\ud800.jpg"}\n')
    with pytest.raises(InputError, match=r"poses\.jsonl, line 1: not from calipose predict; .*\$\.file"):
        list(read_entries(tmp_path / "poses.jsonl"))
    (tmp_path / "both.model.json").write_text('{"model": "\\ud800"}')
    with pytest.raises(InputError, match=r"both\.model\.json: \$\.model holds"):
        read_two_networks(tmp_path / "both.model.json")


def test_a_file_name_that_is_no_text_is_a_file_name(tmp_path: Path) -> None:
    path = make_annotations(tmp_path)
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = "\udcff.jpg"
    path.write_text(json.dumps(content))
    assert read_coco(path, tmp_path, check_files=False).image_path(0) == tmp_path / "\udcff.jpg"
    assert read_ground_truth(path).files[1] == "\udcff.jpg"


@pytest.mark.parametrize("missing", ["recipe", "skeleton", "notes"])
def test_a_checkpoint_whose_header_lacks_something(tmp_path: Path, missing: str) -> None:
    path = make_checkpoint(tmp_path)
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["calipose"])
    del header[missing]
    save_file(load_file(path), path, {"calipose": json.dumps(header)})
    with pytest.raises(InputError, match=rf"tiny\.safetensors: its header lacks '{missing}'"):
        load_checkpoint(path)


def change_onnx(path: Path, change: Callable[[onnx.ModelProto], object]) -> None:
    model = onnx.load(str(path))
    change(model)
    onnx.save(model, str(path))


def change_shape(model: onnx.ModelProto) -> None:
    """The same number of outputs, of one keypoint less."""
    for tensor in model.graph.initializer:
        if tensor.name in {"keypoints_values", "refined_values"}:
            values = onnx.numpy_helper.to_array(tensor)[..., :1, :]
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))
    for output in model.graph.output:
        output.type.tensor_type.shape.Clear()


def change_metadata(text: str) -> Callable[[onnx.ModelProto], object]:
    return lambda model: onnx.helper.set_model_props(model, {METADATA_KEY: text})


def damage(model: onnx.ModelProto) -> None:
    (tensor,) = (t for t in model.graph.initializer if t.name == "raw_scores_values")
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.full((1, 2), np.nan, np.float32), tensor.name))


def takes_floats(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT


def renamed(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = model.graph.node[0].input[0] = "other"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (renamed, r"takes 'images' .*this file takes \['other'\]"),
        (lambda model: model.graph.output.pop(0), r"gives \['raw_keypoint_scores', 'raw_scores'\]"),
        (takes_floats, "ONNX Runtime cannot run it"),
        (change_shape, r"output 'keypoints' is float32 of shape \(1, 2, 1, 2\); numbers of shape \(1, 2, 2, 2\)"),
        (change_metadata("[]"), "its metadata are list, not an object"),
        (change_metadata("{"), "the metadata of .* is not valid JSON"),
        (change_metadata("{}"), "skeleton|object"),
    ],
)
def test_an_onnx_file_that_opens_and_cannot_run(
    tmp_path: Path, change: Callable[[onnx.ModelProto], object], words: str
) -> None:
    path = make_onnx(tmp_path)
    predict_with(path)
    change_onnx(path, change)
    with pytest.raises(InputError, match=words) as raised:
        predict_with(path)
    assert "tiny.onnx" in str(raised.value)


def test_a_model_whose_numbers_are_not_finite(tmp_path: Path) -> None:
    path = make_onnx(tmp_path)
    change_onnx(path, damage)
    with pytest.raises(InputError, match="not finite: its weights are damaged"):
        Predictor(path).predict(image())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (takes_floats, "ONNX Runtime cannot run it"),
        (change_shape, r"output 'refined' is float32 of shape \(1, 1, 2\)"),
        (change_metadata("{}"), "skeleton|object"),
    ],
)
def test_a_refiner_that_cannot_run(tmp_path: Path, change: Callable[[onnx.ModelProto], object], words: str) -> None:
    path = make_refiner(tmp_path)
    change_onnx(path, change)
    with pytest.raises(InputError, match=words):
        Refiner(path).look(image(), np.full((1, 2, 2), 5.0))
