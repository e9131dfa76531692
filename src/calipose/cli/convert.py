"""`calipose convert`: labels of other tools, or poses of `calipose predict` or `calipose bulk`, as another file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calipose.cli.console import counted, note, say
from calipose.cli.judging import make_folders, refuse
from calipose.cli.options import Quiet
from calipose.data.labels.convert import convert_labels
from calipose.errors import InputError
from calipose.formats.convert import convert_poses
from calipose.formats.table import FORMATS
from calipose.skeleton import COCO_17, Skeleton


def convert_command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="CVAT for images 1.1 (.xml), Label Studio's export JSON, or YOLO pose labels: a data.yaml, or a "
            "folder of images. SOURCE=IMAGES also finds the images' names in a folder. Or poses: the poses.jsonl of "
            "calipose predict; the folder, or its URI, that calipose bulk wrote.",
        ),
    ],
    output: Annotated[
        Path, typer.Argument(metavar="OUT", help="The file to write: COCO annotations (.json), or --format.")
    ],
    skeleton: Annotated[
        Path | None,
        typer.Option(
            "--skeleton",
            metavar="FILE",
            help="Keypoints and order of labels to write; by default COCO's 17, or else a skeleton is written beside "
            "OUT.json. Of a poses.jsonl, if its keypoints are not COCO's.",
        ),
    ] = None,
    name: Annotated[
        str,
        typer.Option("--format", metavar="FORMAT", help=f"Of poses: {', '.join(FORMATS)}; by default coco."),
    ] = "",
    quiet: Quiet = False,
) -> None:
    """Write the labels of another tool as a COCO annotation file, or poses that were found in another format.

    Every --data and --ground-truth reads these labels directly, too.
    """
    if source.lower().endswith(".jsonl") and "://" not in source:
        _convert_poses(source, output, name or "coco", skeleton, quiet)
        return
    if name and Path(source.partition("=")[0]).is_file():
        raise InputError(
            f"{source}: labels become COCO annotations; --format is for poses, of calipose predict (a .jsonl file) or "
            "calipose bulk (a folder)"
        )
    if name or _is_from_bulk(source):
        refuse(source, "the poses of calipose bulk, which have their skeleton", skeleton=skeleton)
        _convert_bulk(source, output, name or "coco", quiet)
        return
    make_folders(output)
    converted = convert_labels(source, output, None if skeleton is None else Skeleton.from_file(skeleton))
    if quiet:
        return
    for remark in converted.remarks:
        note(remark)
    people = counted(converted.people, "person", "people")
    say(f"{people} in {counted(converted.images, 'image')}: {converted.annotations}")
    if converted.skeleton_file is not None:
        say(f"skeleton: {converted.skeleton_file}")


def _is_from_bulk(source: str) -> bool:
    """Whether the source is what calipose bulk wrote: a URI, or a folder of Parquet files."""
    return "://" in source or next(Path(source).rglob("*.parquet"), None) is not None


def _convert_poses(source: str, target: Path, name: str, skeleton: Path | None, quiet: bool) -> None:
    """Write the poses of a JSON lines file in the format of that name."""
    make_folders(target)
    chosen = COCO_17 if skeleton is None else Skeleton.from_file(skeleton)
    done = convert_poses(source, target, name, chosen)
    if quiet:
        return
    if done.left_out:
        what = "still images" if done.frames else "frames of videos"
        note(f"format '{name}' holds no {what}: {done.left_out} are left out")
    counts = [counted(done.images, "image")] if done.images or not done.frames else []
    counts += [counted(done.frames, "frame")] if done.frames else []
    say(f"{' and '.join(counts)}: {', '.join(map(str, done.files))}")


def _convert_bulk(folder: str, target: Path, name: str, quiet: bool) -> None:
    """Write the poses in the Parquet files of a folder in the format of that name."""
    from calipose.bulk.convert import convert

    if folder == str(target):
        raise InputError(f"{target} is the folder itself; name a file")
    make_folders(target)
    written, broken = convert(folder, target, name)
    left_out = f"; {broken} broken ones are left out" if broken else ""
    if not quiet:
        say(f"{counted(written, 'image')}{left_out}: {target}")
