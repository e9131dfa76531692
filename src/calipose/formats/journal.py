"""The journal of a prediction: a JSON lines file that grows while poses are found."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from calipose.formats.entries import read_entries
from calipose.io.atomic import replacing, write_errors
from calipose.poses import Poses


class Journal:
    """A JSON lines file to which an entry is added as soon as its poses are found: an interruption loses nothing.

    An entry has "file", "drawing" (name of the drawing, or None) and what `Poses.to_dict` gives. The file is touched
    at the first entry that is added, not earlier.

    Example:
        with Journal("poses.jsonl", resume=True) as journal:
            if "photo.jpg" not in journal.done:
                journal.add("photo.jpg", None, predictor.predict("photo.jpg"))

    Args:
        path: the file; its folder must exist when the first entry is added.
        resume: keep the entries that are there. A half line at the end, which an interruption left, is cut off. False:
            the new file replaces the old one.

    Attributes:
        earlier: the drawing's name, by file, of all entries that were there at the start.
        done: files whose entries are in the journal and stay. A file that is taken out of it before the first `add`
            loses its entry, so that a new one can be written.

    Raises:
        InputError: the file is no journal of a prediction.
    """

    def __init__(self, path: str | Path, resume: bool = False) -> None:
        self.path = Path(path)
        self.earlier: dict[str, str | None] = {}
        if self.path.exists():
            self.earlier = {entry["file"]: entry["drawing"] for entry in read_entries(self.path, ("file", "drawing"))}
        self.done = set(self.earlier) if resume else set()
        self._file: BinaryIO | None = None

    def add(self, file: str, drawing: str | None, poses: Poses) -> None:
        """Add an image's entry; when this returns, it is in the file, and when it raises, nothing of it is.

        Args:
            file: the image, as its source is named.
            drawing: name of the drawing, or None where there is none.
            poses: of the image.

        Raises:
            InputError: the file cannot be written.
        """
        with write_errors(self.path):
            if self._file is None:
                self._open()
            assert self._file is not None
            _write_whole(self._file, json.dumps({"file": file, "drawing": drawing, **poses.to_dict()}) + "\n")
        self.done.add(file)

    def drop(self) -> None:
        """Remove the earlier entries of files that are not in `done`, which the first `add` would do, too.

        Raises:
            InputError: the file cannot be written.
        """
        if self._file is None and not self.done >= self.earlier.keys():
            with write_errors(self.path):
                self._open()

    def close(self) -> None:
        """Close the file; adding opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> None:
        """Open for appending, after the entries that stay."""
        # A copy is made only where a line goes: a disk that was full may hold no second one.
        if self.path.exists() and not (self.done >= self.earlier.keys() and _ends_with_a_line(self.path)):
            with replacing(self.path) as temporary, temporary.open("wb") as kept, self.path.open("rb") as lines:
                for line in lines:
                    if line.endswith(b"\n") and json.loads(line)["file"] in self.done:
                        kept.write(line)
        self._file = self.path.open("ab", buffering=0)  # what a full disk refuses must not wait for the file's close


def _ends_with_a_line(path: Path) -> bool:
    """The file has no half line at its end."""
    with path.open("rb") as file:
        return not file.seek(0, os.SEEK_END) or (file.seek(-1, os.SEEK_END) >= 0 and file.read() == b"\n")


def _write_whole(file: BinaryIO, line: str) -> None:
    """Append a line, or nothing of it where the disk has no space for it all."""
    end = file.seek(0, os.SEEK_END)
    data = memoryview(line.encode())
    try:
        while data:
            data = data[file.write(data) :]  # near the end of the space, the first write takes a part
    except OSError:
        file.truncate(end)
        raise
