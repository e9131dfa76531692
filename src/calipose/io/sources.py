"""Sources of images: files, folders, patterns, videos, webcams, URLs, arrays (no torch)."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from calipose.errors import ImageError, InputError
from calipose.io.animations import holds_several
from calipose.io.images import Image, decode_image, read_image, rgb_image
from calipose.io.video_reader import VideoHeader, read_header, read_video, read_webcam

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

# What is looked for in folders and patterns; a file that is named itself is a video by its suffix, else an image.
IMAGE_SUFFIXES = {
    *{".apng", ".avif", ".bmp", ".gif", ".heic", ".heif", ".hif", ".jfif", ".jp2", ".jpeg", ".jpg"},
    *{".png", ".tif", ".tiff", ".webp"},
}
VIDEO_SUFFIXES = {
    *{".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"},
    *{".mts", ".mxf", ".ogv", ".ts", ".webm", ".wmv"},
}

OTHER_IMAGES = {  # which nothing here reads: camera raw files, drawings, layers
    *{".3fr", ".arw", ".cr2", ".cr3", ".dng", ".erf", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".srw"},
    *{".ai", ".cdr", ".dcm", ".eps", ".exr", ".hdr", ".ico", ".jxl", ".pdf", ".psd", ".svg", ".tga", ".xcf"},
}
ANIMATED_SUFFIXES = {".apng", ".gif", ".png", ".webp"}  # of images that are videos if they move
PAGED_SUFFIXES = {".tif", ".tiff"}

NO_LIST = (Mapping, bytes, bytearray, memoryview)  # iterable, but not of images

STILLS = "a file, a URL, a file's bytes, a PIL image, or an array (h, w, 3) RGB or (h, w) grey of uint8"

StillImage: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | NDArray[Any] | PilImage"
Nameable: TypeAlias = "str | os.PathLike[str] | int | NDArray[Any] | PilImage | list[Any] | tuple[Any, ...]"


@dataclass(frozen=True, eq=False)
class Frame:
    """One image, and where it comes from.

    Attributes:
        image: `(h, w, 3)` uint8 RGB, upright; of a video with pixels that are no squares, at its display width.
        source: name of the source.
        index: index of the frame in a video or webcam, from 0; None for a still image.
        seconds: time since the first frame; None for a still image, or where a video does not give it.

    Example:
        >>> frame = next(find_sources("dance.mp4")[0].frames())
        >>> frame.source, frame.index, frame.seconds
        ('dance.mp4', 0, 0.0)
    """

    image: Image
    source: str
    index: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, eq=False)
class Source:
    """One source of images; it is opened when its frames are read.

    Attributes:
        name: the file, the URL without user and password, "webcam 0" or "array 0"; unique among the sources found
            together.
        kind: "image" and "video" are files; an animated GIF, PNG or WebP is a video. "array" is an array or a PIL
            image.
        value: the file's path, the whole URL, the webcam's number, or the array or PIL image.

    Example:
        >>> for source in find_sources("holiday/", "dance.mp4"):
        ...     for frame in source.frames():
        ...         print(frame.source, frame.index, frame.image.shape)
    """

    name: str
    kind: Literal["image", "video", "webcam", "url", "array"]
    value: Any = field(repr=False)  # a URL may hold a password

    def frames(self) -> Generator[Frame, None, None]:
        """Read the image, or the frames of a video or webcam one by one; only the last one is held in memory.

        A video that is damaged or cut off gives all frames that can be read, and raises after the last of them.
        A webcam gives frames until the iteration is left, or it is unplugged.

        Yields:
            One frame for a still image; the frames of a video or webcam in order.

        Raises:
            ImageError: the source cannot be read, or only in part; the message has its name.
        """
        if self.kind == "video":
            moving = read_video(self.value)
        elif self.kind == "webcam":
            moving = read_webcam(self.value)
        else:
            yield Frame(self._still(), self.name)
            return
        for index, (image, seconds) in enumerate(moving):
            yield Frame(image, self.name, index, seconds)

    @property
    def holds_more(self) -> bool:
        """A TIFF of several pages: `frames` gives the first only."""
        is_tiff = self.kind == "image" and Path(self.value).suffix.lower() in PAGED_SUFFIXES
        return is_tiff and holds_several(Path(self.value))

    @property
    def frame_count(self) -> int | None:
        """Number of frames: 1 for a still image, a video's as its header says; None where it is not known."""
        if self.kind == "video":
            return self._header.frame_count
        return None if self.kind == "webcam" else 1

    @property
    def frames_per_second(self) -> float | None:
        """A video's mean frame rate as its header says; None where it does not, and for other sources."""
        return self._header.frames_per_second if self.kind == "video" else None

    @cached_property
    def _header(self) -> VideoHeader:
        return read_header(self.value)

    def _still(self) -> Image:
        if self.kind == "image":
            return read_image(self.value)
        if self.kind == "url":
            from calipose.io.fetch import fetch_image  # here: what it imports takes 30 ms

            return fetch_image(self.value)
        return still_image(self.value, self.name)


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
    if _is_pil_image(value):
        return _pil_image(value, name)
    if hasattr(value, "__array__"):
        return _array_image(_array(value, name), name)
    if callable(getattr(value, "read", None)):
        return _file_image(value, name)
    raise ImageError(f"{name} is {type(value).__name__}; {STILLS} is needed")


