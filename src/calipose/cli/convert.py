"""`calipose convert`: labels of other tools as a COCO annotation file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calipose.cli.console import counted, note, say
from calipose.cli.judging import make_folders
from calipose.cli.options import Quiet
from calipose.data.labels.convert import convert_labels
from calipose.skeleton import Skeleton


def convert_command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="CVAT for images 1.1 (.xml), Label Studio's export JSON, or YOLO pose labels: a data.yaml, or a "
            "folder of images. SOURCE=IMAGES also finds the images' names in a folder.",
        ),
    ],
    output: Annotated[Path, typer.Argument(metavar="OUT.json", help="The COCO annotation file to write.")],
    skeleton: Annotated[
        Path | None,
        typer.Option(
            "--skeleton",
            metavar="FILE",
            help="Keypoints and order to write; by default COCO's 17, or else a skeleton is written beside OUT.json.",
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Write the labels of another tool as a COCO annotation file.

    Every --data and --ground-truth reads these labels directly, too.
    """
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
