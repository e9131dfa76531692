"""What the commands share that judge models and results files: their arguments, and what these mean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calipose.errors import InputError
from calipose.skeleton import COCO_17, Skeleton

Source = Annotated[
    str,
    typer.Argument(
        metavar="MODEL|RESULTS",
        help="'default', a .safetensors or .onnx file, a run folder; or the COCO results (.json) of any model.",
    ),
]
HOLDS_RESULTS = "holds results, which no network predicts"
DATA_HELP = "Folder with annotations.json and images/, or ANNOTATIONS.json=IMAGES"
Data = Annotated[str, typer.Option(metavar="DATA", help=f"{DATA_HELP}; to predict.")]
Truth = Annotated[
    str, typer.Option("--ground-truth", metavar="FILE", help="COCO annotations to judge a results file by.")
]
SkeletonFile = Annotated[
    Path | None,
    typer.Option("--skeleton", metavar="FILE", help="Of results, if not COCO's 17 keypoints (.json, .toml)."),
]
Bootstrap = Annotated[int, typer.Option(min=0, help="Resamples of the images for the 95 % intervals; 0: none.")]


def is_results(source: str) -> bool:
    """Whether a source is a results file, and no model."""
    return Path(source).suffix.lower() == ".json"


def refuse(source: str, why: str, **options: object) -> None:
    """Say that options do not go with a source.

    Raises:
        InputError: one of them is given.
    """
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value]
    if given:
        raise InputError(f"{source}: {why}; leave out {', '.join(given)}")


def find_truth(source: str, data: str, ground_truth: str) -> Path:
    """The annotations that a results file is judged by.

    Raises:
        InputError: neither or both options name them, or they are not there.
    """
    if data and ground_truth:
        raise InputError(f"{source}: --data and --ground-truth both name annotations; leave out --data")
    if not data and not ground_truth:
        raise InputError(f"{source}: a results file is judged by --ground-truth ANNOTATIONS.json")
    path = Path(ground_truth or data.partition("=")[0])
    if path.is_dir():
        path = path / "annotations.json"
    if not path.is_file():
        raise InputError(f"{path}: no such annotation file")
    return path


def make_folders(*files: Path | None) -> None:
    """Make the folders that files will be written to, before the work begins.

    Raises:
        InputError: one cannot be made.
    """
    for file in files:
        try:
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{file}: its folder cannot be made ({error.strerror})") from None


def read_skeleton(path: Path | None) -> Skeleton:
    """Of a results file: COCO's unless a file says otherwise."""
    return COCO_17 if path is None else Skeleton.from_file(path)