@overload
def find_sources(*what: Nameable, recursive: bool = False) -> list[Source]: ...
@overload
def find_sources(*what: Nameable | Iterable[Any], recursive: bool = False) -> Iterable[Source]: ...
def find_sources(*what: Nameable | Iterable[Any], recursive: bool = False) -> Iterable[Source]:
    """Find all images and videos that are named, in order, each file, URL and webcam once.

    Args:
        what: any number of
            - files; a missing or broken one raises only when it is read, so that all others can still be processed;
            - folders: the images and videos in them by name, numbers by value (`f2` before `f10`), hidden ones left
              out;
            - patterns such as `holiday/*.jpg`, or `holiday/**/*.jpg` for all folders below, unless a file has that
              name;
            - `http://` and `https://` URLs of images;
            - webcams: 0 or `webcam:0` for the first;
            - arrays `(h, w, 3)` RGB or `(h, w)` grey, uint8, of numpy or torch (on the CPU); and PIL images;
            - lists and tuples of all these, and other iterables of them, such as generators.
        recursive: also look into the folders inside of folders (links are not followed).

    Returns:
        A list; or an iterator if `what` has an iterable other than a list or tuple. Such an iterable is read one item
        at a time and nothing is kept, so it may be endless, or give images that would not fit into memory together.

    Raises:
        InputError: nothing was found at all, or nothing in one of the folders and patterns; or an argument is of an
            unknown kind. An iterator raises when it reaches the argument.

    Example:
        >>> [source.name for source in find_sources("photo.jpg", "webcam:0")]
        ['photo.jpg', 'webcam 0']
    """
    arrays = count()
    found = _each_once(source for value in what for source in _sources_of(value, recursive, arrays))
    return found if any(map(_is_lazy, what)) else list(found)


def _is_lazy(value: object) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_is_lazy, value))
    if isinstance(value, (str, os.PathLike, np.ndarray, *NO_LIST)) or _is_foreign_array(value):
        return False
    return isinstance(value, Iterable)


def _each_once(sources: Iterable[Source]) -> Iterator[Source]:
    seen: set[str] = set()
    for source in sources:
        # Not Path.resolve: it raises where links lead in a circle, which is for the reader to find out.
        key = os.path.realpath(source.value) if source.kind in {"image", "video"} else source.name
        if key not in seen:
            seen.add(key)
            yield source
    if not seen:
        raise InputError("no images were given; name files, folders, URLs, arrays, or a webcam")


def _sources_of(value: Any, recursive: bool, arrays: Iterator[int]) -> Iterator[Source]:
    if isinstance(value, str | os.PathLike):
        yield from _named(value, recursive)
    elif isinstance(value, int | np.integer) and not isinstance(value, bool):
        yield _webcam(int(value))
    elif isinstance(value, np.ndarray) or _is_pil_image(value) or _is_foreign_array(value):
        yield Source(f"array {next(arrays)}", "array", value)
    elif getattr(value, "ndim", 1) > 1 or isinstance(value, NO_LIST) or not isinstance(value, Iterable):
        kinds = "files, folders, URLs, numpy arrays, PIL images or webcams"
        raise InputError(f"{type(value).__name__} is not a source of images; name {kinds}")
    else:
        for item in value:
            yield from _sources_of(item, recursive, arrays)


