"""Finding a data set: annotation file and image folder of what the user names."""

from __future__ import annotations

from pathlib import Path

from calipose.data.coco import read_coco
from calipose.data.store import KeypointData, concatenate
from calipose.errors import InputError
from calipose.skeleton import Skeleton


def find_data(source: str | Path) -> tuple[Path, Path]:
    """Find annotation file and image folder of a data set.

    Args:
        source: a folder with `annotations.json` and `images/`; or `ANNOTATIONS.json`, with its images in `images/`
            beside it; or `ANNOTATIONS.json=IMAGES`.

    Returns:
        Path of the annotation file and path of the image folder.

    Raises:
        InputError: the file or the folder does not exist.
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
    """Read several data sets into one store.

    Args:
        sources: data sets as `find_data` takes them.
        skeleton: the skeleton of all of them; COCO's by default.

    Raises:
        InputError: a data set is missing or broken, or the skeletons differ.
    """
    return concatenate([read_coco(*find_data(source), skeleton) for source in sources])
