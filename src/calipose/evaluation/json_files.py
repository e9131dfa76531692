"""JSON files of annotations and results, read into typed structs; what other tools write otherwise is mended first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from calipose.errors import InputError
from calipose.plain_data import convert, parse_json


def read_json(path: str | Path, name: str, kind: Any = Any, mend: Callable[[Any], Any] | None = None) -> Any:
    """The content of a JSON file, checked; the file is opened once.

    Args:
        path: the file.
        name: of the file in messages.
        kind: type of the content, as msgspec takes it.
        mend: as `checked`.

    Raises:
        InputError: unreadable, or of another type.
    """
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: {getattr(error, 'strerror', None) or error}") from None
    return decode_json(data, name, kind, mend)


def decode_json(data: bytes, name: str, kind: Any = Any, mend: Callable[[Any], Any] | None = None) -> Any:
    """The content of a JSON file's bytes, as `read_json` gives it.

    Raises:
        InputError: not JSON, or of another type.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (ValueError, RecursionError):  # slower, but it knows NaN, which is refused later with its place in the file
        return checked(parse_json(data, name), name, kind, mend)


def checked(content: Any, name: str, kind: Any, mend: Callable[[Any], Any] | None = None) -> Any:
    """Plain objects as structs.

    Args:
        content: the objects.
        name: of their file in messages.
        kind: type of the content, as msgspec takes it.
        mend: makes of content that does not fit what may fit.

    Raises:
        InputError: the content is of another type.
    """
    if mend is None:
        return convert(content, kind, name)
    try:
        return convert(content, kind, name)
    except InputError:
        return convert(mend(content), kind, name)
