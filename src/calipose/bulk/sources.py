"""What a bulk prediction reads: images in files, rows of Parquet or tar shards, on any of pyarrow's file systems."""

from __future__ import annotations

import fnmatch
import glob
import os
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from calipose.errors import ImageError, InputError, install_hint
from calipose.io.folders import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from calipose.io.images import Image, decode_image, read_image

PARQUET_SUFFIXES, TAR_SUFFIXES, LIST_SUFFIXES = {".parquet", ".pq"}, {".tar"}, {".txt"}
IMAGE_COLUMNS = ("image", "bytes", "jpg", "png", "uri", "url", "path", "file", "file_name")  # the first that is there
ROWS_AT_ONCE = 16  # of a Parquet file with the images' bytes

Row = dict[str, Any]  # "key", and "place" (where to read), "data" (the bytes) or "error"


@dataclass
class Found:
    """What the sources hold.

    Attributes:
        files: names or URIs of images.
        shards: names or URIs of Parquet files and tars.
        videos: number of videos, which are passed over.
    """

    files: list[str]
    shards: list[str]
    videos: int = 0


def find(sources: Iterable[str]) -> Found:
    """Look for images, Parquet files and tars.

    Args:
        sources: folders (all below), patterns, images, `.parquet` and `.tar` files, `.txt` files of one name a line;
            each a path, or a URI such as `s3://bucket/folder`; and http(s) URLs of images.

    Raises:
        InputError: one of them holds nothing, or cannot be looked into.
    """
    found, seen = Found([], []), set()
    for source in sources:
        number = len(found.files) + len(found.shards)
        for name in _names(source):
            suffix = PurePosixPath(name).suffix.lower()
            if suffix in VIDEO_SUFFIXES:
                found.videos += 1
            elif name not in seen:
                seen.add(name)
                (found.shards if suffix in PARQUET_SUFFIXES | TAR_SUFFIXES else found.files).append(name)
        if len(found.files) + len(found.shards) == number and not seen:
            raise InputError(f"{source}: no images, Parquet files or tars there")
    if not seen:
        raise InputError("no images were given; name folders, patterns, Parquet files or tars")
    return found


def _names(source: str) -> Iterator[str]:
    """Absolute names, or URIs, of the files that a source stands for."""
    if source.lower().startswith(("http://", "https://")):
        yield source
        return
    if Path(source).suffix.lower() in LIST_SUFFIXES and "://" not in source:
        yield from _listed(Path(source))
    elif "://" in source:
        yield from _remote(source)
    elif os.path.isdir(source):
        for folder, folders, names in os.walk(os.path.abspath(source), onerror=_unreadable):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            yield from (os.path.join(folder, name) for name in sorted(names) if _is_wanted(name))
    elif any(sign in source for sign in "*?[") and not os.path.lexists(source):
        for match in sorted(glob.iglob(source, recursive=True)):
            if os.path.isdir(match):
                yield from _names(match)
            elif _is_wanted(os.path.basename(match)):
                yield os.path.abspath(match)
    else:
        yield os.path.abspath(source)  # a missing one becomes a row with its error


def _unreadable(error: OSError) -> None:
    raise InputError(f"folder {error.filename} cannot be read: {error.strerror}") from None


def _is_wanted(name: str) -> bool:
    suffix = os.path.splitext(name)[1].lower()
    return suffix in IMAGE_SUFFIXES | VIDEO_SUFFIXES | PARQUET_SUFFIXES | TAR_SUFFIXES and not name.startswith(".")


def _listed(path: Path) -> Iterator[str]:
    """The names in a text file, one a line; relative ones start at its folder."""
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    for line in filter(None, map(str.strip, lines)):
        yield line if "://" in line else os.path.abspath(path.parent / line)


def _remote(uri: str) -> Iterator[str]:
    """The files at a URI: one file, all below a folder, or those that a pattern matches."""
    from pyarrow.fs import FileSelector, FileType

    sign = min((uri.find(sign) for sign in "*?[" if sign in uri), default=-1)
    start = uri if sign < 0 else uri[: uri.rfind("/", 0, sign)]
    files, path = open_place(start)
    scheme = uri.partition("://")[0]
    try:
        if files.get_file_info(path).type == FileType.File:
            yield uri
            return
        infos = files.get_file_info(FileSelector(path, recursive=True))
    except OSError as error:
        raise InputError(f"{uri} cannot be looked into: {error}") from None
    pattern = uri.partition("://")[2] if sign >= 0 else "*"
    for name in sorted(info.path for info in infos if info.type == FileType.File):
        if _is_wanted(PurePosixPath(name).name) and fnmatch.fnmatchcase(name.lstrip("/"), pattern.lstrip("/")):
            yield f"{scheme}://{name}"


@lru_cache(maxsize=64)
def _file_system(scheme_and_host: str) -> tuple[Any, str]:
    try:
        from pyarrow import ArrowInvalid, ArrowNotImplementedError
        from pyarrow.fs import FileSystem
    except ModuleNotFoundError as error:
        raise InputError(f"bulk prediction needs {error.name}: {install_hint('ray')}") from None
    try:
        files, base = FileSystem.from_uri(scheme_and_host)
    except (ArrowInvalid, ArrowNotImplementedError, OSError, ValueError) as error:
        raise InputError(f"{scheme_and_host}: no file system that pyarrow reads ({error})") from None
    return files, base


