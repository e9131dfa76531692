"""The backend that runs an exported network in ONNX Runtime; needs no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calipose.errors import InputError
from calipose.recipe import PredictSettings
from calipose.skeleton import Skeleton

METADATA_KEY = "calipose"


class OnnxBackend:
    """An ONNX file that `calipose export` wrote.

    Args: `providers` of ONNX Runtime, by default the CPU's; `threads`, 0 for its own choice.

    Raises:
        InputError: the file is missing, damaged, or not Calipose's, or a provider is not there.
    """

    def __init__(self, path: str | Path, providers: list[str] | None = None, threads: int = 0) -> None:
        import onnxruntime

        path = Path(path)
        if not path.is_file():
            raise InputError(f"{path}: no such ONNX file")
        there = onnxruntime.get_available_providers()
        wanted = providers or ["CPUExecutionProvider"]
        for name in wanted:
            if name not in there:
                raise InputError(f"ONNX Runtime has no provider '{name}' here; there are {', '.join(there)}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, wanted)
            header: dict[str, Any] = json.loads(self._session.get_modelmeta().custom_metadata_map[METADATA_KEY])
        except KeyError:
            raise InputError(f"{path}: an ONNX file, but not one that calipose export wrote") from None
        except Exception as error:  # ONNX Runtime's errors have no common base of their own
            raise InputError(f"{path}: not a readable ONNX file ({str(error).splitlines()[0]})") from None
        self.skeleton = Skeleton.from_dict(header["skeleton"], str(path))
        r, g, b = header["pad_colour"]
        self.pad_colour = (r, g, b)
        self.settings = PredictSettings(**header["predict"])

    def run(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64], None]:
        """Poses after pose NMS; see `Backend.candidates`."""
        outputs = self._session.run(["keypoints", "scores", "valid"], {"images": np.ascontiguousarray(images)})
        keypoints, scores, valid = (np.asarray(output) for output in outputs)
        return keypoints.astype(np.float64), np.where(valid, scores.astype(np.float64), -np.inf), None

    def candidates(
        self, images: NDArray[np.uint8], most: int, flip: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], None]:
        """See `Backend.candidates`; pose NMS was done in the graph, repeating it changes nothing.

        Raises:
            InputError: `flip`, which needs the maps of both pictures.
        """
        if flip:
            raise InputError("flip needs the checkpoint and torch; an ONNX file predicts once")
        keypoints, scores, _ = self.run(images)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :most]
        keypoints = np.take_along_axis(keypoints, best[..., None, None], 1)
        return keypoints, np.take_along_axis(scores, best, 1), None
