"""An image's width and height from the head of its file, without its pixels."""

from __future__ import annotations

from pathlib import Path

from calipose.errors import ImageError
from calipose.io.images import decode_image, exif_orientation, jpeg_scan

HEAD_BYTES = 1 << 16  # of a JPEG that are read first; what stands before its pixels is rarely longer
SHORTEST = 30  # bytes, of the heads of PNG, WebP and BMP
FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # a JPEG's markers that say its size


def image_size(path: Path) -> tuple[tuple[int, int], int]:
    """Width and height as stored, and the EXIF orientation (1 to 8; 1 is upright).

    JPEG, PNG, WebP and BMP say them in their first bytes, so an image whose pixels are damaged is not noticed. Images
    of other forms are decoded.

    Args:
        path: of the image.

    Raises:
        ImageError: the file is missing, empty, or no image; the message names it.
    """
    try:
        with path.open("rb") as file:
            data = file.read(HEAD_BYTES)
            # The head of a JPEG ends before its scan; the EXIF entries of other forms may stand at their end.
            if not (data.startswith(b"\xff\xd8") and jpeg_scan(data) < len(data)):
                data += file.read()
    except (OSError, ValueError) as error:
        raise ImageError(f"image {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    size = _size(data)
    if size is None or min(size) < 1:
        height, width = decode_image(path.read_bytes(), str(path), ignore_orientation=True).shape[:2]
        size = width, height
    return size, exif_orientation(data)


def _size(data: bytes) -> tuple[int, int] | None:
    """Width and height as the first bytes of a file say them; None where they do not."""
    if data.startswith(b"\xff\xd8"):
        return _jpeg_size(data)
    if len(data) < SHORTEST:
        return None
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR":
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp_size(data)
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") >= 40:
        width, height = (int.from_bytes(data[i : i + 4], "little", signed=True) for i in (18, 22))
        return width, abs(height)  # below 0 where the rows begin at the top
    return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    offset, end = 2, jpeg_scan(data)
    while offset + 9 <= end:
        marker = data[offset + 1]
        if marker in FRAMES:
            height, width = (int.from_bytes(data[i : i + 2], "big") for i in (offset + 5, offset + 7))
            return width, height
        offset += 1 if marker == 0xFF else 2 + int.from_bytes(data[offset + 2 : offset + 4], "big")
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Of WebP's three forms: lossy, lossless, and extended without animation (RFC 9649, section 2)."""
    if data[12:16] == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    if data[12:16] == b"VP8L" and data[20:21] == b"\x2f":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if data[12:16] == b"VP8X" and not data[20] & 2:
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    return None
