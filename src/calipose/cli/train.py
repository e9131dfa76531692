"""`calipose train`: a recipe, a data set, a run folder."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from calipose.cli.console import LINE_SECONDS, err, note, out, say, warn
from calipose.cli.options import Quiet
from calipose.config.recipe import Recipe, load_recipe
from calipose.data.locate import DATA_HELP, find_data, read_data
from calipose.draw import contact_sheet, draw_poses, save_image
from calipose.errors import InputError, NonFiniteLossError
from calipose.evaluation.ground_truth import read_ground_truth
from calipose.evaluation.run import Share, evaluate_predictor
from calipose.evaluation.scores import score_figures
from calipose.io.atomic import make_folder
from calipose.io.images import Image, read_image
from calipose.skeleton import Skeleton

if TYPE_CHECKING:
    from calipose.data.store import KeypointData
    from calipose.inference.predictor import Predictor
    from calipose.training.loop import Trainer, TrainingResult

SAMPLES = 8  # validation images on a contact sheet
SAMPLE_PX = 320
SHOWN_SCORE = 0.3  # poses below are left out of the sheet, as `calipose predict` does


def train_command(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A recipe's name (see calipose info), or a TOML file.")
    ],
    data: Annotated[
        list[str],
        typer.Option(
            metavar="DATA",
            help=f"{DATA_HELP}; IMAGES may be a tar or a folder of tars. May be repeated.",
        ),
    ],
    run: Annotated[
        Path,
        typer.Option("--out", metavar="RUN", help="Run folder: checkpoints, history, samples, TensorBoard."),
    ],
    validate: Annotated[
        str | None,
        typer.Option(metavar="DATA", help="Labelled images to evaluate on; the checkpoint of the best AP is kept."),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe; may be repeated."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the training in the run folder.")] = False,
    initial: Annotated[
        str | None,
        typer.Option(
            "--init",
            metavar="CHECKPOINT",
            help="Start from the weights of this checkpoint, of the same skeleton or another; onepass: the packaged "
            "network.",
        ),
    ] = None,
    same: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="NEW=OLD",
            help="Start keypoint NEW with the weights of keypoint OLD of the --init checkpoint, such as head=nose. "
            "Keypoints of equal names do so anyway. May be repeated.",
        ),
    ] = None,
    skeleton: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Skeleton (JSON or TOML) of data that is not COCO's 17 keypoints."),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the whole recipe.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train a model on labelled images.

    Ctrl-C saves after the current step and stops; --resume continues from there.
    For several GPUs or machines, start it with torchrun (docs/scale.md).
    """
    chosen = load_recipe(recipe, changes or [])
    if verbose and not quiet:
        out.print_json(data=chosen.to_dict())
    own = None if skeleton is None else Skeleton.from_file(skeleton)
    learnt = read_data(list(data), own)
    if not quiet:
        for remark in learnt.assumptions:
            warn(remark)
    same_as = read_pairs(same or [])
    result = run_training(
        chosen, learnt, run, validate=validate, resume=resume, initial=initial, same_as=same_as, quiet=quiet
    )
    if result is not None:
        say(f"trained in {result.minutes:.1f} min: {result.best or result.last}; everything is in {run}")
        say(f"try it: calipose predict IMAGE... --model {run}", "dim")
        say(f"then make its scores the OKS to expect: calipose calibrate {run} --data IMAGES-KEPT-APART", "dim")
    from calipose.training.processes import end_process

    end_process()


def read_pairs(pairs: list[str]) -> dict[str, str]:
    """The keypoints of `--map NEW=OLD`.

    Raises:
        InputError: not of that form, or a keypoint is named twice.
    """
    same_as: dict[str, str] = {}
    for pair in pairs:
        new, equals, old = (part.strip() for part in pair.partition("="))
        if not (new and equals and old):
            raise InputError(f"--map {pair}: write NEW=OLD, for example head=nose")
        if new in same_as:
            raise InputError(f"--map {pair}: '{new}' is already the same as '{same_as[new]}'")
        same_as[new] = old
    return same_as


def run_training(
    recipe: Recipe,
    data: KeypointData,
    run: Path,
    *,
    validate: str | None = None,
    resume: bool = False,
    initial: str | Path | None = None,
    same_as: dict[str, str] | None = None,
    quiet: bool = False,
) -> TrainingResult | None:
    """Train with everything that is shown meanwhile; None in the other processes of several.

    Raises:
        InputError: a data set, the run folder or the initial weights cannot be used.
        typer.Exit: the training was asked to stop.
    """
    from calipose.training.loop import Stopped, Trainer
    from calipose.training.processes import process_index

    quiet = quiet or process_index() > 0
    evaluate = None if validate is None else validation(validate, data.skeleton, run / "samples", quiet)
    trainer = Trainer(recipe, data, run, evaluate=evaluate, resume=resume, initial=initial, same_as=same_as)
    quiet = quiet or not trainer.accelerator.is_main_process
    if not quiet:
        introduce(trainer)
    try:
        with show_progress(trainer, quiet):
            result = trainer.run()
    except Stopped as stopped:
        if trainer.accelerator.is_main_process:
            say(f"{run}: {stopped}", "yellow")
        raise typer.Exit(130) from None
    except NonFiniteLossError:
        if trainer.accelerator.is_main_process:
            raise
        raise typer.Exit(1) from None  # all processes know; one says it
    return result if trainer.accelerator.is_main_process else None


