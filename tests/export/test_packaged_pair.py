"""`onepass.onnx` is exported from `onepass.safetensors`, which holds only what is not in the ONNX file."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from calipose.errors import InputError
from calipose.export.onnx import round_to_half
from calipose.inference.packaged import packaged
from calipose.model.checkpoint import Checkpoint, load_checkpoint, load_tensors, save_checkpoint
from calipose.model.fold import folded

onnx = pytest.importorskip("onnx")


def test_the_packaged_weights_are_the_checkpoints_folded_and_rounded() -> None:
    network = folded(load_checkpoint("onepass").network())
    round_to_half(network)
    graph = onnx.load(str(packaged("onepass"))).graph
    stored = {tensor.name.removesuffix(".half"): onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    shared = {name: value for name, value in network.state_dict().items() if f"network.{name}" in stored}
    assert sum(value.numel() for value in shared.values()) > 4.8e6
    for name, value in shared.items():
        theirs = stored[f"network.{name}"]
        assert torch.equal(value, torch.from_numpy(theirs.astype(np.float32))), name


def test_the_packaged_checkpoint_holds_no_weight_twice() -> None:
    names = load_file(packaged("onepass.safetensors")).keys()
    weights, header = load_tensors(packaged("onepass.safetensors"))
    assert weights.keys() == names | header["shared"]["tensors"].keys()
    assert not names & header["shared"]["tensors"].keys()
    assert packaged("onepass.safetensors").stat().st_size < 1e6


@pytest.fixture
def pair(tmp_path: Path, tiny_checkpoint: Checkpoint) -> tuple[Path, dict[str, torch.Tensor]]:
    """A checkpoint that shares its large weights with an ONNX file, and all weights."""
    weights = tiny_checkpoint.weights
    large = sorted(name for name, value in weights.items() if value.numel() >= 1024)
    tensors = [onnx.numpy_helper.from_array(weights[name].numpy(), f"w.{name}") for name in large[1:]]
    tensors.append(onnx.numpy_helper.from_array(weights[large[0]].numpy()[..., None], "of another shape"))
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "graph", [], [], tensors)), tmp_path / "a.onnx")
    save_checkpoint(tmp_path / "a.safetensors", tiny_checkpoint, tmp_path / "a.onnx")
    assert load_file(tmp_path / "a.safetensors").keys() == weights.keys() - set(large[1:])
    return tmp_path / "a.safetensors", weights


def test_shared_weights_come_back_bit_for_bit(pair: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    path, weights = pair
    back = load_checkpoint(path).weights
    assert back.keys() == weights.keys()
    assert all(back[name].dtype == value.dtype and torch.equal(back[name], value) for name, value in weights.items())
    save_checkpoint(tmp_path / "whole.safetensors", load_checkpoint(path))  # complete in itself again
    assert load_file(tmp_path / "whole.safetensors").keys() == weights.keys()


def test_the_file_of_shared_weights_must_be_there(pair: tuple[Path, object]) -> None:
    path, _ = pair
    path.with_name("a.onnx").write_bytes(packaged("onepass").read_bytes())
    with pytest.raises(InputError, match=r"a\.onnx: not the file that a\.safetensors belongs to"):
        load_checkpoint(path)
    path.with_name("a.onnx").write_text("no ONNX file")
    with pytest.raises(InputError, match=r"a\.onnx: not a readable ONNX file"):
        load_checkpoint(path)
    path.with_name("a.onnx").unlink()
    with pytest.raises(InputError, match=r"a\.safetensors: most of its weights lie in a\.onnx, which must be in the"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "entry",
    [3, {}, {"file": "../a.onnx"}, {"file": 1}, {"file": "a\0.onnx"}, {"tensors": []}, {"tensors": {"a": "absent"}}],
)
def test_a_damaged_entry_is_named(pair: tuple[Path, object], entry: Any) -> None:
    path, _ = pair
    shutil.copy(path, path.with_name("b.safetensors"))
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["calipose"])
    header["shared"] = header["shared"] | entry if isinstance(entry, dict) and entry else entry
    save_file(load_file(path), path, {"calipose": json.dumps(header)})
    with pytest.raises(InputError, match=r"a\.safetensors: its header is damaged"):
        load_checkpoint(path)
