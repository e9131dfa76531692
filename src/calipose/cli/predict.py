"""`calipose predict`: poses in pictures, drawn and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calipose.cli.common import (
    Device,
    Flip,
    Quiet,
    ShortSide,
    err,
    open_predictor,
    progress_over,
    say,
    say_error,
)
from calipose.draw import SUFFIXES, draw_poses, save_picture
from calipose.errors import InputError, PictureError
from calipose.evaluation.run import save_results
from calipose.images import read_picture

if TYPE_CHECKING:
    from calipose.predictor import Predictor

POSES = "poses.json"


def predict(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A .safetensors file, or a run folder.")],
    pictures: Annotated[list[Path], typer.Argument(metavar="PICTURE...", help="Pictures, or folders of them.")],
    folder: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the drawn pictures and poses.json.")],
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Poses below are neither drawn nor written.")] = 0.3,
    flip: Flip = False,
    short_side: ShortSide = None,
    queries: Annotated[
        bool,
        typer.Option("--queries", help="Draw the keypoint queries as yellow circles (the paper's Figure 2)."),
    ] = False,
    device: Device = "",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="One line a picture.")] = False,
    quiet: Quiet = False,
) -> None:
    """Find the poses in pictures: a drawn picture each, and all poses in poses.json.

    Pictures that cannot be read are skipped and listed at the end; the exit code is then 1.
    Nothing is overwritten in DIR but the drawings of an earlier prediction.
    """
    sources = find_pictures(pictures)
    drawn = drawn_names(sources, folder)
    predictor = open_predictor(checkpoint, device, flip, short_side, min_score)
    folder.mkdir(parents=True, exist_ok=True)
    found: list[dict[str, Any]] = []
    unreadable: list[PictureError] = []
    try:
        for source in progress_over("Predicting", quiet or verbose)(sources):
            try:
                found.append(predict_file(predictor, source, drawn[source], min_score, queries))
            except PictureError as error:
                unreadable.append(error)
            else:
                if verbose:
                    scores = " ".join(f"{pose['score']:.2f}" for pose in found[-1]["poses"])
                    say(f"{source}: {len(found[-1]['poses'])} poses  {scores}")
    finally:
        if found:  # an interruption loses none of them, and an early one not those of an earlier prediction
            save_results(folder / POSES, found)
    if found and not quiet:
        number = sum(len(entry["poses"]) for entry in found)
        say(f"{number} poses of score >= {min_score} in {len(found)} pictures: {folder / POSES}")
    if unreadable:
        for problem in unreadable:
            say_error(str(problem))
        err.print(f"{len(unreadable)} of {len(sources)} pictures could not be read", style="red")
        raise typer.Exit(1)


def predict_file(predictor: Predictor, source: Path, drawn: Path, min_score: float, queries: bool) -> dict[str, Any]:
    """Find the poses of one picture and draw them to `drawn`; the picture's entry of poses.json.

    Raises:
        PictureError: the picture cannot be read.
        InputError: queries are wished, but the network has none; or `drawn` cannot be written.
    """
    picture = read_picture(source)
    poses, queries_img = predictor.predict_with_queries(picture)
    if queries and queries_img is None:
        raise InputError("--queries: this network was trained with method.kqe = false; it has no keypoint queries")
    rings = queries_img if queries else None
    save_picture(drawn, draw_poses(picture, poses, min_score=min_score, queries_img=rings))
    return {"file": str(source), "drawn": drawn.name, **poses.above(min_score).to_dict()}


def find_pictures(sources: list[Path]) -> list[Path]:
    """The named files, and the pictures that lie directly in the named folders, each once.

    Raises:
        InputError: a folder without pictures.
    """
    found: dict[Path, Path] = {}
    for source in sources:
        files = [source]
        if source.is_dir():
            files = sorted(file for file in source.iterdir() if file.suffix.lower() in SUFFIXES)
            if not files:
                raise InputError(f"{source}: no pictures in this folder ({' '.join(SUFFIXES)})")
        for file in files:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def drawn_names(sources: list[Path], folder: Path) -> dict[Path, Path]:
    """Where each picture's drawing goes: its own stem, .png for a .png and .jpg for all others.

    Of equal names the later ones are numbered.

    Raises:
        InputError: a drawing would overwrite a file that is no drawing of an earlier prediction.
    """
    names: dict[Path, Path] = {}
    taken: set[str] = set()
    ours = earlier_drawings(folder)
    originals = {source.resolve() for source in sources}
    for source in sources:
        suffix = ".png" if source.suffix.lower() == ".png" else ".jpg"
        name, number = source.stem + suffix, 1
        while name.lower() in taken:  # some file systems do not tell A.jpg from a.jpg
            number += 1
            name = f"{source.stem}-{number}{suffix}"
        taken.add(name.lower())
        names[source] = folder / name
        if names[source].resolve() in originals:
            raise InputError(f"--out {folder}: {name} would overwrite the picture itself; name another folder")
        if names[source].exists() and name not in ours:
            raise InputError(f"--out {folder}: {name} is there already, and not listed in {POSES}; name another folder")
    return names


def earlier_drawings(folder: Path) -> set[str]:
    """Names of the drawings that the folder's poses.json lists; none where there is no poses.json.

    Raises:
        InputError: a file of that name is not from an earlier prediction.
    """
    file = folder / POSES
    if not file.exists():
        return set()
    try:
        return {str(entry["drawn"]) for entry in json.loads(file.read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError, KeyError):
        raise InputError(f"--out {folder}: its {POSES} is not from calipose predict; name another folder") from None
