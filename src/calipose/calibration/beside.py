"""Regions in a small file of their own beside a model, so that a large file need not be written again for them."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from calipose.calibration.maps import Calibration
from calipose.calibration.regions import RegionMap
from calipose.errors import InputError
from calipose.io.atomic import replacing
from calipose.plain_data import convert, parse_json

SUFFIX = ".regions.json"


def regions_file(model: Path) -> Path:
    """NAME.regions.json of a model NAME.onnx or NAME.safetensors."""
    return model.with_suffix(SUFFIX)


def with_regions_beside(calibration: Calibration, model: Path) -> Calibration:
    """The calibration with the regions of the file beside the model, if it has none of its own and there is one.

    Args:
        calibration: as the model holds it.
        model: its file.

    Raises:
        InputError: the file beside it cannot be read, or holds something else.
    """
    path = regions_file(model)
    if calibration.regions != RegionMap() or not path.is_file():
        return calibration
    try:
        content = parse_json(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    return msgspec.structs.replace(calibration, regions=convert(content, RegionMap, str(path)))


def write_regions_beside(regions: RegionMap, model: Path) -> Path:
    """Write the file beside a model; returns its path.

    Raises:
        WriteError: it cannot be written.
    """
    path = regions_file(model)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(msgspec.to_builtins(regions)) + "\n", encoding="utf-8")
    return path