def open_place(place: str) -> tuple[Any, str]:
    """The file system, pyarrow's, of a path or URI, and the path in it.

    Raises:
        InputError: there is no such file system, or pyarrow is not installed.
    """
    if "://" not in place:
        return _file_system("file:///")[0], os.path.abspath(place)
    scheme, _, rest = place.partition("://")
    host, _, path = rest.partition("/")
    files, base = _file_system(f"{scheme}://{host}/" if host else f"{scheme}:///")
    return files, f"{base.rstrip('/')}/{path}".rstrip("/")


def read_bytes(place: str) -> bytes:
    """The content of a file at a path or URI.

    Raises:
        ImageError: it cannot be read; the message names it.
    """
    try:
        files, path = open_place(place)
        with files.open_input_stream(path, compression=None) as stream:
            data: bytes = stream.read()
            return data
    except (OSError, InputError) as error:
        raise ImageError(f"image {place} cannot be read: {error}") from None


def open_image(row: Row) -> Image:
    """The image of a row.

    Returns:
        `(h, w, 3)` uint8 RGB, upright.

    Raises:
        ImageError: it cannot be read, or is no image; the message has the row's key.
    """
    if row.get("error"):
        raise ImageError(row["error"])
    if row.get("data") is not None:
        return decode_image(row["data"], row["key"])
    place = os.fsdecode(row["place"])
    if place.lower().startswith(("http://", "https://")):
        from calipose.io.fetch import fetch_image

        return fetch_image(place)
    return decode_image(read_bytes(place), row["key"]) if "://" in place else read_image(place)


def row_of_file(place: str) -> Row:
    """The row of an image in a file; a name that is no UTF-8 gets a key with its bytes written out."""
    return {"key": _text(place), "place": os.fsencode(place), "data": None, "error": None}


def _text(name: str) -> str:
    """A name as Parquet holds it: bytes that are no UTF-8 are written out."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def rows_of_shard(shard: str, column: str = "", key: str = "") -> Iterator[Row]:
    """The images of a Parquet file or tar, one by one; where it is damaged, the last row has the error.

    Args:
        shard: path or URI.
        column: of a Parquet file: bytes, names or URIs of images, or structs of "bytes" and "path"; by default the
            first of `IMAGE_COLUMNS` that is there.
        key: of a Parquet file: the column that names an image; by default its name or URI, or else SHARD#ROW.
    """
    is_tar = PurePosixPath(shard).suffix.lower() in TAR_SUFFIXES
    try:
        yield from _rows_of_tar(shard) if is_tar else _rows_of_parquet(shard, column, key)
    except (OSError, tarfile.TarError, EOFError, ValueError) as error:  # ValueError: InputError, ArrowInvalid
        message = str(error) if isinstance(error, InputError) else f"{shard} is damaged or cannot be read: {error}"
        yield {"key": _text(shard), "place": None, "data": None, "error": _text(message)}


def _rows_of_tar(shard: str) -> Iterator[Row]:
    files, path = open_place(shard)
    with files.open_input_stream(path, compression=None) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            if member.isfile() and PurePosixPath(member.name).suffix.lower() in IMAGE_SUFFIXES:
                content = tar.extractfile(member)
                assert content is not None  # a file
                yield {"key": _text(f"{shard}/{member.name}"), "place": None, "data": content.read(), "error": None}


def _rows_of_parquet(shard: str, column: str, key: str) -> Iterator[Row]:
    import pyarrow.parquet as pq

    files, path = open_place(shard)
    with files.open_input_file(path) as file:
        table = pq.ParquetFile(file)
        names = table.schema_arrow.names
        column = column or next((name for name in IMAGE_COLUMNS if name in names), "")
        for name in filter(None, (column or "image", key)):
            if name not in names:
                raise InputError(f"{shard}: no column '{name}'; there are {', '.join(names)}: name one with --column")
        number = 0
        for batch in table.iter_batches(ROWS_AT_ONCE, columns=list({column, *([key] if key else [])})):
            for row in batch.to_pylist():
                yield _row_of_value(row[column], row[key] if key else None, f"{shard}#{number}", shard)
                number += 1


def _row_of_value(value: Any, key: Any, otherwise: str, shard: str) -> Row:
    """The row of what a column holds."""
    data, name = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (None, None)
    if isinstance(value, bytes):
        data = value
    elif isinstance(value, str):
        name = value
    row: Row = {"key": otherwise, "place": None, "data": data, "error": None}
    if data is None and isinstance(name, str):
        beside = "://" in name or os.path.isabs(name)
        row |= {"key": name, "place": os.fsencode(name if beside else f"{shard.rpartition('/')[0]}/{name}")}
    elif data is None:
        row["error"] = f"{otherwise}: holds no image, but {type(value).__name__}"
    return row if key is None else {**row, "key": str(key)}
