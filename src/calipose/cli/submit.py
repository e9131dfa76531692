"""`calipose submit`: a file for the COCO evaluation server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calipose.cli.console import say
from calipose.cli.judging import ModelOptions, Source, open_source
from calipose.cli.options import Device, Flip, Quiet, Scales, ShortSide
from calipose.errors import InputError
from calipose.evaluation.submission import Subset, read_image_info, submission_name, write_submission
from calipose.skeleton import COCO_17


def submit_command(
    source: Source,
    data: Annotated[
        str,
        typer.Option(
            metavar="DATA",
            help="IMAGE_INFO.json=IMAGES; for results IMAGE_INFO.json is enough.",
        ),
    ],
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of your model; it becomes part of the file's name.")],
    folder: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the .zip goes.")] = Path(),
    test_dev: Annotated[
        bool, typer.Option("--test-dev/--val", help="The images are test-dev2017's or val2017's.")
    ] = True,
    flip: Flip = False,
    short_side: ShortSide = None,
    scales: Scales = "",
    device: Device = "",
    quiet: Quiet = False,
) -> None:
    """Write the .zip that the COCO evaluation server takes for keypoints, and check it.

    COCO lists the images of test-dev2017 in image_info_test-dev2017.json.
    A model predicts all of them first; a results file must hold all of them.
    """
    subset = Subset.TEST_DEV if test_dev else Subset.VAL
    submission_name(subset, name)  # said before hours of prediction
    options = ModelOptions(flip, scales, short_side, device)
    opened = open_source(source, data, options, read=lambda path, _: read_image_info(path))
    if opened.skeleton.keypoints != COCO_17.keypoints:
        raise InputError(f"{source}: finds keypoints of '{opened.skeleton.name}'; the server wants COCO's 17")
    made = write_submission(folder, opened.poses(quiet), opened.truth, name, subset)
    say(f"written and checked: {made.path}")
    say(
        f"{made.poses} poses in {made.images_with_poses} of {made.images} images;"
        f" {_size(made.zip_bytes)}, unpacked {_size(made.json_bytes)}"
    )
    for remark in made.remarks():
        say(f"note: {remark}", "yellow")


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
