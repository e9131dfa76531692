"""Opening a model by its name or file: what runs it, and what goes with it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from calipose.calibration.maps import Calibration, Stored
from calipose.calibration.second_look import SecondLook
from calipose.config.settings import PredictSettings
from calipose.config.stored import stored_path
from calipose.errors import InputError, install_hint
from calipose.inference.backends.base import Backend
from calipose.inference.foreign.backend import ForeignBackend
from calipose.inference.packaged import FILES, MODEL_SUFFIX, packaged
from calipose.inference.refiner import Refiner
from calipose.io.atomic import replacing
from calipose.plain_data import parse_json
from calipose.skeleton import Skeleton

FOREIGN_SUFFIXES = (".onnx", ".tflite")


class TwoNetworks(Stored, frozen=True, kw_only=True):
    """A model of two networks, as a file NAME.model.json: one finds the poses, the other looks at each again.

    Attributes:
        model: file of the first, beside this file or in the package.
        refiner: file of the second, likewise.
        second_look: how it looks, and what its result is worth.
        predict: settings of prediction; `score_threshold` is the first raw score from which a pose is looked at again.
        calibration: of the scores of both looks.
    """

    model: str
    refiner: str
    second_look: SecondLook = SecondLook()
    predict: PredictSettings = PredictSettings()
    calibration: Calibration = Calibration()


@dataclass(frozen=True)
class OpenModel:
    """A model that is ready to run.

    Attributes:
        backend: runs the network.
        settings: of prediction.
        calibration: of its scores.
        refiner: the network of the second look, or None.
        second_look: how it looks.
    """

    backend: Backend
    settings: PredictSettings
    calibration: Calibration
    refiner: Refiner | None = None
    second_look: SecondLook = field(default_factory=SecondLook)


def open_model(
    model: str | Path,
    device: str = "",
    providers: list[str] | None = None,
    threads: int = 0,
    with_torch: bool = False,
    form: str = "",
    skeleton: Skeleton | None = None,
) -> OpenModel:
    """Open a model.

    Args:
        model: "accurate", "fast", "onepass" or "default"; an ONNX file, also of other projects (`foreign`); a .tflite
            file of theirs; a checkpoint, a run folder, or a folder that `save_pretrained` wrote (need torch); or a
            .model.json file (`TwoNetworks`).
        device: of a checkpoint: "cpu", "cuda", ...; by default a GPU where there is one.
        providers: of ONNX files: ONNX Runtime's, such as "cuda"; by default the CPU's.
        threads: of ONNX files; 0 for ONNX Runtime's own choice.
        with_torch: open the checkpoint that lies beside an ONNX file of a packaged model.
        form: of another project's model; by default as its inputs and outputs say.
        skeleton: of another project's model; by default COCO's, for 17 keypoints.

    Raises:
        InputError: the model is missing, damaged, or not Calipose's, or a device or provider is not there.
    """
    path = packaged(str(model)) if str(model) in FILES else Path(model)
    if (form or skeleton is not None) and path.suffix not in FOREIGN_SUFFIXES:
        raise InputError(
            f"{path}: only models of other projects ({', '.join(FOREIGN_SUFFIXES)}) are given a form or skeleton"
        )
    if device not in {"", "cpu"} and not providers and (path.suffix == ".onnx" or is_two_networks(path)):
        providers = [device]
    if is_two_networks(path):
        both = read_two_networks(path)
        first = _part(path, both.model)
        first = first.with_suffix(".safetensors") if with_torch or both.predict.flip else first
        backend = _open_backend(first, device, providers, threads)
        refiner = Refiner(_part(path, both.refiner), providers, threads)
        return OpenModel(backend, both.predict, both.calibration, refiner, both.second_look)
    if with_torch and str(model) in FILES:
        path = path.with_suffix(".safetensors")
    backend = _open_backend(path, device, providers, threads, form, skeleton)
    return OpenModel(backend, backend.settings, backend.calibration)


def read_two_networks(path: Path) -> TwoNetworks:
    """Read a JSON file of `TwoNetworks`.

    Raises:
        InputError: the file is missing or not of that form.
    """
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(f"{str(path)!r} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return TwoNetworks.from_dict(parse_json(data, str(path)), str(path))


def write_two_networks(path: Path, model: TwoNetworks) -> None:
    """Write a model of two networks; the file appears whole or not at all.

    Raises:
        InputError: the file's name does not end in .model.json.
    """
    if not path.name.endswith(MODEL_SUFFIX):
        raise InputError(f"{path}: a model of two networks ends in {MODEL_SUFFIX}; write {path.stem}{MODEL_SUFFIX}")
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(model.to_dict(), indent=1) + "\n", encoding="utf-8")


def is_two_networks(model: str | Path) -> bool:
    """Whether a model's name or file is that of two networks."""
    return FILES.get(str(model), str(model)).lower().endswith(MODEL_SUFFIX)


def model_files(model: str | Path) -> list[Path]:
    """The files that a model is made of, by which one model can be told from another.

    Args:
        model: as `open_model` takes it.

    Raises:
        InputError: a file is missing.
    """
    path = packaged(str(model)) if str(model) in FILES else Path(model)
    if is_two_networks(path):
        both = read_two_networks(path)
        return [path, _part(path, both.model), _part(path, both.refiner)]
    if path.suffix != ".onnx":
        from calipose.model.checkpoint import find_checkpoint

        path = find_checkpoint(path)
    if not path.is_file():
        raise InputError(f"{path}: no such model")
    return [file for file in (path, stored_path(path)) if file.is_file()]


def _part(path: Path, name: str) -> Path:
    """The file of that name beside `path`, or in the package."""
    beside = path.parent / name
    return beside if beside.is_file() else packaged(name)


def _open_backend(
    path: Path,
    device: str,
    providers: list[str] | None,
    threads: int,
    form: str = "",
    skeleton: Skeleton | None = None,
) -> Backend:
    if path.suffix == ".tflite":
        from calipose.inference.backends.litert import LiteFile

        if providers or device not in {"", "cpu"}:
            raise InputError(f"{path}: LiteRT runs .tflite files on the CPU; leave out device and providers")
        return ForeignBackend(LiteFile(path, threads), form, skeleton)
    if path.suffix == ".onnx":
        from calipose.inference.backends.onnx import OnnxBackend, OnnxFile

        file = OnnxFile(path, providers, threads)
        if not file.is_calipose:
            return ForeignBackend(file, form, skeleton)
        if form or skeleton is not None:
            raise InputError(f"{path}: calipose export wrote it, so it knows its form and skeleton; give neither")
        return OnnxBackend(file)
    try:
        from calipose.inference.backends.torch import TorchBackend
        from calipose.model.checkpoint import load_checkpoint
        from calipose.model.device import choose_device
    except ModuleNotFoundError as error:
        raise InputError(f"{path}: a checkpoint needs {error.name}: {install_hint('train')}") from None

    checkpoint = load_checkpoint(path)
    return TorchBackend(
        checkpoint.network(),
        checkpoint.skeleton,
        choose_device(device),
        calibration=checkpoint.calibration,
        settings=checkpoint.recipe.predict,
    )
