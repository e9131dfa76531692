"""The backend that runs an exported network in ONNX Runtime; needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from calipose.calibration.maps import Calibration
from calipose.config.settings import PredictSettings
from calipose.config.stored import stored_calibration
from calipose.errors import InputError, first_line
from calipose.geometry import Floats
from calipose.inference.backends.base import BatchCandidates
from calipose.inference.backends.onnx_runtime import import_runtime, not_started
from calipose.inference.foreign.base import Port
from calipose.plain_data import parse_json
from calipose.skeleton import Skeleton

METADATA_KEY = "calipose"


class OnnxBackend:
    """An ONNX file that `calipose export` wrote (docs/onnx.md).

    Args:
        path: the file, or the file as opened already.
        providers: of ONNX Runtime, by full or short name ("cuda" for CUDAExecutionProvider); by default the CPU's.
        threads: of one network run; 0 for ONNX Runtime's own choice.

    Attributes:
        settings: of prediction, as exported.
        calibration: of the model: as exported, or of the file beside it (`stored_calibration`). The graph's own
            calibrated outputs know the exported maps alone; `candidates` reads the raw ones.
        header: all that the file says of itself.

    Raises:
        InputError: the file is missing, damaged, or not Calipose's, or a provider is not there.
    """

    def __init__(self, path: str | Path | OnnxFile, providers: list[str] | None = None, threads: int = 0) -> None:
        self._file = path if isinstance(path, OnnxFile) else OnnxFile(path, providers, threads)
        path = self._file.path
        self.header = self._file.header
        self.skeleton = Skeleton.from_dict(self.header.get("skeleton"), str(path))
        try:
            r, g, b = self.header["pad_colour"]
            self.pad_colour = (int(r), int(g), int(b))
            if not all(0 <= value <= 255 for value in self.pad_colour):
                raise ValueError(f"pad_colour {self.pad_colour}")
            self.settings = msgspec.convert(self.header["predict"], PredictSettings)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{path}: its metadata cannot be used ({error!r}); export it again") from None
        own = Calibration.from_dict(self.header.get("calibration", {}), str(path))
        self.calibration = stored_calibration(Path(path), own)
        inputs, outputs = self._file.inputs, set(self._file.outputs)
        scored = "keypoint_scores" not in outputs or "raw_keypoint_scores" in outputs
        if inputs != ["images"] or not outputs >= {"keypoints", "raw_scores"} or not scored:
            raise InputError(
                f"{path}: an exported network takes 'images' and gives 'keypoints', 'raw_scores' and, with scores of "
                f"keypoints, 'raw_keypoint_scores'; this file takes {inputs} and gives {sorted(outputs)}"
            )

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """The file's own outputs by name, for `images` (b, h, w, 3) RGB; see docs/onnx.md.

        Raises:
            InputError: ONNX Runtime cannot run the file.
        """
        outputs = self._file.run(self._file.outputs, {"images": np.ascontiguousarray(images)})
        return dict(zip(self._file.outputs, outputs, strict=True))

    def candidates(self, images: NDArray[np.uint8], max_poses: int, flip: bool) -> BatchCandidates:
        """See `Backend.candidates`; poses that the graph's NMS drops are among them, as with torch.

        Raises:
            InputError: `flip`, which needs the maps of both images; or the file cannot be run, or gives other shapes
                than an exported network.
        """
        if flip:
            raise InputError("flip needs the checkpoint and torch; an ONNX file predicts once")
        found = self.run(images)
        n = found["raw_scores"].shape[-1] if found["raw_scores"].ndim else 0
        batch, k = len(images), len(self.skeleton)
        shapes = {"keypoints": (batch, n, k, 2), "raw_scores": (batch, n), "raw_keypoint_scores": (batch, n, k)}
        floats = {
            name: self._file.checked(name, found[name], shape)[:, :max_poses]  # the best come first
            for name, shape in shapes.items()
            if name in found
        }
        return BatchCandidates(floats["keypoints"], floats["raw_scores"], floats.get("raw_keypoint_scores"))


class OnnxFile:
    """An ONNX file, open in ONNX Runtime; pickled, it is opened again from its path.

    Args:
        path: the file.
        providers: of ONNX Runtime, by full or short name; by default the CPU's.
        threads: of one network run; 0 for ONNX Runtime's own choice.

    Attributes:
        path: the file.
        metadata: what the file says of itself.
        input_ports, output_ports: what it takes and gives.
        inputs, outputs: their names.

    Raises:
        InputError: the file is missing or damaged, or a provider is not there.
    """

    def __init__(self, path: str | Path, providers: list[str] | None = None, threads: int = 0) -> None:
        self.path = Path(path)
        self._again = self.path.absolute(), providers, threads  # the working directory may change
        self._session = _open_session(self.path, providers, threads)
        try:
            self.metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: its metadata are no text ({error})") from None
        self.input_ports = [_port(entry) for entry in self._session.get_inputs()]
        self.output_ports = [_port(entry) for entry in self._session.get_outputs()]
        self.inputs = [port.name for port in self.input_ports]
        self.outputs = [port.name for port in self.output_ports]

    @property
    def is_calipose(self) -> bool:
        """Whether `calipose export` wrote the file."""
        return METADATA_KEY in self.metadata

    @cached_property
    def header(self) -> dict[str, Any]:
        """What a file of ours says of itself: its metadata under the key "calipose", a JSON object.

        Raises:
            InputError: the file is not Calipose's, or its metadata are damaged.
        """
        if not self.is_calipose:
            raise InputError(f"{self.path}: an ONNX file, but not one that calipose export wrote")
        header = parse_json(self.metadata[METADATA_KEY], f"the metadata of {self.path}")
        if not isinstance(header, dict):
            raise InputError(f"{self.path}: its metadata are {type(header).__name__}, not an object; export it again")
        return header

    def __reduce__(self) -> tuple[type[OnnxFile], tuple[Path, list[str] | None, int]]:
        return OnnxFile, self._again  # a session lives in this process alone

    def run(self, outputs: list[str], feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs of these names.

        Args:
            outputs: names.
            feeds: the inputs by name.

        Raises:
            InputError: ONNX Runtime cannot run the file with these inputs.
        """
        try:
            return [np.asarray(values) for values in self._session.run(outputs, feeds)]
        except Exception as error:  # ONNX Runtime's errors have no common base of their own
            raise InputError(f"{self.path}: ONNX Runtime cannot run it ({first_line(error)})") from None

    def checked(self, name: str, values: NDArray[Any], shape: tuple[int, ...]) -> Floats:
        """An output as floats.

        Args:
            name: of the output.
            values: the output.
            shape: that it must have.

        Raises:
            InputError: it has another shape, or holds no numbers.
        """
        if values.shape != shape or values.dtype.kind not in "fiub":
            raise InputError(
                f"{self.path}: output '{name}' is {values.dtype} of shape {values.shape}; numbers of shape {shape} are "
                "needed; export it again"
            )
        return values.astype(np.float64)


