"""Entries, one an image, and the files or streams that they are written to one by one.

An entry is what is written of one image: `{"file": ..., **poses.to_dict()}`, and for a frame of a video also its
"index" and "seconds". Writers take entries one by one, so that memory does not grow with their number.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from calipose.errors import InputError
from calipose.io.atomic import replacing, write_errors
from calipose.plain_data import parse_json

Entry = dict[str, Any]
Target = str | Path | TextIO


def read_entries(path: str | Path, keys: Iterable[str] = ("file",)) -> Iterator[Entry]:
    """The entries of a JSON lines file, one by one; a half line at its end is passed over.

    Args:
        path: the file.
        keys: what each entry must have.

    Raises:
        InputError: the file cannot be read, or a line is no entry with these keys.
    """
    try:
        with Path(path).open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    return
                where = f"{path}, line {number}"
                entry = parse_json(line, f"{where}: not from calipose predict; the line")
                if not isinstance(entry, dict) or not _is_entry(entry, keys):
                    raise InputError(f"{where}: not from calipose predict")
                yield entry
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None


def _is_entry(entry: Entry, keys: Iterable[str]) -> bool:
    """Whether an entry has these keys, and what it has is of the right type."""
    return all(key in entry for key in keys) and all(
        key not in entry or fits(entry[key]) for key, fits in _TYPES.items()
    )


_TYPES: dict[str, Callable[[Any], bool]] = {  # what an entry holds under a key
    "file": lambda value: isinstance(value, str),
    "drawing": lambda value: value is None or (isinstance(value, str) and _is_file_name(value)),
    "index": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "seconds": lambda value: value is None or (_is_number(value) and math.isfinite(value)),
    "poses": lambda value: isinstance(value, list),
}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_file_name(name: str) -> bool:
    """Whether a drawing may have the name: in the folder itself, and short enough for a file."""
    return 0 < len(os.fsencode(name)) < 256 and not set(name) & {"/", "\0"} and name not in {".", ".."}


def is_still(entry: Entry) -> bool:
    """The entry is of a still image, not of a frame of a video."""
    return "index" not in entry


@contextmanager
def open_target(target: Target) -> Iterator[TextIO]:
    """The text stream to write to: the target itself, or a file that appears whole or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    if not isinstance(target, str | Path):
        with write_errors("standard output" if target is sys.stdout else getattr(target, "name", "the stream")):
            yield target
            target.flush()
        return
    path = Path(target)
    # Names of files need not be UTF-8; surrogateescape writes their bytes as they are.
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        yield file


def flush_stream(stream: TextIO, target: Target) -> None:
    """Flush a stream, so that its reader sees every entry at once; nobody sees a file before its end."""
    if stream is target:
        stream.flush()


def write_json_list(target: Target, parts: Iterable[list[Any]]) -> None:
    """Write one JSON list, one line an element.

    Args:
        target: a file, which appears whole or not at all, or a text stream, which is flushed after each part.
        parts: the list's elements, some at a time.

    Raises:
        InputError: the file cannot be written.
    """
    with open_target(target) as stream:
        separator = "["
        for part in parts:
            for element in part:
                stream.write(f"{separator}\n{json.dumps(element)}")
                separator = ","
            flush_stream(stream, target)
        stream.write("[]\n" if separator == "[" else "\n]\n")
