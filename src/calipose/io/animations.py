"""Image files that hold several images: animations, and TIFFs of several pages (no image is decoded)."""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

PNG = b"\x89PNG\r\n\x1a\n"
GIF = (b"GIF87a", b"GIF89a")
TIFF = {b"II*\0": "<", b"MM\0*": ">"}  # byte orders


def holds_several(path: Path) -> bool:
    """Whether a GIF, PNG, WebP or TIFF file holds more than one image.

    The file is read up to the second image's start, whatever its suffix.

    Args:
        path: the file.

    Returns:
        False also for a file that cannot be read, or is damaged before the second image.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe can be read once only
            return False
        with path.open("rb") as file:
            head = file.read(12)
            file.seek(0)
            if head.startswith(GIF):
                return _gif_images(file) > 1
            if head.startswith(PNG):
                return _png_images(file) > 1
            if is_webp(head):
                return len(_webp_durations(file)) > 1
            if head[:4] in TIFF:
                return _tiff_has_more(file, TIFF[head[:4]])
    except (OSError, ValueError, struct.error, IndexError):
        return False
    return False


def is_webp(head: bytes) -> bool:
    """Whether a file is a WebP, by its first 12 bytes."""
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP"


def webp_durations(path: Path) -> list[int] | None:
    """How long each image of an animated WebP is shown, in milliseconds.

    Args:
        path: the file.

    Returns:
        None for a file of another kind, or one that cannot be read; nothing for a WebP that is no animation.
    """
    try:
        with path.open("rb") as file:
            if not is_webp(file.read(12)):
                return None
            file.seek(0)
            return _webp_durations(file)
    except (OSError, ValueError, struct.error):
        return None


def is_cut_off(path: Path) -> bool:
    """Whether a file is a GIF that ends within an image, or a PNG without its end: FFmpeg shows them as if whole."""
    try:
        with path.open("rb") as file:
            head = file.read(len(PNG))
            if head == PNG:
                return b"IEND" not in file.read()
            if head.startswith(GIF):
                file.seek(0)
                _gif_images(file, None)
    except IndexError:
        return True
    except OSError:
        return False
    return False


def _gif_images(file: BinaryIO, enough: int | None = 2) -> int:
    """How many images there are, up to so many, as sections 18 to 27 of the GIF89a specification say.

    Raises:
        IndexError: the file ends within an image.
    """

    def skip_colours(flags: int) -> None:
        if flags & 0x80:
            file.seek(3 << (1 + (flags & 7)), 1)

    def skip_blocks() -> None:
        while size := file.read(1)[0]:
            file.seek(size, 1)

    skip_colours(file.read(13)[10])
    found = 0
    while found != enough:
        kind = file.read(1)
        if kind == b"!":  # an extension: times, comments
            file.seek(1, 1)
        elif kind == b",":
            found += 1
            skip_colours(file.read(9)[8])
            file.seek(1, 1)
        else:
            break
        if found != enough:
            skip_blocks()
    return found


def _png_images(file: BinaryIO) -> int:
    """The number that an animated PNG says before its first image (PNG specification, "acTL"), else 1."""
    file.seek(len(PNG))
    while True:
        size, kind = struct.unpack(">I4s", file.read(8))
        if kind == b"acTL":
            return int(struct.unpack(">I", file.read(4))[0])
        if kind == b"IDAT":
            return 1
        file.seek(size + 4, 1)


def _webp_durations(file: BinaryIO) -> list[int]:
    """How long each frame is shown, in milliseconds (WebP container specification, "Animation")."""

    def chunks() -> Iterator[tuple[bytes, bytes]]:
        file.seek(12)
        while len(head := file.read(8)) == 8:
            kind, size = struct.unpack("<4sI", head)
            begin = file.read(min(size, 16))
            yield kind, begin
            file.seek(size + size % 2 - len(begin), 1)

    return [int.from_bytes(begin[12:15], "little") for kind, begin in chunks() if kind == b"ANMF"]


def _tiff_has_more(file: BinaryIO, order: str) -> bool:
    """A second directory follows the first (TIFF 6.0, section 2)."""
    file.seek(4)
    file.seek(struct.unpack(f"{order}I", file.read(4))[0])
    entries = struct.unpack(f"{order}H", file.read(2))[0]
    file.seek(12 * entries, 1)
    return bool(struct.unpack(f"{order}I", file.read(4))[0])
