"""What the formats of annotation tools (Label Studio, CVAT) share.

Pixels stay the numbers of `keypoints_img`: both tools import and export COCO's keypoints unshifted, so a pose that is
corrected there comes back in the same frame.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from calipose.errors import InputError
from calipose.formats.entries import Entry
from calipose.poses import Poses


def inside_image(poses: Poses) -> NDArray[np.bool_]:
    """`(p, k)`: the keypoint lies where annotation tools can show it, 0 to the image's width and height."""
    inside = (poses.keypoints_img >= 0) & (poses.keypoints_img <= np.array(poses.image_size))
    return np.asarray(inside.all(-1))


def scored_at_least(poses: Poses, min_keypoint_score: float) -> NDArray[np.bool_]:
    """`(p, k)`: the keypoint's score is at least that; always where the poses carry no scores of keypoints."""
    if poses.keypoint_scores is None:
        return np.ones(poses.keypoints_img.shape[:2], bool)
    return np.asarray(poses.keypoint_scores >= min_keypoint_score)


def image_address(file: str, prefix: str) -> str:
    """The path or URL under which an annotation tool finds an image.

    Example:
        >>> image_address("holiday/a b.jpg", "/data/local-files/?d=")
        '/data/local-files/?d=holiday/a%20b.jpg'
        >>> image_address("holiday/a b.jpg", "s3://bucket")
        's3://bucket/holiday/a b.jpg'

    Args:
        file: the image as an entry names it. A URL stays as it is.
        prefix: the path or URL that stands for the current folder, without which `file` stays as it is.

    Returns:
        The prefix and the image's path from the current folder, with / between them where the prefix ends in neither
        / nor =. The path is percent-encoded where the prefix is a web address: http, https, or one that starts with /.

    Raises:
        InputError: the image does not lie in the current folder.
    """
    if not prefix or re.match("https?://", file, re.IGNORECASE):
        return file
    try:
        path = Path(os.path.relpath(file))
    except ValueError:  # another drive
        path = Path("..")
    if path.parts[:1] == ("..",):
        raise InputError(
            f"{file} is outside of {Path.cwd()}, for which the image prefix {prefix} stands; run this in a folder that "
            "holds all images"
        )
    joined = path.as_posix()
    if re.match("https?://|/", prefix, re.IGNORECASE):
        joined = quote(os.fsencode(joined))
    return f"{prefix}{'' if prefix.endswith(('/', '=')) else '/'}{joined}"


def with_image_prefix(entries: Iterable[Entry], prefix: str) -> Iterator[Entry]:
    """Entries whose images have the names of `image_address`.

    Example:
        entries = read_entries("calipose-out/poses.jsonl")
        write_label_studio("label_studio.json", with_image_prefix(entries, "/data/local-files/?d="))

    Raises:
        InputError: an image does not lie in the current folder.
    """
    return ({**entry, "file": image_address(entry["file"], prefix)} for entry in entries)


def xml_text(element: ElementTree.Element, level: int) -> str:
    """The element's text, indented for its level in the document."""
    ElementTree.indent(element, level=level)
    return "  " * level + ElementTree.tostring(element, encoding="unicode") + "\n"
