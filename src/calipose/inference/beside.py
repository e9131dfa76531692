"""What was found in a calibration's images, in a small file of its own beside a model that is not written again."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from calipose.calibration.maps import Calibration
from calipose.calibration.shift import ImageSummaries
from calipose.errors import InputError
from calipose.inference.packaged import MODEL_SUFFIX
from calipose.io.atomic import replacing
from calipose.plain_data import convert, parse_json

SUFFIX = ".images.json"


def images_file(model: Path) -> Path:
    """NAME.images.json of a model NAME.onnx, NAME.safetensors or NAME.model.json."""
    name = model.name.removesuffix(MODEL_SUFFIX) if model.name.endswith(MODEL_SUFFIX) else model.stem
    return model.with_name(name + SUFFIX)


def with_images_beside(calibration: Calibration, model: Path) -> Calibration:
    """The calibration with the summaries of the file beside the model, if it has none of its own and there is one.

    Args:
        calibration: as the model holds it.
        model: its file.

    Raises:
        InputError: the file beside it cannot be read, or holds something else.
    """
    path = images_file(model)
    if len(calibration.images) or not path.is_file():
        return calibration
    try:
        content = parse_json(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    return msgspec.structs.replace(calibration, images=convert(content, ImageSummaries, str(path)))


def write_images_beside(images: ImageSummaries, model: Path) -> Path:
    """Write the file beside a model; returns its path.

    Raises:
        WriteError: it cannot be written.
    """
    path = images_file(model)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(msgspec.to_builtins(images)) + "\n", encoding="utf-8")
    return path
