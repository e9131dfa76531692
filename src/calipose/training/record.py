"""What a training writes down of itself: the lines of `history.jsonl`, and TensorBoard's scalars where installed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from calipose.io.atomic import replacing, write_errors
from calipose.plain_data import parse_json

TENSORBOARD = "tensorboard"  # folder in that of a run

Scalars = Callable[[str, float, int], None]


class Record:
    """The history of one training, in its run folder.

    Args:
        out: the run folder.

    Attributes:
        history: the lines so far; after resuming, and of validation, in the main process only.

    Example:
        >>> record = Record(Path("runs/first"))
        >>> with record.open(main=True):
        ...     record.add({"step": 20, "epoch": 1, "total": 3.2})
    """

    def __init__(self, out: Path) -> None:
        self.history: list[dict[str, Any]] = []
        self._path, self._folder = out / "history.jsonl", out / TENSORBOARD
        self._main = False
        self._scalars: Scalars = _no_scalars

    def read(self, lines: int) -> None:
        """Take the first lines of an earlier part of the training, where there are any.

        Raises:
            InputError: a line is not JSON.
        """
        if self._path.exists():
            kept = self._path.read_text().splitlines()[:lines]
            self.history = [parse_json(line, str(self._path)) for line in kept]

    def rewrite(self) -> None:
        """Write the file anew, with the lines so far.

        Raises:
            WriteError: the file cannot be written.
        """
        with replacing(self._path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in self.history))

    @contextlib.contextmanager
    def open(self, main: bool) -> Iterator[None]:
        """A block in which lines may be added.

        Args:
            main: whether this process writes; of several, one does.

        Raises:
            WriteError: TensorBoard's folder cannot be written to.
        """
        self._main = main
        with self._tensorboard() if main else contextlib.nullcontext(_no_scalars) as self._scalars:
            yield

    def add(self, line: dict[str, Any]) -> None:
        """Add a line, with `step` and `epoch`, and write it.

        Raises:
            WriteError: the run folder cannot be written to.
        """
        self.history.append(line)
        if not self._main:
            return
        with write_errors(self._path), self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        with write_errors(self._folder):
            for name, value in line.items():
                if name not in {"step", "epoch"}:
                    self._scalars(name, value, line["step"])

    @contextlib.contextmanager
    def _tensorboard(self) -> Iterator[Scalars]:
        """TensorBoard's scalars, where it is installed."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            yield _no_scalars
            return
        with write_errors(self._folder):
            writer = SummaryWriter(str(self._folder))
        try:
            yield writer.add_scalar
        finally:
            with write_errors(self._folder):
                writer.close()


def _no_scalars(name: str, value: float, step: int) -> None:
    """Where TensorBoard is not installed."""
