"""Tables with one row a keypoint, and CSV files of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

from calipose.formats.entries import Entry, Target, flush_stream, open_target
from calipose.poses import POSE_FIELDS, Poses
from calipose.skeleton import COCO_17, Skeleton

# Columns of a table of keypoints, and how pandas holds them where some or all are missing.
COLUMNS = {
    "pose": "int64",
    "keypoint": "str",
    "x": "float64",
    "y": "float64",
    "keypoint_score": "float64",
    "score": "float64",
    "raw_score": "float64",
    "p_oks50": "float64",
    "p_oks75": "float64",
    "track_id": "Int64",
    "filled": "boolean",
}

Cell = int | float | str | bool | None


def keypoint_rows(poses: Poses) -> Iterator[tuple[Cell, ...]]:
    """One row a keypoint, in the order of `COLUMNS`; `pose` counts from 0, and None stands for what is not there."""
    for i in range(len(poses)):
        fields = (poses.scores, *(getattr(poses, field) for field in POSE_FIELDS.values()))
        pose = [None if values is None else values[i].item() for values in fields]
        for j, name in enumerate(poses.skeleton.keypoints):
            x, y = poses.keypoints_img[i, j].tolist()
            yield i, name, x, y, None if poses.keypoint_scores is None else poses.keypoint_scores[i, j].item(), *pose


def to_csv(poses: Poses) -> str:
    """The text of a CSV file of one image: a line of column names, then a line a keypoint.

    Example:
        print(to_csv(predictor.predict("photo.jpg")))
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows(keypoint_rows(poses))
    return text.getvalue()


def write_csv(target: Target, entries: Iterable[Entry], skeleton: Skeleton = COCO_17) -> None:
    """Write one row a keypoint: file, frame and seconds (of videos), then `COLUMNS`.

    Example:
        write_csv("poses.csv", read_entries("calipose-out/poses.jsonl"))

    Args:
        target: a file, which appears whole or not at all, or a text stream, which is flushed after each entry.
        entries: see `calipose.formats.entries`.
        skeleton: of all entries.

    Raises:
        InputError: an entry is of another skeleton, or the file cannot be written.
    """
    with open_target(target) as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(["file", "frame", "seconds", *COLUMNS])
        flush_stream(stream, target)
        for entry in entries:
            image = [entry["file"], entry.get("index"), entry.get("seconds")]
            table.writerows([*image, *row] for row in keypoint_rows(Poses.from_dict(entry, skeleton)))
            flush_stream(stream, target)
