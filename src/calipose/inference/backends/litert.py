"""TensorFlow Lite files, run by LiteRT (the extra `litert`)."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calipose.errors import InputError, first_line, install_hint
from calipose.inference.foreign.base import Port


class LiteFile:
    """A .tflite file, open in LiteRT; pickled, it is opened again from its path. See `foreign.base.Graph`.

    Args:
        path: the file.
        threads: of one run; 0 for LiteRT's own choice.

    Raises:
        InputError: LiteRT is not installed, or the file is missing or damaged.
    """

    def __init__(self, path: str | Path, threads: int = 0) -> None:
        self.path = Path(path)
        self._again = self.path.absolute(), threads
        if not self.path.is_file():
            raise InputError(f"{path}: no such .tflite file")
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise InputError(f"{path}: .tflite files need LiteRT: {install_hint('litert')}") from None
        try:
            self._interpreter = Interpreter(model_path=str(self.path), num_threads=threads or None)
            inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        except Exception as error:  # LiteRT raises ValueError and RuntimeError, and may raise others
            raise InputError(f"{path}: not a readable .tflite file ({first_line(error)})") from None
        self.input_ports = [_port(entry) for entry in inputs]
        self.output_ports = [_port(entry) for entry in outputs]
        self.metadata: Mapping[str, str] = {}
        self._inputs = {entry["name"]: entry for entry in inputs}
        self._outputs = {entry["name"]: entry for entry in outputs}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._lock = threading.Lock()  # an interpreter holds its tensors

    def __reduce__(self) -> tuple[type[LiteFile], tuple[Path, int]]:
        return LiteFile, self._again  # an interpreter lives in this process alone

    def run(self, outputs: list[str], feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs of these names.

        Args:
            outputs: names.
            feeds: the inputs by name.

        Raises:
            InputError: LiteRT cannot run the file with these inputs.
        """
        try:
            with self._lock:
                if self._shapes != (shapes := {name: values.shape for name, values in feeds.items()}):
                    for name, shape in shapes.items():
                        self._interpreter.resize_tensor_input(self._inputs[name]["index"], shape)
                    self._interpreter.allocate_tensors()
                    self._shapes = shapes
                for name, values in feeds.items():
                    self._interpreter.set_tensor(self._inputs[name]["index"], values)
                self._interpreter.invoke()
                return [np.array(self._interpreter.get_tensor(self._outputs[name]["index"])) for name in outputs]
        except Exception as error:
            raise InputError(f"{self.path}: LiteRT cannot run it ({first_line(error)})") from None


def _port(entry: Mapping[str, Any]) -> Port:
    free = entry.get("shape_signature", entry["shape"])
    shape = tuple(None if side < 0 else int(side) for side in free)
    return Port(str(entry["name"]), shape, np.dtype(entry["dtype"]).name)
