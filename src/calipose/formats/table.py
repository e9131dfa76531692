"""The one table of formats: what `--save` and `--format` offer, under which names, and who writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from calipose.formats.coco import write_coco
from calipose.formats.coco_dataset import write_coco_dataset
from calipose.formats.csv import write_csv, write_wide_csv
from calipose.formats.cvat import write_cvat
from calipose.formats.entries import Entry, Target
from calipose.formats.jsonl import write_jsonl
from calipose.formats.label_studio import label_studio_config, write_label_studio
from calipose.formats.openpose import write_openpose
from calipose.formats.trc import write_trc
from calipose.formats.yolo_pose import write_yolo_pose
from calipose.skeleton import Skeleton


class Writer(Protocol):
    """Writes entries one by one, so that memory does not grow with their number."""

    def __call__(self, target: Target, entries: Iterable[Entry], skeleton: Skeleton, /) -> None:
        """Write to a file, which appears whole or not at all, or to a text stream, flushed after each entry.

        Raises:
            InputError: an entry is of another skeleton, or the file cannot be written.
        """


@dataclass(frozen=True)
class Beside:
    """A second file, which the program that reads the first needs, too.

    Attributes:
        file_name: its name, in the same folder.
        text: what it holds, for a skeleton.
    """

    file_name: str
    text: Callable[[Skeleton], str]


@dataclass(frozen=True)
class Format:
    """A format that the poses of many images can be written in; a row of `FORMATS`.

    Example:
        FORMATS["csv"].write("poses.csv", read_entries("calipose-out/poses.jsonl"), COCO_17)

    Attributes:
        description: what the file is, in a few words, for help texts and docs.
        file_name: of the file that `--save` writes; None where every prediction writes it anyway.
        write: writes it.
        takes_videos: it holds the frames of videos, too, not only still images.
        takes_images: it holds still images, too, not only people followed through videos.
        can_stream: it may be written to standard output.
        opens_images: the program that reads it opens the images by the names in it, so that `--image-prefix` is for it.
        beside: a second file that belongs to it, or None.
    """

    description: str
    file_name: str | None
    write: Writer
    takes_videos: bool = True
    takes_images: bool = True
    can_stream: bool = False
    opens_images: bool = False
    beside: Beside | None = None

    @property
    def file_names(self) -> list[str]:
        """All files that `--save` writes."""
        return [name for name in (self.file_name, self.beside and self.beside.file_name) if name]


FORMATS: dict[str, Format] = {
    "jsonl": Format("JSON lines, one an image or frame", None, write_jsonl, can_stream=True),
    "csv": Format("a table, one row a keypoint", "poses.csv", write_csv, can_stream=True),
    "csv-wide": Format("a table, one row a pose", "poses_wide.csv", write_wide_csv, can_stream=True),
    "coco": Format("COCO keypoint results", "results.json", write_coco, can_stream=True),
    "label-studio": Format(
        "Label Studio tasks with pre-annotations",
        "label_studio.json",
        write_label_studio,
        takes_videos=False,
        opens_images=True,
        beside=Beside("label_studio.xml", label_studio_config),
    ),
    "cvat": Format("CVAT for images 1.1", "cvat.xml", write_cvat, takes_videos=False),
    "coco-dataset": Format("COCO annotations, a data set", "people.json", write_coco_dataset, takes_videos=False),
    "yolo": Format("YOLO pose labels and data.yaml", "yolo.zip", write_yolo_pose, takes_videos=False),
    "openpose": Format("OpenPose's JSON, a file an image or frame", "openpose.zip", write_openpose),
    "trc": Format("tracks for OpenSim, a file a person", "trc.zip", write_trc, takes_images=False),
}


def saved_formats() -> dict[str, str]:
    """The formats that `--save` offers: file name by format name."""
    return {name: row.file_name for name, row in FORMATS.items() if row.file_name is not None}


def prefixed_formats() -> list[str]:
    """The names of the formats that `--image-prefix` is for."""
    return [name for name, row in FORMATS.items() if row.opens_images]


def streamed_formats() -> list[str]:
    """The names of the formats that `--format` offers."""
    return [name for name, row in FORMATS.items() if row.can_stream]
