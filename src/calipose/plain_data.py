r"""Reading what a JSON or TOML file holds: whatever is in it, the outcome is plain data or an InputError with its name.

JSON may hold more than a program can use: half a character ("\ud800"), numbers of thousands of digits, or lists that
are nested a million deep. NaN and infinity are let through, since the readers refuse them with their place in the file.
Of a key that stands twice, the last value counts, as everywhere.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from calipose.errors import InputError

T = TypeVar("T")

_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
# Python's stand-ins for the bytes of a file name that is no UTF-8, U+DC80 to U+DCFF, are fine: they are such a name.
_HALF_CHARACTER = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def parse_json(data: bytes | str, name: str) -> Any:
    """The content of a JSON file.

    Args:
        data: the file's bytes, or its text.
        name: what messages call the file.

    Raises:
        InputError: not JSON, not UTF-8, nested too deeply, a number too long to read, or text with half a character.
    """
    try:
        text = data if isinstance(data, str) else data.decode(json.detect_encoding(data))
        content = json.loads(text)
    except RecursionError:
        raise InputError(f"{name} is not valid JSON: lists or objects are nested too deeply") from None
    except ValueError as error:
        raise InputError(f"{name} is not valid JSON: {error}") from None
    if _SURROGATE_ESCAPE.search(text):
        _refuse_half_characters(content, name)
    return content


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """The content of a TOML file.

    Args:
        text: of the file.
        name: what messages call the file.

    Raises:
        InputError: not TOML, nested too deeply, or a number too long to read.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise InputError(f"{name}: lists or tables are nested too deeply") from None
    except ValueError as error:
        raise InputError(f"{name}: {error}") from None


def convert(content: object, kind: type[T], name: str) -> T:
    """Plain lists, numbers and text as a typed object.

    Args:
        content: what a file held.
        kind: the type, as msgspec takes it.
        name: what messages call the content.

    Raises:
        InputError: a field is missing, unknown, of the wrong type or too large, or the object refuses its values.
    """
    try:
        return msgspec.convert(content, kind)
    except RecursionError:
        raise InputError(f"{name}: lists or objects are nested too deeply") from None
    except (ValueError, TypeError, OverflowError) as error:  # ValidationError and InputError are ValueErrors
        raise InputError(f"{name}: {error}") from None


def as_builtins(value: Any) -> Any:
    """Lists, dictionaries and numbers for what Python users pass instead: arrays and their scalars, tuples, mappings.

    Arrays are all that has a `tolist`, as those of numpy and torch.
    """
    if isinstance(value, Mapping):
        return {key: as_builtins(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [as_builtins(entry) for entry in value]
    return value.tolist() if hasattr(value, "tolist") else value


def _refuse_half_characters(content: object, name: str) -> None:
    """Raise where a text holds a surrogate without its other half, which no file and no terminal takes."""
    waiting: list[tuple[str, object]] = [("$", content)]
    while waiting:
        where, value = waiting.pop()
        if isinstance(value, str) and _HALF_CHARACTER.search(value):
            raise InputError(f"{name}: {where} holds {ascii(value)[:80]}, which has half a character; write it anew")
        if isinstance(value, dict):
            for key, item in value.items():
                waiting.append((f"a key in {where}", key))
                waiting.append((f"{where}.{ascii(key)[1:-1]}", item))
        elif isinstance(value, list):
            waiting.extend((f"{where}[{index}]", item) for index, item in enumerate(value))
