"""The one table of other tools' labels, and which of them a file or folder holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from calipose.data.labels.base import LabelFile, LabelSource
from calipose.data.labels.cvat import read_cvat
from calipose.data.labels.label_studio import read_label_studio
from calipose.data.labels.yolo_pose import DESCRIPTIONS, find_description, find_split, read_yolo_pose

PEEK = 64  # bytes in which a JSON file's first character is found


@dataclass(frozen=True)
class LabelFormat:
    """A form of labels; a row of `LABELS`.

    Attributes:
        description: what is read, in a few words.
        holds: whether a source is of this form.
        read: reads it.
    """

    description: str
    holds: Callable[[LabelSource], bool]
    read: Callable[[LabelSource], LabelFile]


def _is_list(source: LabelSource) -> bool:
    """A JSON file that holds a list, as Label Studio exports; COCO's annotations are an object."""
    return source.path.suffix.lower() == ".json" and source.data[:PEEK].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")


def _is_split(path: Path) -> bool:
    return path.is_dir() and not (path / "annotations.json").is_file() and find_description(path) is not None


LABELS: dict[str, LabelFormat] = {
    "cvat": LabelFormat(
        "CVAT for images 1.1 (.xml)",
        lambda source: source.path.suffix.lower() == ".xml",
        lambda source: read_cvat(source.path, source.data),
    ),
    "label-studio": LabelFormat(
        "Label Studio's export JSON", _is_list, lambda source: read_label_studio(source.path, source.data)
    ),
    "yolo-pose": LabelFormat(
        "a YOLO pose folder of images with labels beside it",
        lambda source: _is_split(source.path),
        lambda source: read_yolo_pose(source.path),
    ),
}


def find_labels(path: Path) -> tuple[Path, Path] | None:
    """The labels and the folder of images that a path stands for, where it is a YOLO folder or its data.yaml.

    Args:
        path: what the user names.

    Returns:
        Both paths; None where the path is none of these.

    Raises:
        InputError: the data.yaml names several folders of images.
    """
    is_description = path.is_file() and path.suffix.lower() in {".yaml", ".yml"}
    if is_description or (path.is_dir() and any((path / name).is_file() for name in DESCRIPTIONS)):
        path = find_split(path)
        return path, path
    return (path, path) if _is_split(path) else None


def read_labels(source: LabelSource) -> LabelFile | None:
    """The labels of another tool; None where the source is of none of `LABELS`, as a COCO annotation file is.

    Args:
        source: the file or folder; whoever gets None goes on with its `data`, so that the file is read once.

    Raises:
        InputError: the labels are broken, or the file cannot be read.
    """
    for row in LABELS.values():
        if row.holds(source):
            return row.read(source)
    return None
