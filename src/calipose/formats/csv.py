"""Tables of poses, one row a keypoint or one row a pose, and CSV files of them for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence

from calipose.formats.entries import Entry, Target, flush_stream, open_target
from calipose.poses import POSE_FIELDS, Poses
from calipose.skeleton import COCO_17, Skeleton

IMAGE_COLUMNS = ("file", "frame", "seconds", "drawing")  # of a file of many images: frame and seconds of videos only
BOX = ("left", "top", "right", "bottom")  # of the box around a pose's keypoints, in pixels

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
    **dict.fromkeys(BOX, "float64"),
}
PIXEL_COLUMNS = {"x", "y", *BOX}
PIXEL_DECIMALS = 2  # a hundredth of a pixel changes no OKS in its third decimal
SCORE_DECIMALS = 4
SECONDS_DECIMALS = 4

Cell = int | float | str | bool | None


def keypoint_rows(poses: Poses) -> Iterator[tuple[Cell, ...]]:
    """One row a keypoint, in the order of `COLUMNS`, not rounded; `pose` counts from 0, None: what is not there."""
    for i, pose in enumerate(_pose_cells(poses)):
        for j, name in enumerate(poses.skeleton.keypoints):
            yield (i, name, *_keypoint_cells(poses, i, j), *pose)


def pose_columns(skeleton: Skeleton) -> list[str]:
    """Columns of a table with one row a pose: those of the pose, then x, y and score of each keypoint by its name."""
    of_pose = [name for name in COLUMNS if name not in {"keypoint", "x", "y", "keypoint_score"}]
    return of_pose + [f"{name}_{suffix}" for name in skeleton.keypoints for suffix in ("x", "y", "score")]


def pose_rows(poses: Poses) -> Iterator[tuple[Cell, ...]]:
    """One row a pose, in the order of `pose_columns`, not rounded."""
    for i, pose in enumerate(_pose_cells(poses)):
        keypoints = [cell for j in range(len(poses.skeleton)) for cell in _keypoint_cells(poses, i, j)]
        yield (i, *pose, *keypoints)


def to_csv(poses: Poses) -> str:
    """The text of a CSV file of one image: a line of column names, then a line a keypoint, rounded as `write_csv` does.

    Example:
        print(to_csv(predictor.predict("photo.jpg")))
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows(rounded(row, list(COLUMNS)) for row in keypoint_rows(poses))
    return text.getvalue()


def write_csv(target: Target, entries: Iterable[Entry], skeleton: Skeleton = COCO_17) -> None:
    """Write one row a keypoint: file, frame and seconds (of videos), name of the drawing, then `COLUMNS`.

    Pixels are rounded to hundredths, scores to four digits; JSON lines hold all digits.

    Example:
        write_csv("poses.csv", read_entries("calipose-out/poses.jsonl"))

    Args:
        target: a file, which appears whole or not at all, or a text stream, which is flushed after each entry.
        entries: see `calipose.formats.entries`.
        skeleton: of all entries.

    Raises:
        InputError: an entry is of another skeleton, or the file cannot be written.
    """
    _write(target, entries, skeleton, list(COLUMNS), keypoint_rows)


def write_wide_csv(target: Target, entries: Iterable[Entry], skeleton: Skeleton = COCO_17) -> None:
    """Write one row a pose: the columns of an image as `write_csv` has them, then `pose_columns`, rounded likewise.

    Example:
        write_wide_csv("poses_wide.csv", read_entries("calipose-out/poses.jsonl"))

    Args:
        target: a file, which appears whole or not at all, or a text stream, which is flushed after each entry.
        entries: see `calipose.formats.entries`.
        skeleton: of all entries.

    Raises:
        InputError: an entry is of another skeleton, or the file cannot be written.
    """
    _write(target, entries, skeleton, pose_columns(skeleton), pose_rows)


def rounded(row: Sequence[Cell], columns: Sequence[str]) -> list[Cell]:
    """The cells of a row as a reader of a spreadsheet wants them: hundredths of a pixel, four digits of a score."""
    cells: list[Cell] = []
    for cell, column in zip(row, columns, strict=True):
        decimals = PIXEL_DECIMALS if column in PIXEL_COLUMNS or column.endswith(("_x", "_y")) else SCORE_DECIMALS
        cells.append(round(cell, decimals) if isinstance(cell, float) else cell)
    return cells


def _write(
    target: Target,
    entries: Iterable[Entry],
    skeleton: Skeleton,
    columns: list[str],
    rows: Callable[[Poses], Iterator[tuple[Cell, ...]]],
) -> None:
    with open_target(target) as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow([*IMAGE_COLUMNS, *columns])
        flush_stream(stream, target)
        for entry in entries:
            seconds = entry.get("seconds")
            seconds = None if seconds is None else round(seconds, SECONDS_DECIMALS)
            image = [entry["file"], entry.get("index"), seconds, entry.get("drawing")]
            table.writerows([*image, *rounded(row, columns)] for row in rows(Poses.from_dict(entry, skeleton)))
            flush_stream(stream, target)


def _pose_cells(poses: Poses) -> Iterator[list[Cell]]:
    """Of each pose: its scores, what `POSE_FIELDS` names, and its box."""
    boxes = poses.boxes_img.tolist() if len(poses) else []
    for i, box in enumerate(boxes):
        fields = (poses.scores, *(getattr(poses, field) for field in POSE_FIELDS.values()))
        yield [*(None if values is None else values[i].item() for values in fields), *box]


def _keypoint_cells(poses: Poses, i: int, j: int) -> tuple[Cell, ...]:
    """x, y and score of a pose's keypoint."""
    x, y = poses.keypoints_img[i, j].tolist()
    return x, y, None if poses.keypoint_scores is None else poses.keypoint_scores[i, j].item()
