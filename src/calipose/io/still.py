"""One image in whatever form Python holds it: a file, a URL, bytes, an array, a PIL image (no torch)."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from calipose.errors import ImageError, InputError
from calipose.io.folders import VIDEO_SUFFIXES
from calipose.io.images import Image, decode_image, read_image, rgb_image

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

STILLS = "a file, a URL, a file's bytes, a PIL image, or an array (h, w, 3) RGB or (h, w) grey of uint8"

StillImage: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | NDArray[Any] | PilImage"


def still_image(value: Any, name: str = "image") -> Image:
    """One image in whatever form Python holds it; files and URLs are read.

    Args:
        value: a file's path; an `http://` or `https://` URL; the bytes of a file, or an open binary file; a PIL image;
            an array `(h, w, 3)` RGB or `(h, w)` grey, uint8, of numpy or of whatever numpy converts, such as a torch
            tensor on the CPU.
        name: what messages call the image, where it has no name of its own.

    Returns:
        `(h, w, 3)` uint8 RGB, upright.

    Raises:
        ImageError: it cannot be read or is no image; the message says what is needed.

    Example:
        >>> still_image(Path("photo.jpg").read_bytes()).shape
        (480, 640, 3)
    """
    if isinstance(value, str | os.PathLike):
        if isinstance(value, str) and re.match("https?://", value, re.IGNORECASE):
            from calipose.io.fetch import fetch_image

            return fetch_image(value)
        try:
            return read_image(value)
        except ImageError as error:
            if Path(value).suffix.lower() in VIDEO_SUFFIXES:
                raise ImageError(f"{error}; find_sources reads the frames of a video") from None
            raise
    if isinstance(value, bytes | bytearray | memoryview):
        return decode_image(bytes(value), name)
    if is_pil_image(value):
        return _pil_image(value, name)
    if hasattr(value, "__array__"):
        return _array_image(_array(value, name), name)
    if callable(getattr(value, "read", None)):
        return _file_image(value, name)
    raise ImageError(f"{name} is {type(value).__name__}; {STILLS} is needed")


def read_several(sources: Iterable[StillImage]) -> tuple[list[Image], InputError | None]:
    """The images, up to the first that cannot be read, and what is wrong with that one.

    Args:
        sources: each as `still_image` takes it.
    """
    images: list[Image] = []
    try:
        for source in sources:
            images.append(still_image(source))
    except InputError as error:
        return images, error
    return images, None


def several_images(images: Any, batch_size: int) -> Iterator[Any]:
    """The items of what `predict_many` was given, if they can be taken in batches of that size.

    Raises:
        InputError: it is one image, whose letters, bytes or rows are not meant, or nothing of which there are several;
            or `batch_size` is below 1.
    """
    if batch_size < 1:
        raise InputError(f"batch_size {batch_size}: at least one image goes through the network")
    array = hasattr(images, "__array__") and hasattr(images, "shape")
    one = isinstance(images, str | bytes | bytearray | memoryview | os.PathLike) or hasattr(images, "read")
    if one or (array and len(images.shape) in {2, 3}) or not isinstance(images, Iterable):
        raise InputError(
            f"predict_many was given one {type(images).__name__}; it takes several images, such as a list of them; "
            "for one there is predict"
        )
    return iter(images)


def is_pil_image(value: object) -> bool:
    """Whether it is an image of Pillow, which is not imported for that."""
    pil = sys.modules.get("PIL.Image")  # where it was never imported, nothing can be its image
    return pil is not None and isinstance(value, pil.Image)


def is_foreign_array(value: object) -> bool:
    """An array of another library, such as a torch tensor; one of one axis may be a column of file names."""
    return hasattr(value, "__array__") and getattr(value, "ndim", 1) > 1 and hasattr(value, "dtype")


def _array(value: Any, name: str) -> NDArray[Any]:
    """What numpy makes of an array of another library.

    Raises:
        ImageError: it makes nothing of it, such as of a tensor on a GPU.
    """
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # torch: on a GPU, or with gradients
        kind = type(value).__name__
        raise ImageError(f"{name} is a {kind} that numpy does not take ({error}); give it as a numpy array") from None


def _array_image(array: NDArray[Any], name: str) -> Image:
    array = _array(array, name)
    grey = array.ndim == 2
    if array.dtype != np.uint8 or not (grey or (array.ndim == 3 and array.shape[2] == 3)) or not array.size:
        needed = "(h, w, 3) RGB or (h, w) grey of uint8 is needed"
        raise ImageError(f"{name} holds {array.dtype} of shape {array.shape}; {needed}{_advice(array)}")
    # Contiguous: OpenCV does not take every view, such as one that is mirrored.
    return rgb_image(np.ascontiguousarray(array), name) if grey else np.ascontiguousarray(array)


def _advice(array: NDArray[Any]) -> str:
    """How to make an image of an array that is none, where that can be guessed; as the end of a message."""
    if array.ndim == 4:
        return "; give the images of a batch one by one"
    if array.ndim == 3 and array.shape[0] in {1, 3, 4} and array.shape[2] not in {1, 3, 4}:
        return "; the channels come last: numpy.moveaxis(array, 0, -1), tensor.permute(1, 2, 0)"
    if array.ndim == 3 and array.shape[2] == 4:
        return "; leave the fourth channel out, or give a PIL image, whose transparency is composed onto white"
    if array.ndim == 3 and array.shape[2] == 1:
        return "; leave the axis of one channel out: array[..., 0]"
    if array.dtype.kind == "f":
        return "; numbers in [0, 1] become (255 * array).round().astype('uint8')"
    return ""


def _file_image(file: Any, name: str) -> Image:
    """An image in an open binary file, from where it stands."""
    named = getattr(file, "name", None)
    name = named if isinstance(named, str) else name
    try:
        data = file.read()
    except (OSError, ValueError) as error:  # ValueError: closed, or opened as text
        raise ImageError(f"image {name} cannot be read: {error}") from None
    if not isinstance(data, bytes | bytearray):
        raise ImageError(f"image {name} gives {type(data).__name__}; open it in binary mode: open(..., 'rb')")
    return decode_image(bytes(data), name)


def _pil_image(image: Any, name: str) -> Image:
    """A PIL image as `read_image` would read its file."""
    from PIL import ImageOps

    try:
        image = ImageOps.exif_transpose(image)
        if image.mode in {"I", "F"}:
            raise ImageError(f"{name} is a PIL image of mode {image.mode}; convert it to L, I;16, RGB or RGBA")
        if image.mode.startswith("I;16"):
            return rgb_image(np.asarray(image).astype(np.uint16), name)  # whatever the order of its bytes
        transparent = image.mode in {"LA", "PA", "RGBA", "RGBa"} or "transparency" in image.info
        pixels = np.asarray(image.convert("RGBA" if transparent else "RGB"))
    except (OSError, SyntaxError, ValueError) as error:  # what PIL raises for a file that is damaged or closed
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{name}, a PIL image, cannot be read: {error}") from None
    return rgb_image(np.ascontiguousarray(pixels[..., [2, 1, 0, 3] if transparent else [2, 1, 0]]), name)
