"""Checkpoints: one safetensors file with weights and, in its header, everything needed to use them."""

from __future__ import annotations

import errno
import json
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from calipose._version import __version__
from calipose.calibration.maps import Calibration
from calipose.config.recipe import Recipe
from calipose.config.stored import renew_stored, stored_calibration
from calipose.errors import InputError
from calipose.io.atomic import replacing
from calipose.model.network import Network
from calipose.model.shared_weights import SHARED, find_shared, read_shared
from calipose.plain_data import parse_json
from calipose.skeleton import Skeleton

PACKAGED = {"onepass", "default"}  # names of the checkpoint that comes with the package

FORMAT = 1
HEADER = "calipose"


@dataclass(frozen=True)
class Checkpoint:
    """A network with what it takes to use it.

    Attributes:
        weights: the network's state by name.
        calibration: what the network's scores mean; nothing until it is calibrated.
        notes: what training says of itself (epoch, metrics); free-form, JSON.
    """

    recipe: Recipe
    skeleton: Skeleton
    weights: dict[str, Tensor]
    notes: dict[str, Any] = field(default_factory=dict)
    calibration: Calibration = field(default_factory=Calibration)

    def network(self) -> Network:
        """The network with these weights, in evaluation mode.

        Raises:
            InputError: the weights are not those of the recipe's network.
        """
        network = Network(self.recipe.backbone.name, len(self.skeleton), self.recipe.method)
        fill(network, self.weights, f"checkpoint of recipe '{self.recipe.name}'")
        return network.eval()


def fill(network: nn.Module, weights: dict[str, Tensor], source: str) -> None:
    """Load the whole state of a network, names and shapes alike; `source` is named in errors.

    Raises:
        InputError: the state is of another network.
    """
    own = network.state_dict()
    shapes = [{name: value.shape for name, value in state.items()} for state in (own, weights)]
    differ = sorted(name for name in own.keys() | weights.keys() if shapes[0].get(name) != shapes[1].get(name))
    if differ:
        raise InputError(
            f"{source}: weights of another network: {len(differ)} of {len(own)} differ, first '{differ[0]}'"
        )
    network.load_state_dict(weights)


def save_tensors(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Write tensors and a JSON header; a reader never sees half a file.

    Raises:
        WriteError: the file cannot be written.
    """
    metadata = {HEADER: json.dumps({"format": FORMAT, "version": __version__, **header})}
    with replacing(path) as temporary:
        try:
            save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, temporary, metadata)
        except SafetensorError as error:  # a full disk, say; the text has the system's reason
            raise OSError(errno.EIO, str(error)) from None


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a file that `save_tensors` wrote, with those that lie in an ONNX file beside it.

    Raises:
        InputError: the file is missing, damaged, or not Calipose's.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; a model is a file, a run folder, or accurate, fast or onepass")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except Exception as error:  # of the file system, of safetensors, or of torch for a type that it has not
        if path.suffix not in {"", ".safetensors"}:
            known = "models are .safetensors, .onnx, .tflite and .model.json files, run folders, or accurate and fast"
            raise InputError(f"{path}: not a model; {known}") from None
        raise InputError(f"{path}: not a readable safetensors file ({error})") from None
    if HEADER not in metadata:
        raise InputError(f"{path}: holds weights, but is no Calipose checkpoint")
    try:
        header = parse_json(metadata[HEADER], f"the header of {path}")
    except InputError as error:
        raise InputError(f"{path}: its header is damaged: {error}") from None
    if not isinstance(header, dict) or not isinstance(header.get("format"), int):
        raise InputError(f"{path}: its header is damaged: it names no format")
    if header["format"] > FORMAT:
        raise InputError(f"{path}: written by Calipose {header.get('version')}; this is {__version__}: upgrade")
    if SHARED in header:
        tensors |= read_shared(path, header[SHARED])
    return tensors, header


def save_checkpoint(path: Path, checkpoint: Checkpoint, exported: Path | None = None) -> None:
    """Write a checkpoint (atomically).

    Args:
        path: the file.
        checkpoint: what it holds.
        exported: an ONNX file in the same folder; weights that it holds, too, are left out, and read from it.

    Raises:
        WriteError: the file cannot be written.
    """
    shared = {} if exported is None else {SHARED: find_shared(checkpoint.weights, exported)}
    left_out = shared[SHARED]["tensors"] if shared else {}
    header = {
        **shared,
        "recipe": checkpoint.recipe.to_dict(),
        "skeleton": checkpoint.skeleton.to_dict(),
        "calibration": checkpoint.calibration.to_dict(),
        "notes": checkpoint.notes,
        "torch": torch.__version__,
    }
    save_tensors(path, {name: value for name, value in checkpoint.weights.items() if name not in left_out}, header)
    renew_stored(path, checkpoint.calibration)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint; `path` as `find_checkpoint` takes it.

    Raises:
        InputError: missing, damaged, or not Calipose's.
    """
    path = find_checkpoint(path)
    weights, header = load_tensors(path)
    if "recipe" not in header and "progress" in header:
        raise InputError(f"{path}: is a training state, not a checkpoint")
    if missing := [key for key in ("recipe", "skeleton", "notes") if key not in header]:
        raise InputError(f"{path}: its header lacks '{missing[0]}'; save or download the checkpoint again")
    if not isinstance(header["notes"], dict):
        raise InputError(f"{path}: 'notes' in its header is {type(header['notes']).__name__}, not an object")
    recipe = Recipe.from_dict(header["recipe"], str(path))
    skeleton = Skeleton.from_dict(header["skeleton"], str(path))
    calibration = Calibration.from_dict(header.get("calibration", {}), str(path))
    return Checkpoint(recipe, skeleton, weights, header["notes"], stored_calibration(path, calibration))


def find_checkpoint(path: str | Path) -> Path:
    """The file of a checkpoint.

    Args:
        path: the file itself; a run folder, which holds `best.safetensors` or `last.safetensors`; a folder in the hub's
            form, which holds `model.safetensors`; or "onepass" (or "default") for the one that comes with
            the package.

    Raises:
        InputError: the folder holds none, or an ONNX file or a model of two networks is named.
    """
    if str(path) in {"accurate", "fast"}:
        raise InputError(f"{path}: two networks, where one checkpoint is wanted; onepass is the first of both")
    if str(path) in PACKAGED:
        path = str(resources.files("calipose").joinpath("weights", "onepass.safetensors"))
    path = Path(path)
    if path.is_dir():
        found = [
            path / name
            for name in ("best.safetensors", "last.safetensors", "model.safetensors")
            if (path / name).is_file()
        ]
        if not found:
            raise InputError(
                f"{path}: this folder holds no model (best.safetensors, last.safetensors or model.safetensors); name a"
                " run folder, a file, or accurate, fast or onepass"
            )
        path = found[0]
    if path.suffix == ".onnx":
        raise InputError(f"{path}: this needs a checkpoint (.safetensors), and no ONNX file")
    return path
