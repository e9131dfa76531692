"""Checkpoints: what is written comes back, a failing write harms nothing, wrong files are named."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from calipose.config.method import Method
from calipose.config.recipe import Recipe
from calipose.config.settings import AugmentSettings, BackboneSettings, OptimSettings
from calipose.errors import InputError, WriteError
from calipose.model import checkpoint as module
from calipose.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, save_tensors
from calipose.model.network import Network
from calipose.skeleton import Skeleton

MOUSE = Skeleton("mouse", ("nose", "left_ear", "right_ear"), ((1, 2),), ((0, 1), (0, 2)), (0.1, 0.05, 0.05))
RECIPE = Recipe(
    name="own",
    backbone=BackboneSettings(name="mobilenetv2-0.1"),
    method=Method(keypoint_width=2, instance_width=3, label="gaussian", quality_branch=True),
    optim=OptimSettings(milestones=(3, 5), lr=1 / 3),
    augment=AugmentSettings(scale=(0.5, 0.75)),
)


@pytest.fixture(scope="module")
def own() -> Checkpoint:
    torch.manual_seed(0)
    network = Network("mobilenetv2-0.1", 3, RECIPE.method).to(memory_format=torch.channels_last)
    network(torch.randint(0, 255, (2, 64, 64, 3)), torch.zeros(2, 1, 2, dtype=torch.int64))  # moves the statistics
    return Checkpoint(RECIPE, MOUSE, network.state_dict(), {"step": 7, "best_ap": None, "names": ["a"]})


def test_round_trip(own: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "own.safetensors", own)
    assert [path.name for path in tmp_path.iterdir()] == ["own.safetensors"]
    back = load_checkpoint(tmp_path / "own.safetensors")
    assert (back.recipe, back.skeleton, back.notes) == (own.recipe, own.skeleton, own.notes)
    assert back.weights.keys() == own.weights.keys()
    assert all(torch.equal(back.weights[name], value) for name, value in own.weights.items())
    network, images = back.network(), torch.randint(0, 255, (1, 64, 64, 3))
    original = Network("mobilenetv2-0.1", 3, RECIPE.method).eval()
    original.load_state_dict(own.weights)
    assert not network.training
    with torch.no_grad():
        assert torch.equal(network.encode(images).score, original.encode(images).score)


@pytest.mark.parametrize("moment", ["while writing", "before renaming"])
def test_a_failing_save_leaves_the_old_file(
    own: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    path = tmp_path / "own.safetensors"
    save_checkpoint(path, own)
    before = path.read_bytes()

    def half_written(_: object, target: Path, __: object) -> None:
        Path(target).write_bytes(before[:100])
        raise OSError("no space left on device")

    def unreachable(*_: object) -> None:
        raise OSError("gone")

    if moment == "while writing":
        monkeypatch.setattr(module, "save_file", half_written)
    else:
        monkeypatch.setattr("calipose.io.atomic.os.replace", unreachable)
    with pytest.raises(WriteError, match=r"own\.safetensors cannot be written: (no space|gone)"):
        save_checkpoint(path, Checkpoint(own.recipe, own.skeleton, own.weights, {"step": 8}))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path], "nothing half-written is left"
    monkeypatch.undo()
    save_checkpoint(path, Checkpoint(own.recipe, own.skeleton, own.weights, {"step": 8}))
    assert load_checkpoint(path).notes == {"step": 8}


def header(**changes: object) -> dict[str, str]:
    entries = {
        "format": 1, "version": "0.1.0", "recipe": RECIPE.to_dict(), "skeleton": MOUSE.to_dict(), "notes": {},
    } | changes  # fmt: skip
    return {"calipose": json.dumps(entries)}


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "no such checkpoint"),
        ("empty", "not a readable safetensors file"),
        ("truncated", "not a readable safetensors file"),
        ("text", "not a readable safetensors file"),
        ("pickle", "not a readable safetensors file"),
        ("no header", "holds weights, but is no Calipose checkpoint"),
        ("damaged header", "header is damaged"),
        ("header without a format", "header is damaged"),
        ("state", "is a training state, not a checkpoint"),
        ("newer format", r"written by Calipose 9\.9\.9; this is .*: upgrade"),
        ("recipe of a newer version", "unknown key 'warp'"),
        ("broken skeleton", "keypoints must be one or more names"),
        ("weights of another network", "checkpoint of recipe 'own': weights of another network"),
    ],
)
def test_wrong_files(own: Checkpoint, tmp_path: Path, kind: str, words: str) -> None:
    path, some = tmp_path / "given.safetensors", {"a": torch.zeros(2)}
    if kind in {"empty", "text"}:
        path.write_text("" if kind == "empty" else "weights, more weights and even more weights")
    elif kind == "pickle":
        torch.save(some, path)
    elif kind == "truncated":
        save_checkpoint(path, own)
        path.write_bytes(path.read_bytes()[:-50])
    elif kind == "no header":
        save_file(some, path)
    elif kind == "state":
        save_tensors(path, some, {"progress": {"step": 3}})
    elif kind != "missing":
        changes = {
            "newer format": {"format": 2, "version": "9.9.9", "recipe": None},
            "recipe of a newer version": {"recipe": RECIPE.to_dict() | {"warp": 1}},
            "broken skeleton": {"skeleton": MOUSE.to_dict() | {"keypoints": ["nose", "nose", "ear"]}},
        }
        metadata = header(**changes.get(kind, {}))
        if kind == "damaged header":
            metadata["calipose"] = metadata["calipose"][:50]
        if kind == "header without a format":
            metadata["calipose"] = "{}"
        save_file(some, path, metadata)
    with pytest.raises(InputError, match=words) as raised:
        load_checkpoint(path).network()
    assert "given.safetensors" in str(raised.value) or kind == "weights of another network"


def test_a_run_folder_means_its_best_checkpoint(own: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no model"):
        load_checkpoint(tmp_path)
    for name in ("state", "last", "best"):
        save_checkpoint(tmp_path / f"{name}.safetensors", Checkpoint(own.recipe, MOUSE, own.weights, {"name": name}))
        if name != "state":
            assert load_checkpoint(tmp_path).notes == {"name": name}
            assert load_checkpoint(str(tmp_path)).notes == {"name": name}
