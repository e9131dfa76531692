"""A bulk prediction's folder as COCO results, JSON lines, tables and the other formats of `FORMATS`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from calipose.bulk.schema import entry_of_row
from calipose.bulk.store import HEADER, ResultFolder
from calipose.errors import InputError
from calipose.formats.entries import Entry, Target
from calipose.formats.table import FORMATS
from calipose.skeleton import Skeleton


def read_rows(place: str) -> Iterator[dict[str, Any]]:
    """The rows of a folder that `predict_bulk` wrote, one by one.

    Args:
        place: the folder, or its URI.

    Raises:
        InputError: there is no such folder, or a file in it is damaged.
    """
    folder = ResultFolder(place)
    _header(folder)
    for batch in folder.batches():
        yield from batch.to_pylist()


def convert(place: str, target: Target, name: str = "coco") -> tuple[int, int]:
    """Write the poses of a folder that `predict_bulk` wrote in another format, in memory that does not grow with them.

    Args:
        place: the folder, or its URI.
        target: a file, which appears whole or not at all, or a text stream.
        name: of a format in `FORMATS`.

    Returns:
        The number of images that were written, and of broken ones, which have no poses.

    Raises:
        InputError: there is no such folder or format, or the file cannot be written.

    Example:
        >>> convert("poses", "results.json", "coco")
        (4950, 50)
    """
    if name not in FORMATS:
        raise InputError(f"unknown format '{name}'; use one of {', '.join(FORMATS)}")
    if not FORMATS[name].takes_images:
        raise InputError(f"format '{name}' holds frames of videos only; {place} is of images")
    skeleton = Skeleton.from_dict(_header(ResultFolder(place)).get("skeleton"), f"{place}/{HEADER}")
    written = broken = 0

    def entries() -> Iterator[Entry]:
        nonlocal written, broken
        for row in read_rows(place):
            if row["error"] is None:
                written += 1
                yield entry_of_row(row, skeleton)
            else:
                broken += 1

    FORMATS[name].write(target, entries(), skeleton)
    return written, broken


def _header(folder: ResultFolder) -> dict[str, Any]:
    header = folder.header()
    if header is None:
        raise InputError(f"{folder.place}: no {HEADER} there; name a folder that calipose bulk wrote")
    return header
