"""The backend that runs an exported network in ONNX Runtime; needs no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from calipose.calibration.maps import Calibration
from calipose.config.settings import PredictSettings
from calipose.errors import InputError
from calipose.inference.backends.base import BatchCandidates
from calipose.skeleton import Skeleton

METADATA_KEY = "calipose"


class OnnxBackend:
    """An ONNX file that `calipose export` wrote (docs/onnx.md).

    Args:
        path: the file.
        providers: of ONNX Runtime, by full or short name ("cuda" for CUDAExecutionProvider); by default the CPU's.
        threads: of one network run; 0 for ONNX Runtime's own choice.

    Attributes:
        settings: of prediction, as exported.
        calibration: of the model. The graph applies it to its own calibrated outputs; `candidates` reads the raw ones.
        header: all that the file says of itself.

    Raises:
        InputError: the file is missing, damaged, or not Calipose's, or a provider is not there.
    """

    def __init__(self, path: str | Path, providers: list[str] | None = None, threads: int = 0) -> None:
        self._session, self.header = open_session(path, providers, threads)
        self.skeleton = Skeleton.from_dict(self.header.get("skeleton"), str(path))
        try:
            r, g, b = self.header["pad_colour"]
            self.pad_colour = (int(r), int(g), int(b))
            self.settings = msgspec.convert(self.header["predict"], PredictSettings)
            outputs = set(self.header["outputs"])
            if "keypoint_scores" in outputs and "raw_keypoint_scores" not in outputs:
                raise ValueError("no output raw_keypoint_scores")
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: its metadata cannot be used ({error!r}); export it again") from None
        self.calibration = Calibration.from_dict(self.header.get("calibration", {}), str(path))
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """The file's own outputs by name, for `images` (b, h, w, 3) RGB; see docs/onnx.md."""
        outputs = self._session.run(self._outputs, {"images": np.ascontiguousarray(images)})
        return {name: np.asarray(output) for name, output in zip(self._outputs, outputs, strict=True)}

    def candidates(self, images: NDArray[np.uint8], max_poses: int, flip: bool) -> BatchCandidates:
        """See `Backend.candidates`; poses that the graph's NMS drops are among them, as with torch.

        Raises:
            InputError: `flip`, which needs the maps of both images.
        """
        if flip:
            raise InputError("flip needs the checkpoint and torch; an ONNX file predicts once")
        found = self.run(images)
        floats = {
            name: values[:, :max_poses].astype(np.float64) for name, values in found.items()
        }  # the best come first
        return BatchCandidates(floats["keypoints"], floats["raw_scores"], floats.get("raw_keypoint_scores"))


def open_session(path: str | Path, providers: list[str] | None = None, threads: int = 0) -> tuple[Any, dict[str, Any]]:
    """ONNX Runtime's session of one of our files, and what the file says of itself.

    Args:
        path: the file.
        providers: of ONNX Runtime, by full or short name; by default the CPU's.
        threads: of one network run; 0 for ONNX Runtime's own choice.

    Raises:
        InputError: the file is missing, damaged, or not Calipose's, or a provider is not there.
    """
    import onnxruntime

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such ONNX file")
    if threads < 0:
        raise InputError(f"threads {threads}: name 1 or more, or 0 for ONNX Runtime's own choice")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    wanted = find_providers(providers or ["cpu"], onnxruntime.get_available_providers())
    try:
        session = onnxruntime.InferenceSession(str(path), options, wanted)
        header: dict[str, Any] = json.loads(session.get_modelmeta().custom_metadata_map[METADATA_KEY])
    except KeyError:
        raise InputError(f"{path}: an ONNX file, but not one that calipose export wrote") from None
    except Exception as error:  # ONNX Runtime's errors have no common base of their own
        raise InputError(f"{path}: not a readable ONNX file ({str(error).splitlines()[0]})") from None
    if missing := [name for name in wanted if name not in session.get_providers()]:
        raise InputError(f"ONNX Runtime could not start {missing[0]}; are its libraries installed?")
    return session, header


def find_providers(wanted: list[str], there: list[str]) -> list[str]:
    """Full names of ONNX Runtime's providers, of which `there` are available.

    Raises:
        InputError: one of them is not there.
    """
    by_name = {name.lower(): name for name in there}
    by_name |= {name.lower().removesuffix("executionprovider"): name for name in there}
    for name in wanted:
        if name.lower() not in by_name:
            raise InputError(f"ONNX Runtime has no provider '{name}' here; there are {', '.join(there)}")
    return [by_name[name.lower()] for name in wanted]
