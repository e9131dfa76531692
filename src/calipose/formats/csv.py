"""Tables of poses, one row a keypoint or one row a pose, and CSV files of them for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice

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
REGION_COLUMNS = {"radius": "float64", "coverage": "float64"}  # only of poses that carry `radii_img`
PIXEL_COLUMNS = {"x", "y", "radius", *BOX}
PIXEL_DECIMALS = 2  # a hundredth of a pixel changes no OKS in its third decimal
SCORE_DECIMALS = 4
SECONDS_DECIMALS = 4

Cell = int | float | str | bool | None


def keypoint_columns(regions: bool) -> dict[str, str]:
    """Columns of a table with one row a keypoint, and how pandas holds them.

    Args:
        regions: with `REGION_COLUMNS`.
    """
    return {**COLUMNS, **REGION_COLUMNS} if regions else COLUMNS


def keypoint_rows(poses: Poses, regions: bool = False) -> Iterator[tuple[Cell, ...]]:
    """One row a keypoint, as `keypoint_columns`, not rounded; `pose` counts from 0, None: what is not there."""
    for i, pose in enumerate(_pose_cells(poses)):
        for j, name in enumerate(poses.skeleton.keypoints):
            region = (_radius(poses, i, j), poses.coverage) if regions else ()
            yield (i, name, *_keypoint_cells(poses, i, j), *pose, *region)


def pose_columns(skeleton: Skeleton, regions: bool = False) -> list[str]:
    """Columns of a table with one row a pose: those of the pose, then x, y and score of each keypoint by its name.

    With `regions` also the coverage, and the radius of each keypoint.
    """
    of_pose = [name for name in COLUMNS if name not in {"keypoint", "x", "y", "keypoint_score"}]
    of_keypoint = ("x", "y", "score", "radius") if regions else ("x", "y", "score")
    names = [f"{name}_{suffix}" for name in skeleton.keypoints for suffix in of_keypoint]
    return [*of_pose, *(["coverage"] if regions else []), *names]


def pose_rows(poses: Poses, regions: bool = False) -> Iterator[tuple[Cell, ...]]:
    """One row a pose, in the order of `pose_columns`, not rounded."""
    for i, pose in enumerate(_pose_cells(poses)):
        cells: list[Cell] = [i, *pose]
        cells += [poses.coverage] if regions else []
        for j in range(len(poses.skeleton)):
            cells += _keypoint_cells(poses, i, j)
            cells += [_radius(poses, i, j)] if regions else []
        yield tuple(cells)


def to_csv(poses: Poses) -> str:
    """The text of a CSV file of one image: a line of column names, then a line a keypoint, rounded as `write_csv` does.

    Example:
        print(to_csv(predictor.predict("photo.jpg")))
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    regions = poses.coverage is not None
    columns = list(keypoint_columns(regions))
    table.writerow(columns)
    table.writerows(rounded(row, columns) for row in keypoint_rows(poses, regions))
    return text.getvalue()


def write_csv(target: Target, entries: Iterable[Entry], skeleton: Skeleton = COCO_17) -> None:
    """Write one row a keypoint: file, frame and seconds (of videos), name of the drawing, then `COLUMNS`.

    Pixels are rounded to hundredths, scores to four digits; JSON lines hold all digits. Where the first entry has a
    "coverage", so has the table, and the radius of each keypoint.

    Example:
        write_csv("poses.csv", read_entries("calipose-out/poses.jsonl"))

    Args:
        target: a file, which appears whole or not at all, or a text stream, which is flushed after each entry.
        entries: see `calipose.formats.entries`.
        skeleton: of all entries.

    Raises:
        InputError: an entry is of another skeleton, or the file cannot be written.
    """
    _write(target, entries, skeleton, lambda regions: list(keypoint_columns(regions)), keypoint_rows)


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
    _write(target, entries, skeleton, lambda regions: pose_columns(skeleton, regions), pose_rows)


def rounded(row: Sequence[Cell], columns: Sequence[str]) -> list[Cell]:
    """The cells of a row as a reader of a spreadsheet wants them: hundredths of a pixel, four digits of a score."""
    cells: list[Cell] = []
    for cell, column in zip(row, columns, strict=True):
        decimals = (
            PIXEL_DECIMALS if column in PIXEL_COLUMNS or column.endswith(("_x", "_y", "_radius")) else SCORE_DECIMALS
        )
        cells.append(round(cell, decimals) if isinstance(cell, float) else cell)
    return cells


def _write(
    target: Target,
    entries: Iterable[Entry],
    skeleton: Skeleton,
    columns_of: Callable[[bool], list[str]],
    rows: Callable[[Poses, bool], Iterator[tuple[Cell, ...]]],
) -> None:
    waiting = iter(entries)
    first = list(islice(waiting, 1))  # the table has the same columns for all
    regions = any(entry.get("coverage") is not None for entry in first)
    columns = columns_of(regions)
    with open_target(target) as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow([*IMAGE_COLUMNS, *columns])
        flush_stream(stream, target)
        for entry in chain(first, waiting):
            seconds = entry.get("seconds")
            seconds = None if seconds is None else round(seconds, SECONDS_DECIMALS)
            image = [entry["file"], entry.get("index"), seconds, entry.get("drawing")]
            table.writerows([*image, *rounded(row, columns)] for row in rows(Poses.from_dict(entry, skeleton), regions))
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


def _radius(poses: Poses, i: int, j: int) -> Cell:
    """Of a keypoint's circle, in pixels; None where it is not known."""
    if poses.radii_img is None or poses.radii_img[i, j] != poses.radii_img[i, j]:
        return None
    return float(poses.radii_img[i, j])
