"""Formats of many small files, which are written as one .zip."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath

from calipose.errors import InputError
from calipose.formats.entries import Entry, Target, is_still
from calipose.io.atomic import replacing

Add = Callable[[str, str], None]


@contextmanager
def open_zip(target: Target) -> Iterator[Add]:
    """A function that adds a file to a new .zip, by name and text; the .zip appears whole or not at all.

    The same poses give the same bytes: files carry no times.

    Raises:
        InputError: the target is a stream, or cannot be written.
    """
    if not isinstance(target, str | Path):
        raise InputError("a .zip cannot be written to a stream; name a file")
    with replacing(Path(target)) as temporary, zipfile.ZipFile(temporary, "w") as file:

        def add(name: str, text: str) -> None:
            readable = name.encode("utf-8", "replace").decode()
            file.writestr(zipfile.ZipInfo(readable), text, zipfile.ZIP_DEFLATED)

        yield add


def unique_stems() -> Callable[[Entry], str]:
    """A function that gives each still image, and each video, the stem of its file's name, no stem twice.

    A second `photo` is called `photo_2`; a video keeps its stem through all its frames.
    """
    by_file: dict[str, str] = {}
    taken: set[str] = set()

    def stem(entry: Entry) -> str:
        file = str(entry["file"])
        if not is_still(entry) and file in by_file:
            return by_file[file]
        plain = PurePath(file.replace("\\", "/").split("?")[0]).stem or "image"
        name, number = plain, 1
        while name in taken:
            number += 1
            name = f"{plain}_{number}"
        taken.add(name)
        by_file[file] = name
        return name

    return stem