def _open_session(path: Path, providers: list[str] | None, threads: int) -> Any:
    """ONNX Runtime's session of a file.

    Raises:
        InputError: the file is missing or damaged, or a provider is not there.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such ONNX file")
    if threads < 0:
        raise InputError(f"threads {threads}: name 1 or more, or 0 for ONNX Runtime's own choice")
    onnxruntime, wanted = import_runtime(providers or ["cpu"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what is wrong comes as an error, and is raised
    try:
        # A second try with the CPU, which ONNX Runtime prints about, makes sense only where something else was tried.
        again = int(wanted != ["CPUExecutionProvider"])
        session = onnxruntime.InferenceSession(str(path), options, wanted, enable_fallback=again)
    except Exception as error:  # ONNX Runtime's errors have no common base of their own
        raise InputError(f"{path}: not a readable ONNX file ({first_line(error)})") from None
    if missing := [name for name in wanted if name not in session.get_providers()]:
        raise not_started(missing[0])
    return session


def _port(entry: Any) -> Port:
    """An input or output as ONNX Runtime describes it; its types are such as "tensor(float)"."""
    kind = str(entry.type).removeprefix("tensor(").removesuffix(")")
    shape = tuple(side if isinstance(side, int) else None for side in entry.shape)
    return Port(entry.name, shape, {"float": "float32", "double": "float64"}.get(kind, kind))
