"""Opening a model by its name or file: what runs it, and what goes with it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from calipose.calibration.maps import Calibration, Stored
from calipose.calibration.second_look import SecondLook
from calipose.config.settings import PredictSettings
from calipose.errors import InputError
from calipose.inference.backends.base import Backend
from calipose.inference.refiner import Refiner
from calipose.plain_data import parse_json

FAST = "fast"  # one pass
ACCURATE = "accurate"  # the same, and a second look at each pose
MODEL_SUFFIX = ".model.json"
DEFAULT = "default"  # whichever the package recommends: accurate
FILES = {FAST: "fast.onnx", ACCURATE: f"accurate{MODEL_SUFFIX}", DEFAULT: f"accurate{MODEL_SUFFIX}"}


class TwoNetworks(Stored, frozen=True, kw_only=True):
    """A model of two networks, as a file NAME.model.json: one finds the poses, the other looks at each again.

    Attributes:
        model: file of the first, beside this file.
        refiner: file of the second, beside this file.
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
    second_look: SecondLook = SecondLook()


def open_model(
    model: str | Path, device: str = "", providers: list[str] | None = None, threads: int = 0, with_torch: bool = False
) -> OpenModel:
    """Open a model.

    Args:
        model: "fast", "accurate" or "default"; an ONNX file; a checkpoint, a run folder, or a folder that
            `save_pretrained` wrote (need torch); or a .model.json file (`TwoNetworks`).
        device: of a checkpoint: "cpu", "cuda", ...; by default a GPU where there is one.
        providers: of ONNX files: ONNX Runtime's, such as "cuda"; by default the CPU's.
        threads: of ONNX files; 0 for ONNX Runtime's own choice.
        with_torch: open the checkpoint that lies beside an ONNX file of a packaged model.

    Raises:
        InputError: the model is missing, damaged, or not Calipose's, or a device or provider is not there.
    """
    path = packaged(str(model)) if str(model) in FILES else Path(model)
    if device not in {"", "cpu"} and not providers and path.suffix in {".onnx", ".json"}:
        providers = [device]
    if path.suffix == ".json":
        both = read_two_networks(path)
        first = path.parent / both.model
        first = first.with_suffix(".safetensors") if with_torch else first
        backend = _open_backend(first, device, providers, threads)
        refiner = Refiner(path.parent / both.refiner, providers, threads)
        return OpenModel(backend, both.predict, both.calibration, refiner, both.second_look)
    if with_torch and str(model) in FILES:
        path = path.with_suffix(".safetensors")
    backend = _open_backend(path, device, providers, threads)
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


def packaged(name: str) -> Path:
    """The file of a model in the package: "fast", "accurate", "default"; or a file name such as "fast.safetensors".

    Raises:
        InputError: this installation has none.
    """
    path = Path(str(resources.files("calipose").joinpath("weights", FILES.get(name, name))))
    if not path.is_file():
        raise InputError(f"this installation holds no {path.name}; name a model: an .onnx file or a checkpoint")
    return path


def _open_backend(path: Path, device: str, providers: list[str] | None, threads: int) -> Backend:
    if path.suffix == ".onnx":
        from calipose.inference.backends.onnx import OnnxBackend

        return OnnxBackend(path, providers, threads)
    try:
        from calipose.inference.backends.torch import TorchBackend
        from calipose.model.checkpoint import load_checkpoint
        from calipose.model.device import choose_device
    except ModuleNotFoundError as error:
        raise InputError(f"{path}: a checkpoint needs {error.name}: pip install 'calipose[train]'") from None

    checkpoint = load_checkpoint(path)
    return TorchBackend(
        checkpoint.network(),
        checkpoint.skeleton,
        choose_device(device),
        calibration=checkpoint.calibration,
        settings=checkpoint.recipe.predict,
    )
