"""What Calipose knows of another project's model, kept beside its file as NAME.calipose.json."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from calipose.calibration.maps import Calibration, Stored
from calipose.config.settings import PredictSettings
from calipose.errors import InputError
from calipose.io.atomic import replacing
from calipose.plain_data import parse_json
from calipose.skeleton import Skeleton

SUFFIX = ".calipose.json"


class ForeignModel(Stored, frozen=True, kw_only=True):
    """The content of NAME.calipose.json.

    Attributes:
        model: name of the model's file.
        sha256: of its content; empty: it holds for whatever the file is.
        form: row of `FORMS`; empty: as inputs and outputs say.
        skeleton: of its keypoints, where they are not COCO's 17.
        predict: settings of prediction; None: the form's.
        calibration: of its scores.
    """

    model: str = ""
    sha256: str = ""
    form: str = ""
    skeleton: Skeleton | None = None
    predict: PredictSettings | None = None
    calibration: Calibration = Calibration()


def stored_path(model: Path) -> Path:
    """Where it lies: yolo26n-pose.onnx has yolo26n-pose.calipose.json."""
    return model.with_suffix(SUFFIX)


def read_stored(model: Path) -> ForeignModel:
    """What lies beside a model; the defaults where nothing does.

    Raises:
        InputError: the file beside it cannot be read, or was made for another model.
    """
    path = stored_path(model)
    if not path.is_file():
        return ForeignModel()
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    stored = ForeignModel.from_dict(parse_json(data, str(path)), str(path))
    if (stored.model and stored.model != model.name) or (stored.sha256 and stored.sha256 != _digest(model)):
        raise InputError(
            f"{path}: was made for another model ({stored.model or 'another file'}) than {model}; remove it, and "
            "calibrate this model again"
        )
    return stored


def write_stored(model: Path, stored: ForeignModel) -> Path:
    """Write it beside the model, whose file stays as it is; it appears whole or not at all.

    Raises:
        InputError: it cannot be written, or the model cannot be read.
    """
    path = stored_path(model)
    entries = stored.to_dict() | {"model": model.name, "sha256": _digest(model)}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    return path


def _digest(model: Path) -> str:
    try:
        with model.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{model} cannot be read: {error.strerror or error}") from None
