"""What is known of a model beside its file: NAME.calipose.json, so that the model's own file stays as it is."""

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


class StoredModel(Stored, frozen=True, kw_only=True):
    """The content of NAME.calipose.json.

    Attributes:
        model: name of the model's file; empty: of each model of that NAME.
        sha256: of its content; empty: it holds for whatever the file is.
        form: of another project's model, a row of `FORMS`; empty: as inputs and outputs say.
        skeleton: of another project's model, where its keypoints are not COCO's 17.
        predict: of another project's model, settings of prediction; None: the form's.
        calibration: of its scores. It takes the place of all that a model of Calipose holds itself.
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


def read_stored(model: Path) -> StoredModel:
    """What lies beside a model; the defaults where nothing does.

    Raises:
        InputError: the file beside it cannot be read, or was made for another model.
    """
    path = stored_path(model)
    stored = _read(path)
    if (stored.model and stored.model != model.name) or (stored.sha256 and stored.sha256 != _digest(model)):
        raise InputError(
            f"{path}: was made for another model ({stored.model or 'another file'}) than {model}; remove it, and "
            "calibrate this model again"
        )
    return stored


def stored_calibration(model: Path, own: Calibration) -> Calibration:
    """The calibration of a model of Calipose: that of the file beside it where there is one, else its own.

    Args:
        model: its file.
        own: what that holds.

    Raises:
        InputError: as `read_stored`; or the file beside it gives what only other projects' models are given.
    """
    if not stored_path(model).is_file():
        return own
    stored = read_stored(model)
    if stored.form or stored.skeleton is not None or stored.predict is not None:
        raise InputError(
            f"{stored_path(model)}: gives form, skeleton or predict, which {model} knows itself; leave them out"
        )
    return stored.calibration


def write_stored(model: Path, stored: StoredModel, any_file: bool = False) -> Path:
    """Write it beside the model, whose file stays as it is; it appears whole or not at all.

    Args:
        model: the model's file.
        stored: what is known of it; its name and SHA-256 are filled in.
        any_file: for each model of that NAME, whatever its file holds; without name and SHA-256.

    Raises:
        InputError: it cannot be written, or the model cannot be read.
    """
    bound = {"model": "", "sha256": ""} if any_file else {"model": model.name, "sha256": _digest(model)}
    path = stored_path(model)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(stored.to_dict() | bound) + "\n", encoding="utf-8")
    return path


def renew_stored(model: Path, calibration: Calibration) -> None:
    """After a model of Calipose was written: what lay beside it already must not go on with an older calibration.

    A file of each model of that NAME stays one where nothing changes; else it is this model's from then on, so that
    another one of that NAME is refused and not misread.

    Raises:
        InputError: the file beside it cannot be read or written.
    """
    path = stored_path(model)
    if path.is_file():
        before = _read(path)
        if before.calibration != calibration or before.model or before.sha256:
            write_stored(model, StoredModel(calibration=calibration))


def _read(path: Path) -> StoredModel:
    if not path.is_file():
        return StoredModel()
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    return StoredModel.from_dict(parse_json(data, str(path)), str(path))


def _digest(model: Path) -> str:
    try:
        with model.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{model} cannot be read: {error.strerror or error}") from None