def introduce(trainer: Trainer) -> None:
    """Say what is about to be trained."""
    recipe, data, network = trainer.recipe, trainer.data, trainer.network
    total = sum(p.numel() for p in network.parameters())
    backbone = sum(p.numel() for p in network.backbone.parameters())
    learning = sum(p.numel() for p in network.parameters() if p.requires_grad)
    processes = trainer.accelerator.num_processes
    why = f" ({trainer.precision_reason})" if trainer.precision_reason else ""
    rows = {
        "recipe": f"{recipe.name}: {recipe.description}",
        "network": f"{recipe.backbone.name}, {total / 1e6:.2f} M parameters ({backbone / 1e6:.2f} M the backbone's), "
        f"{learning / 1e6:.2f} M learn",
        "weights": "\n".join(trainer.notes) or "fresh",
        "data": f"{len(data)} images, {len(data.keypoints_img)} people, skeleton {data.skeleton.name}",
        "training": f"{recipe.epochs} epochs of {trainer.steps_per_epoch} steps, {recipe.batch_size} "
        f"images of {recipe.size} px a batch, {trainer.precision}{why}, on {processes} x {trainer.accelerator.device}",
    }
    if processes == 1 and os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true":
        note("accelerate launch --cpu starts one process, whatever --num_processes says; torchrun starts several")
    if trainer.step:
        rows["resumed"] = f"after step {trainer.step} of {trainer.total_steps}"
    for name, text in rows.items():
        for i, line in enumerate(text.splitlines()):
            say(f"{'' if i else name:<10}{line}")


@contextmanager
def show_progress(trainer: Trainer, quiet: bool) -> Iterator[None]:
    """A bar with step, losses, speed and remaining time; without a terminal a line now and then."""
    if quiet:
        yield
        return
    optim = trainer.recipe.optim
    images = trainer.recipe.batch_size * optim.accumulate
    begun, first = time.monotonic(), trainer.step

    def text(step: int, losses: dict[str, float]) -> str:
        speed = (step - first) * images / max(time.monotonic() - begun, 1e-9)
        shown = "  ".join(f"{name} {losses[name]:.3f}" for name in ("score", "offset"))
        return f"{shown}  OKS {losses['mean_oks']:.2f}  {speed:.1f} images/s"

    if not err.is_terminal:
        trainer.progress = _lines(text, first)
        yield
        return
    columns = (
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        BarColumn(bar_width=12),
        TextColumn("{task.fields[text]}"),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
    )
    with Progress(*columns, console=err) as bar:
        task = bar.add_task("", total=trainer.total_steps, completed=first, text="first step")
        trainer.progress = lambda step, _, losses: bar.update(task, completed=step, text=text(step, losses))
        yield


def _lines(text: Callable[[int, dict[str, float]], str], first: int) -> Callable[[int, int, dict[str, float]], None]:
    """Progress for a log file, of a training that begins after step `first`."""
    begun = last = time.monotonic()

    def show(step: int, total: int, losses: dict[str, float]) -> None:
        nonlocal last
        if step == total or time.monotonic() - last > LINE_SECONDS:
            last = time.monotonic()
            left = (total - step) * (last - begun) / max(step - first, 1)
            err.print(f"{step}/{total}  {text(step, losses)}  {_duration(left)} left", markup=False, soft_wrap=True)

    return show


def _duration(seconds: float) -> str:
    """Hours and minutes, or minutes and seconds: "1 h 20 min", "2 min 5 s"."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def validation(
    source: str, skeleton: Skeleton, samples: Path, quiet: bool
) -> Callable[[Predictor, int], dict[str, float]]:
    """What the trainer calls after an epoch: figures on a data set, and a sheet of its first images.

    Raises:
        InputError: the data set is missing or broken, or nobody in it has a labelled keypoint.
    """
    from calipose.training.processes import gathered, process_count, process_index

    annotations, images = find_data(source)
    data = read_data([source], skeleton)  # a broken data set is said now, not after the first epoch,
    if not quiet:
        for remark in data.assumptions:
            warn(remark)
    truth = read_ground_truth(annotations, skeleton)  # and so is one that can be learnt from, but not evaluated on
    if not len(data.keypoints_img):
        raise InputError(f"{annotations}: nobody has a labelled keypoint, so there is nothing to validate with")
    files = [data.image_path(i) for i in range(min(SAMPLES, len(data)))]

    def evaluate(predictor: Predictor, epoch: int) -> dict[str, float]:
        share = Share(process_index(), process_count(), gathered)
        evaluation = evaluate_predictor(predictor, truth, images, share=share)
        figures = evaluation.ap
        if not share.index:
            make_folder(samples)
            save_image(samples / f"epoch_{epoch:03d}.jpg", sample_sheet(predictor, files))
        spearman = score_figures(evaluation.matches[evaluation.populations["best"]])["spearman"]
        if not quiet:
            err.print(
                f"epoch {epoch}: AP {figures.ap:.3f}  AP50 {figures.ap50:.3f}  AR {figures.ar:.3f}  "
                f"rank correlation of score and OKS {spearman:.3f}",
                soft_wrap=True,
            )
        metrics = {"ap": figures.ap, "ap50": figures.ap50, "ap75": figures.ap75, "ar": figures.ar}
        return metrics | ({} if math.isnan(spearman) else {"spearman": spearman})  # nan is no JSON

    return evaluate


def sample_sheet(predictor: Predictor, files: list[Path], columns: int = 4) -> Image:
    """Contact sheet of the poses found in images, which are read as stored, as their annotations count."""
    stored = [read_image(file, ignore_orientation=True) for file in files]
    drawn = [draw_poses(image, predictor.predict(image), min_score=SHOWN_SCORE) for image in stored]
    return contact_sheet(drawn, columns, (SAMPLE_PX, SAMPLE_PX), [file.name for file in files])
