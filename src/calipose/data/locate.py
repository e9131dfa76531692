"""Finding a data set: annotation file and image folder of what the user names."""

from __future__ import annotations

from pathlib import Path

from calipose.data.coco import read_coco
from calipose.data.labels.table import find_labels
from calipose.data.store import KeypointData, concatenate
from calipose.data.tars import tars_of
from calipose.errors import InputError
from calipose.skeleton import Skeleton

DATA_HELP = (
    "Folder with annotations.json and images/, or ANNOTATIONS.json=IMAGES; also labels of CVAT (.xml), Label Studio "
    "(.json) or YOLO pose (data.yaml)"
)


def find_annotations(source: str | Path) -> tuple[Path, Path | None]:
    """Find the annotations that a path stands for.

    Args:
        source: an annotation file; a folder with `annotations.json` or `annotations.xml`; or, of YOLO labels, a
            data.yaml, a folder with one, or a folder of images below it.

    Returns:
        Path of the annotations, and of the images where the annotations say it.

    Raises:
        InputError: the path does not exist, or stands for several parts of a data set.
    """
    path = Path(source)
    for name in ("annotations.json", "annotations.xml"):
        if (path / name).is_file():
            return path / name, None
    if (labels := find_labels(path)) is not None:
        return labels
    if path.is_dir():
        raise InputError(
            f"{path / 'annotations.json'}: no such annotation file; if {path} holds the images, write"
            f" ANNOTATIONS.json={path}"
        )
    if not path.is_file():
        raise InputError(f"{path}: no such annotation file")
    return path, None


def find_data(source: str | Path, tars: bool = False) -> tuple[Path, Path]:
    """Find annotation file and image folder of a data set.

    Args:
        source: a folder with `annotations.json` and `images/`; or `ANNOTATIONS.json`, with its images in `images/`
            beside it; or `ANNOTATIONS.json=IMAGES`. Labels of other tools likewise (`find_annotations`).
        tars: the images may be in a tar, or in those of a folder.

    Returns:
        Path of the annotation file and path of the image folder, or of the tar.

    Raises:
        InputError: the file or the folder does not exist.
    """
    first, _, second = str(source).partition("=")
    if Path(second).is_file() and Path(first).is_dir() and not tars_of(Path(second)):
        raise InputError(f"{source}: the annotations come first; write {second}={first}")
    annotations, own_images = find_annotations(first)
    images = Path(second) if second else own_images or annotations.parent / "images"
    if not tars and tars_of(images):
        raise InputError(f"{images}: images in tars are for training only; unpack them")
    if not images.is_dir() and not tars_of(images):
        raise InputError(f"{images}: no such image folder; name the images of {annotations} as {annotations}=IMAGES")
    return annotations, images


def read_data(sources: list[str] | list[Path] | list[str | Path], skeleton: Skeleton | None = None) -> KeypointData:
    """Read several data sets into one store.

    Args:
        sources: data sets as `find_data` takes them, also with their images in tars.
        skeleton: the skeleton of all of them; COCO's by default.

    Raises:
        InputError: a data set is missing or broken, or the skeletons differ.
    """
    return concatenate([read_coco(*find_data(source, tars=True), skeleton) for source in sources])
