"""Images and videos in folders and behind patterns, known by their suffixes (no torch)."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

from calipose.errors import InputError

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


def in_folder(folder: Path, recursive: bool) -> list[Path]:
    """Images and videos in a folder, by name: numbers by value, hidden files left out.

    Args:
        folder: it may hold none.
        recursive: also look into the folders inside of it (links are not followed).

    Raises:
        InputError: a folder cannot be read.
    """
    return sorted(filter(_is_known, _files(folder, recursive)), key=_by_name)


def matching(pattern: str, recursive: bool) -> list[Path]:
    """Images and videos that a pattern matches, and those in the folders that it matches, by name.

    Args:
        pattern: as `glob` has it; `**` stands for all folders below.
        recursive: also look into the folders inside of folders that match.

    Raises:
        InputError: nothing matches, or no image or video does.
    """
    matches = [Path(match) for match in glob.iglob(pattern, recursive=True)]
    files = {match for match in matches if _is_known(match) and not os.path.isdir(match)}
    for folder in filter(os.path.isdir, matches):
        files.update(in_folder(folder, recursive))
    if not files:
        raise InputError(f"{pattern}: {'no image or video' if matches else 'nothing'} matches this pattern")
    return sorted(files, key=_by_name)


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


def _is_known(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES


def _by_name(file: Path) -> tuple[list[list[str | int]], Path]:
    """Sort key: numbers by value, letters without their case; equal ones by their exact path."""
    parts = [re.split(r"([0-9]+)", part.casefold()) for part in file.parts]
    return [[int(text) if i % 2 else text for i, text in enumerate(part)] for part in parts], file
