"""Reading images upright, and resizing them to the network's input (OpenCV, no torch)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from calipose.errors import ImageError, install_hint
from calipose.geometry import Floats, compose_affines, invert_affine, resize_affine

Image = NDArray[np.uint8]

HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}
MAX_COPIED = 4  # times the pixels of the result that `warp` copies of an image
INPUT_MULTIPLE = 32  # the backbones' coarsest stride

# What an EXIF orientation asks for: (transpose rows and columns, then flip left-right, then flip up-down).
_ORIENTATIONS = {
    1: (False, False, False),
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}


def read_image(path: str | os.PathLike[str], ignore_orientation: bool = False) -> Image:
    """Read an image from a file, upright.

    The EXIF orientation is applied (JPEG, PNG, WebP; a TIFF's always, by its decoder), grey becomes three
    equal channels, transparency is composed onto white, and 16-bit values v become round(v / 257). Of several images
    in a file, such as an animation's, this is the first; `find_sources` gives them all.

    Args:
        path: file of any format that OpenCV decodes (JPEG, PNG, WebP, TIFF, AVIF, JPEG 2000, ...), or HEIC with the
            extra `heic`.
        ignore_orientation: leave the pixels as stored, as COCO's annotations count them.

    Returns:
        `(h, w, 3)` uint8, RGB.

    Raises:
        ImageError: the file is missing, empty, cut off, or cannot be decoded; the message names it.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"image {path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # no file can have such a name
        raise ImageError(f"image {str(path)!r} cannot be read: {error}") from None
    return decode_image(data, str(path), ignore_orientation)


def decode_image(data: bytes, name: str, ignore_orientation: bool = False) -> Image:
    """Decode the image in the bytes of a file, as `read_image` does; if the file holds several, the first.

    Args:
        data: the whole file.
        name: what messages call the image.
        ignore_orientation: leave the pixels as stored.

    Returns:
        `(h, w, 3)` uint8, RGB.

    Raises:
        ImageError: the data are empty, cut off, or cannot be decoded; the message has the name.
    """
    if not data:
        raise ImageError(f"image {name} is empty (0 bytes)")
    if not _is_complete(data):
        raise ImageError(f"image {name} is cut off: its end is missing; copy or download it again")
    if _is_heic(data):
        return _decode_heic(data, name)
    try:
        # IMREAD_UNCHANGED alone keeps alpha and 16 bits together; it ignores the orientation, applied below.
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise ImageError(f"image {name} cannot be decoded: it is damaged or not an image")
    rgb = rgb_image(pixels, name)
    return rgb if ignore_orientation else _upright(rgb, exif_orientation(data))


def rgb_image(pixels: NDArray[Any], name: str) -> Image:
    """Convert decoded pixels to RGB of 8 bits: grey in three channels, transparency composed onto white.

    Args:
        pixels: `(h, w)`, or `(h, w, c)` with 1 (grey), 3 (BGR) or 4 (BGRA) channels, as OpenCV decodes them; uint8 or
            uint16.
        name: what messages call the image.

    Returns:
        `(h, w, 3)` uint8.

    Raises:
        ImageError: the pixels are of another type or shape.
    """
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if pixels.dtype != np.uint8 or (pixels.ndim == 3 and pixels.shape[2] not in {1, 3, 4}):
        kind = f"{pixels.dtype} values, shape {pixels.shape}"
        raise ImageError(f"image {name} has {kind}; convert it to 8 or 16 bits, grey, RGB or RGBA")
    return _rgb(pixels)


def network_input(
    image: Image, short_side: int, pad_colour: ArrayLike, max_aspect: float = 2.5
) -> tuple[Image, Floats]:
    """Resize an image to the network's input: aspect kept, short side `short_side`, padded right and bottom.

    An image longer than `max_aspect` x its short side is reduced further, so that its long side is
    `max_aspect * short_side`.

    Args:
        image: `(h, w, 3)` uint8 RGB.
        short_side: length of the short side in input pixels.
        pad_colour: `(3,)` RGB, 0 to 255.
        max_aspect: long side / short side above which the image is reduced further.

    Returns:
        The input `(H, W, 3)` uint8, with H and W multiples of 32, and the `(2, 3)` affine `inp_from_img`, which is
        exactly inp + 0.5 = s (img + 0.5) with one s for both axes.
    """
    height, width = image.shape[:2]
    inp_per_img = min(short_side / min(height, width), max_aspect * short_side / max(height, width))
    affine = resize_affine(inp_per_img)
    # Rounded before the multiple is taken: 512.0000001 must not become 544.
    content = [max(1, round(side * inp_per_img)) for side in (width, height)]
    padded = [-(-side // INPUT_MULTIPLE) * INPUT_MULTIPLE for side in content]
    return warp(image, affine, (padded[0], padded[1]), pad_colour), affine


def warp(image: Image, out_from_img: Floats, size: tuple[int, int], pad_colour: ArrayLike) -> Image:
    """Warp an image by an affine, bilinearly; pixels outside of the image get `pad_colour`.

    A reduction by 2 or more is first done by averaging blocks of whole pixels (the affine is corrected for it exactly),
    since bilinear sampling alone would skip pixels.

    Args:
        image: `(h, w, 3)` uint8.
        out_from_img: `(2, 3)` affine.
        size: width and height of the result.
        pad_colour: `(3,)` RGB, 0 to 255.

    Returns:
        `(height, width, 3)` uint8.
    """
    out_per_img = float(np.linalg.norm(out_from_img[:, :2], 2))  # spectral norm: the larger scale of the two axes
    factor = min(int(1 / max(out_per_img, 1e-9) + 1e-9), max(image.shape[:2]))  # then all of it is one pixel
    if factor >= 2:
        image, small_from_img = shrink(image, factor)
        out_from_img = compose_affines(out_from_img, invert_affine(small_from_img))
    colour = (*(float(c) for c in np.asarray(pad_colour, np.float64)), 0.0)
    # With a fourth channel OpenCV warps faster and to the same pixels, if not for copying much more than is seen.
    four = image.shape[0] * image.shape[1] <= MAX_COPIED * size[0] * size[1]
    padded = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA) if four else image
    warped: Image = cv2.warpAffine(padded, out_from_img, size, flags=cv2.INTER_LINEAR, borderValue=colour)
    return cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB) if four else warped


def shrink(image: Image, factor: int) -> tuple[Image, Floats]:
    """Average blocks of `factor` x `factor` pixels; the last column and row are repeated to fill the last block.

    Returns:
        The small image and the `(2, 3)` affine to its frame, exactly that of a resize by 1 / factor.
    """
    height, width = image.shape[:2]
    down, right = -height % factor, -width % factor
    if down or right:
        image = cv2.copyMakeBorder(image, 0, down, 0, right, cv2.BORDER_REPLICATE)
    size = (image.shape[1] // factor, image.shape[0] // factor)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), resize_affine(1 / factor)


def exif_orientation(data: bytes) -> int:
    """EXIF orientation (1 to 8) in the bytes of a JPEG, PNG or WebP file; 1 where there is none.

    It is tag 0x0112 of the first directory, a TIFF structure (EXIF 2.3).
    """
    tiff = _exif_block(data)
    if tiff[:4] not in {b"II*\0", b"MM\0*"}:
        return 1

    def number(start: int, length: int) -> int:
        return int.from_bytes(tiff[start : start + length], "little" if tiff[:1] == b"I" else "big")

    directory = number(4, 4)
    for entry in range(min(number(directory, 2), len(tiff) // 12)):
        start = directory + 2 + 12 * entry
        if number(start, 2) == 0x0112:
            value = number(start + 8, 2)
            return value if value in _ORIENTATIONS else 1
    return 1


def _exif_block(data: bytes) -> bytes:
    """The TIFF structure that holds a file's EXIF entries, or nothing."""
    if data.startswith(b"\xff\xd8"):
        head = data[: jpeg_scan(data)]
        at, skip = head.find(b"Exif\0\0"), 6
    elif data.startswith(b"\x89PNG"):
        at, skip = data.find(b"eXIf"), 4
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        at, skip = data.rfind(b"EXIF"), 8
        if data[at + skip :].startswith(b"Exif\0\0"):  # some writers keep JPEG's prefix
            skip += 6
    else:
        return b""
    return data[at + skip :] if at >= 0 else b""


def jpeg_scan(data: bytes) -> int:
    """Position at which a JPEG's first scan starts (its length where it has none)."""
    offset = 2
    while offset + 4 <= len(data) and data[offset] == 0xFF and data[offset + 1] != 0xDA:
        # 0xFF is also a fill byte; every other marker before the scan has a length.
        offset += 1 if data[offset + 1] == 0xFF else 2 + int.from_bytes(data[offset + 2 : offset + 4], "big")
    return min(offset, len(data))


def _is_complete(data: bytes) -> bool:
    """Whether the format's end marker is there: decoders fill a cut-off JPEG or PNG silently."""
    if data.startswith(b"\xff\xd8"):
        # After the scan's start only: an EXIF thumbnail has an end marker of its own.
        return data.rfind(b"\xff\xd9") >= jpeg_scan(data)
    if data.startswith(b"\x89PNG"):
        return data.rfind(b"IEND") >= 0
    return True


def _is_heic(data: bytes) -> bool:
    """Whether a file is HEIC or HEIF, as telephones write it; AVIF, in the same container, is for OpenCV."""
    box = data[4 : int.from_bytes(data[:4], "big")] if data[4:8] == b"ftyp" else b""
    brands = {box[i : i + 4] for i in range(4, min(len(box), 256), 4)}
    return bool(brands & HEIC_BRANDS) and not brands & {b"avif", b"avis"}


def _decode_heic(data: bytes, name: str) -> Image:
    """The pixels of a HEIC file; its own turns and mirrors are applied by the decoder, always."""
    try:
        import pillow_heif
    except ImportError:
        raise ImageError(f"image {name} is HEIC, which needs pillow-heif: {install_hint('heic')}") from None
    try:
        file = pillow_heif.open_heif(data, convert_hdr_to_8bit=True)  # older versions free the pixels with it
        pixels = np.array(file)
    except Exception as error:  # the decoder's errors have no common base
        raise ImageError(f"image {name} cannot be decoded: it is damaged or not an image ({error})") from None
    if pixels.ndim == 3:  # RGB -> OpenCV's order
        pixels = np.ascontiguousarray(pixels[..., [2, 1, 0, *range(3, pixels.shape[2])]])
    return rgb_image(pixels, name)


def _rgb(pixels: Image) -> Image:
    """Convert grey, BGR or BGRA to RGB, alpha composed onto white."""
    if pixels.ndim == 2 or pixels.shape[2] < 4:
        grey = pixels.ndim == 2 or pixels.shape[2] == 1
        rgb: Image = cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB if grey else cv2.COLOR_BGR2RGB)
        return rgb
    alpha = pixels[..., 3:].astype(np.uint16)
    colour = pixels[..., 2::-1]
    composed = (colour * alpha + 255 * (255 - alpha).astype(np.uint32) + 127) // 255
    return composed.astype(np.uint8)


def _upright(image: Image, orientation: int) -> Image:
    transpose, mirror, upend = _ORIENTATIONS[orientation]
    if transpose:
        image = image.transpose(1, 0, 2)
    image = image[:: -1 if upend else 1, :: -1 if mirror else 1]
    return np.ascontiguousarray(image)
