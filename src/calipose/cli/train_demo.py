"""`calipose train-demo`: the whole way on synthetic people, from an empty folder to a measured network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calipose.cli.console import err, out, progress_over, say
from calipose.cli.evaluation_tables import figures_table
from calipose.cli.model import open_predictor
from calipose.cli.train import SHOWN_SCORE, run_training, sample_sheet
from calipose.config.recipe import Recipe, load_recipe
from calipose.data.locate import read_data
from calipose.data.synthetic.scene import EASY, write_synthetic_data
from calipose.draw import draw_poses, save_image
from calipose.errors import CaliposeError, InputError
from calipose.evaluation.run import evaluate_predictor, save_results
from calipose.formats.journal import Journal
from calipose.io.atomic import make_folder, replacing
from calipose.io.images import read_image

if TYPE_CHECKING:
    from calipose.evaluation.evaluation import Evaluation

MARK = "calipose-demo.json"  # a folder that holds it was made here, and may be replaced
IMAGE_PX = 192
UNSEEN_IMAGES = 100
TRAIN_SEED, UNSEEN_SEED = 1, 2
MIN_AP50 = 0.8
SHEET_IMAGES = 24


def train_demo_command(
    folder: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", help="Folder of the demo; an earlier demo there is replaced."),
    ] = Path("runs/demo"),
    train_images: Annotated[
        int, typer.Option(min=16, metavar="N", help="Number of synthetic images to train with.")
    ] = 1600,
) -> None:
    """Train a small network on synthetic people, and find the poses in images that it has not seen.

    Needs no data and no GPU; takes minutes. Ends with AP on the unseen images.
    """
    evaluation = run_demo(folder, train_images, UNSEEN_IMAGES, load_recipe("synthetic"))
    figures = evaluation.ap
    out.print(figures_table(evaluation))
    say(f"unseen images with the poses found: {folder / 'contact_sheet.jpg'}, each in {folder / 'images'}")
    say(f"network: {folder / 'run'}; poses: {folder / 'poses.jsonl'}")
    if not figures.ap50 >= MIN_AP50:
        raise CaliposeError(f"AP50 on the unseen images is {figures.ap50:.3f}; a sound network has {MIN_AP50} here")


def run_demo(folder: Path, train_images: int, unseen_images: int, recipe: Recipe) -> Evaluation:
    """Synthesize, train, predict and evaluate into `folder`; returns the evaluation on the unseen images.

    Raises:
        InputError: the folder holds something that is no demo.
        typer.Exit: the training was asked to stop.
    """
    clear(folder)
    train, unseen = folder / "train", folder / "unseen"
    for data, number, seed in ((train, train_images, TRAIN_SEED), (unseen, unseen_images, UNSEEN_SEED)):
        with err.status(f"Synthesizing {number} images"):
            write_synthetic_data(data, number, EASY, (IMAGE_PX, IMAGE_PX), seed)
    say(f"{train_images} synthetic images to train with and {unseen_images} unseen ones: {folder}")
    run_training(recipe, read_data([train]), folder / "run")

    predictor = open_predictor(folder / "run", "", False, None)
    annotations, images = unseen / "annotations.json", unseen / "images"
    evaluation = evaluate_predictor(
        predictor, annotations, images, bootstrap=1000, track=progress_over("Predicting", quiet=False)
    )
    save_results(folder / "results.json", evaluation.entries)
    make_folder(folder / "images")
    files = sorted(images.iterdir())
    with Journal(folder / "poses.jsonl") as journal:
        for file in files:
            image = read_image(file)
            poses = predictor.predict(image).above(SHOWN_SCORE)
            journal.add(str(file), f"images/{file.name}", poses)
            save_image(folder / "images" / file.name, draw_poses(image, poses))
    save_image(folder / "contact_sheet.jpg", sample_sheet(predictor, files[:SHEET_IMAGES], columns=6))
    return evaluation


def clear(folder: Path) -> None:
    """An empty folder that is marked as a demo's.

    Raises:
        InputError: the folder holds something that is no demo.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not (folder / MARK).is_file():
            raise InputError(f"{folder} holds something that is no demo: name a new folder with --out")
        shutil.rmtree(folder)
    make_folder(folder)
    note = "Made by `calipose train-demo`, which replaces this folder when it is run again."
    with replacing(folder / MARK) as temporary:
        temporary.write_text(json.dumps({"note": note}) + "\n", encoding="utf-8")