def _named(what: str | os.PathLike[str], recursive: bool) -> Iterator[Source]:
    text = os.fspath(what)
    if isinstance(what, str):
        if not text.strip() or "\0" in text:
            raise InputError("an empty name is not an image; name a file, a folder (. for this one) or a URL")
        scheme, slashes, _ = text.partition("://")
        if slashes and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]+", scheme):  # two letters at least: C:// is a drive
            yield _url(text, scheme.lower())
            return
        if text.startswith("webcam:"):
            number = text.removeprefix("webcam:")
            if not re.fullmatch(r"[0-9]{1,4}", number):
                raise InputError(f"{text}: webcams are webcam:0, webcam:1, and so on")
            yield _webcam(int(number))
            return
    path = Path(what)
    if os.path.isdir(path):  # Path.is_dir raises for a name that is too long
        files = _in_folder(path, recursive)
        if not files:
            deeper = "" if recursive else " itself (recursive looks into the folders inside of it, too)"
            raise InputError(f"{path}: no images or videos in this folder{deeper}")
    elif any(sign in text for sign in "*?[") and not os.path.lexists(path):
        files = _matching(text, recursive)
    else:
        files = [path]
    for file in files:
        yield Source(str(file), "video" if _is_moving(file) else "image", file)


def _is_moving(file: Path) -> bool:
    """A video, or an animation: a GIF, PNG or WebP of several images."""
    suffix = file.suffix.lower()
    return suffix in VIDEO_SUFFIXES or (suffix in ANIMATED_SUFFIXES and holds_several(file))


def _webcam(number: int) -> Source:
    if number < 0:
        raise InputError(f"webcam {number}: webcams are counted from 0")
    return Source(f"webcam {number}", "webcam", number)


def _url(text: str, scheme: str) -> Source:
    from calipose.io.fetch import public_url

    name = public_url(text)
    if scheme not in {"http", "https"}:
        raise InputError(f"{name}: URLs are http:// or https://, not {scheme}://")
    return Source(name, "url", text)


def _in_folder(folder: Path, recursive: bool) -> list[Path]:
    """Images and videos in a folder, by name."""
    return sorted(filter(_is_known, _files(folder, recursive)), key=_by_name)


def _files(folder: Path, recursive: bool) -> list[Path]:
    """Files in a folder, but for hidden ones."""

    def fail(error: OSError) -> None:
        raise InputError(f"folder {error.filename} cannot be read: {error.strerror}") from None

    files = []
    for parent, folders, names in os.walk(folder, onerror=fail):
        # Hidden ones are not what a person put there: macOS lays ._photo.jpg beside each photo.jpg.
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        files += [Path(parent, name) for name in names if not name.startswith(".")]
    return files


def passed_over(what: object, recursive: bool = False) -> dict[str, int]:
    """How many files of a folder are passed over, by suffix, as far as they may be images: `{".dng": 3}`.

    Args:
        what: as given to `find_sources`; nothing is passed over in what is no folder.
        recursive: as given to `find_sources`.
    """
    if not isinstance(what, str | os.PathLike) or not os.path.isdir(what):
        return {}
    counts: dict[str, int] = {}
    for file in _files(Path(what), recursive):
        suffix = file.suffix.lower()
        if suffix in OTHER_IMAGES:
            counts[suffix] = counts.get(suffix, 0) + 1
    return dict(sorted(counts.items()))


def _matching(pattern: str, recursive: bool) -> list[Path]:
    """Images and videos that a pattern matches, and those in the folders that it matches, by name."""
    matches = [Path(match) for match in glob.iglob(pattern, recursive=True)]
    files = {match for match in matches if _is_known(match) and not os.path.isdir(match)}
    for folder in filter(os.path.isdir, matches):
        files.update(_in_folder(folder, recursive))
    if not files:
        raise InputError(f"{pattern}: {'no image or video' if matches else 'nothing'} matches this pattern")
    return sorted(files, key=_by_name)


def _is_known(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES


def _by_name(file: Path) -> tuple[list[list[str | int]], Path]:
    """Sort key: numbers by value, letters without their case; equal ones by their exact path."""
    parts = [re.split(r"([0-9]+)", part.casefold()) for part in file.parts]
    return [[int(text) if i % 2 else text for i, text in enumerate(part)] for part in parts], file


def _is_pil_image(value: object) -> bool:
    pil = sys.modules.get("PIL.Image")  # where it was never imported, nothing can be its image
    return pil is not None and isinstance(value, pil.Image)


def _is_foreign_array(value: object) -> bool:
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
