"""The models in the package, by name."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from calipose.errors import InputError

MODEL_SUFFIX = ".model.json"
ONEPASS = "onepass"  # one network, which finds all people in one pass
ACCURATE = "accurate"  # the same, and a second look at each pose
FAST = "fast"  # both looks at small sizes
DEFAULT = "default"  # whichever the package recommends: accurate
FILES = {
    ONEPASS: f"{ONEPASS}.onnx",
    ACCURATE: f"{ACCURATE}{MODEL_SUFFIX}",
    FAST: f"{FAST}{MODEL_SUFFIX}",
    DEFAULT: f"{ACCURATE}{MODEL_SUFFIX}",
}
THUNDER = "thunder"  # the network of the second look


def packaged(name: str) -> Path:
    """The file of a model in the package, by its name, or of any file there, such as "onepass.safetensors".

    Raises:
        InputError: this installation has none.
    """
    path = Path(str(resources.files("calipose").joinpath("weights", FILES.get(name, name))))
    if not path.is_file():
        raise InputError(f"this installation holds no {path.name}; name a model: an .onnx file or a checkpoint")
    return path
