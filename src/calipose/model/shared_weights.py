"""A checkpoint without the weights that an ONNX file beside it holds, too (needs torch; onnx for the weights).

A model is packaged in two forms: ONNX for predicting without torch, and a checkpoint for training. Where exporting
changes nothing of a weight, both hold the same numbers, and one copy is enough. What exporting changes (folded batch
norms, transposed layers) stays in the checkpoint. So what is read is, bit for bit, what was trained.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from calipose.errors import InputError, install_hint

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SHARED = "shared"  # key of a checkpoint's header
MIN_SHARED = 1024  # numbers of a tensor that is worth an entry


def find_shared(tensors: dict[str, Tensor], exported: Path) -> dict[str, Any]:
    """What of a checkpoint an exported file holds bit for bit, as an entry of the checkpoint's header.

    Example:
        entry = find_shared(checkpoint.weights, Path("onepass.onnx"))
        rest = {name: value for name, value in checkpoint.weights.items() if name not in entry["tensors"]}

    Args:
        tensors: of the checkpoint, by name.
        exported: the ONNX file, which will lie beside the checkpoint.

    Returns:
        `{"file": name, "sha256": of its bytes, "tensors": {name in the checkpoint: name in the ONNX file}}`.

    Raises:
        InputError: the ONNX file cannot be read, or onnx is not installed.
    """
    data, stored = _read(exported)
    by_content = {_content(torch.from_numpy(values.copy())): name for name, values in stored.items()}
    found = {
        name: by_content[content]
        for name, value in tensors.items()
        if value.numel() >= MIN_SHARED and (content := _content(value)) in by_content
    }
    return {"file": exported.name, "sha256": hashlib.sha256(data).hexdigest(), "tensors": found}


def read_shared(checkpoint: Path, entry: Any) -> dict[str, Tensor]:
    """The tensors that a checkpoint's header says to lie in the ONNX file beside it.

    Args:
        checkpoint: its file.
        entry: of its header, as `find_shared` made it.

    Returns:
        The tensors, by their names in the checkpoint.

    Raises:
        InputError: the ONNX file is missing, or is another one, onnx is not installed, or the entry is damaged.
    """
    damaged = InputError(f"{checkpoint}: its header is damaged: what it says of shared weights cannot be read")
    if not isinstance(entry, dict) or not isinstance(entry.get("tensors"), dict):
        raise damaged
    file, names = entry.get("file"), entry["tensors"]
    if not isinstance(file, str) or Path(file).name != file or "\0" in file:
        raise damaged
    exported = checkpoint.parent / file
    if not exported.is_file():
        raise InputError(f"{checkpoint}: most of its weights lie in {file}, which must be in the same folder")
    data, stored = _read(exported)
    if hashlib.sha256(data).hexdigest() != entry.get("sha256"):
        raise InputError(f"{exported}: not the file that {checkpoint.name} belongs to, which has its weights from it")
    if not all(isinstance(name, str) and name in stored for name in names.values()):
        raise damaged
    return {name: torch.from_numpy(stored[theirs].copy()) for name, theirs in names.items()}


def _read(exported: Path) -> tuple[bytes, dict[str, NDArray[np.generic]]]:
    """The bytes of an ONNX file, and its constants by name."""
    try:
        import onnx
    except ImportError:
        raise InputError(f"{exported}: reading weights out of it needs onnx: {install_hint('train')}") from None
    try:
        data = exported.read_bytes()
        graph = onnx.load_from_string(data).graph
        return data, {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    except Exception as error:  # of the file system, of protobuf, or of onnx for a type that numpy has not
        raise InputError(f"{exported}: not a readable ONNX file ({error})") from None


def _content(tensor: Tensor) -> tuple[str, tuple[int, ...], bytes]:
    return str(tensor.dtype), tuple(tensor.shape), tensor.contiguous().numpy().tobytes()
