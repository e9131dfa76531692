"""Where a data set lies: what the user names -> annotation file and image folder."""

from __future__ import annotations

from pathlib import Path

from calipose.data.coco import read_coco
from calipose.data.store import KeypointData, concatenate
from calipose.errors import InputError
from calipose.skeleton import Skeleton


def find_data(source: str | Path) -> tuple[Path, Path]:
    """Annotation file and image folder of a data set.

    Args: `source` is a folder with `annotations.json` and `images/`, or `ANNOTATIONS.json`, with its images in
    `images/` beside it, or `ANNOTATIONS.json=IMAGES`.

    Raises:
        InputError: something of it does not exist.
    """
    first, _, second = str(source).partition("=")
    annotations = Path(first)
    if annotations.is_dir():
        annotations = annotations / "annotations.json"
    images = Path(second) if second else annotations.parent / "images"
    if not annotations.is_file():
        raise InputError(f"{annotations}: no such annotation file")
    if not images.is_dir():
        raise InputError(f"{images}: no such image folder; name it with ANNOTATIONS.json=IMAGES")
    return annotations, images


def read_data(sources: list[str] | list[Path] | list[str | Path], skeleton: Skeleton | None = None) -> KeypointData:
    """One store of several data sets (see `find_data`).

    Raises:
        InputError: a data set is missing or broken, or skeletons differ.
    """
    return concatenate([read_coco(*find_data(source), skeleton) for source in sources])
