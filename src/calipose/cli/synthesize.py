"""`calipose synthesize`: synthetic people with exact keypoints."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from calipose.cli.console import err, say
from calipose.data.synthetic.scene import EASY, HARD, write_synthetic_data
from calipose.errors import InputError


class PresetName(StrEnum):
    """How difficult the images are."""

    easy = "easy"
    hard = "hard"


PRESETS = {PresetName.easy: EASY, PresetName.hard: HARD}


def synthesize_command(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="New folder for annotations.json and images/.")],
    images: Annotated[int, typer.Option(min=1, metavar="N", help="Number of images.")] = 100,
    preset: Annotated[
        PresetName,
        typer.Option(help="easy: one or two upright people; hard: up to six, cut off and occluded."),
    ] = PresetName.easy,
    size: Annotated[str, typer.Option(metavar="WxH", help="Pixels of an image.")] = "192x192",
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Equal seeds give equal images.")] = 0,
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="Number of processes.")] = 1,
) -> None:
    """Write a COCO data set of synthetic people with exact keypoints: for training, or for tests."""
    with err.status(f"Synthesizing {images} images"):
        annotations = write_synthetic_data(folder, images, PRESETS[preset], image_size(size), seed, workers)
    say(f"{images} images in {folder / 'images'}, their people in {annotations}")
    say(f"to train with them: calipose train synthetic --data {folder} --out runs/synthetic", "dim")


def image_size(text: str) -> tuple[int, int]:
    """Width and height of "WxH".

    Raises:
        InputError: something else is written there.
    """
    found = re.fullmatch(r"(\d+)\s*[xX]\s*(\d+)", text.strip())
    if not found:
        raise InputError(f"--size {text}: write width x height in pixels, for example 320x240")
    return int(found[1]), int(found[2])
