"""Sources of images: files, folders, patterns, videos, webcams, URLs, arrays (no torch)."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from calipose.errors import InputError
from calipose.io.animations import holds_several
from calipose.io.folders import VIDEO_SUFFIXES, in_folder, matching
from calipose.io.images import Image, read_image
from calipose.io.still import is_foreign_array, is_pil_image, still_image
from calipose.io.video_reader import VideoHeader, read_header, read_video, read_webcam

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

ANIMATED_SUFFIXES = {".apng", ".gif", ".png", ".webp"}  # of images that are videos if they move
PAGED_SUFFIXES = {".tif", ".tiff"}

NO_LIST = (Mapping, bytes, bytearray, memoryview)  # iterable, but not of images

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
    if isinstance(value, (str, os.PathLike, np.ndarray, *NO_LIST)) or is_foreign_array(value):
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
    elif isinstance(value, np.ndarray) or is_pil_image(value) or is_foreign_array(value):
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
        files = in_folder(path, recursive)
        if not files:
            deeper = "" if recursive else " itself (recursive looks into the folders inside of it, too)"
            raise InputError(f"{path}: no images or videos in this folder{deeper}")
    elif any(sign in text for sign in "*?[") and not os.path.lexists(path):
        files = matching(text, recursive)
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
