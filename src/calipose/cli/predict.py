"""`calipose predict`: poses in images and videos, drawn and written."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from calipose.calibration.precision import PrecisionTarget
from calipose.cli.common import err, open_predictor, say, say_error, stop_requests, warn_of_setting
from calipose.cli.prediction_run import PredictionRun, counted
from calipose.inference.output_folder import FILES, OutputFolder
from calipose.inference.predictor import Predictor
from calipose.inference.stream import PredictOptions
from calipose.io.sources import Source, find_sources

INPUT, OUTPUT, POSES = "What goes in", "What comes out", "Poses"
VIDEOS, MODEL, MESSAGES = "Videos and webcams", "Model", "Messages"
DEFAULT_OUT = "calipose-out"
MIN_SCORE = 0.3


class Format(StrEnum):
    """What `--out -` writes."""

    JSONL = "jsonl"
    CSV = "csv"
    COCO = "coco"


class Saved(StrEnum):
    """What `--save` writes; keys of `calipose.inference.output_folder.FORMATS`."""

    CSV = "csv"
    COCO = "coco"
    LABEL_STUDIO = "label-studio"
    CVAT = "cvat"


def predict(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Images, videos, folders of them, patterns ('holiday/*.jpg'), http(s) URLs of images, webcam:0.",
        ),
    ],
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Also take the folders in folders.", rich_help_panel=INPUT)
    ] = False,
    out: Annotated[
        str,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Folder for the drawings and poses.jsonl. With - the poses go to standard output, nothing is drawn.",
            rich_help_panel=OUTPUT,
        ),
    ] = DEFAULT_OUT,
    draw: Annotated[
        bool,
        typer.Option(
            "--draw/--no-draw", help="Draw the poses into copies of images and videos.", rich_help_panel=OUTPUT
        ),
    ] = True,
    formats: Annotated[
        list[Saved] | None,
        typer.Option(
            "--save",
            metavar="FORMAT",
            help="csv, coco, label-studio or cvat: also write poses.csv, results.json, label_studio.json, cvat.xml. "
            "May be repeated.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    stream_format: Annotated[
        Format,
        typer.Option(
            "--format", metavar="FORMAT", help="What --out - writes: jsonl, csv or coco.", rich_help_panel=OUTPUT
        ),
    ] = Format.JSONL,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Skip what is complete in DIR already, and go on.", rich_help_panel=OUTPUT),
    ] = False,
    min_score: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="SCORE",
            help=f"Poses below are neither drawn nor written; by default {MIN_SCORE:g}.",
            show_default=False,
            rich_help_panel=POSES,
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            metavar="SHARE@OKS",
            help="Instead: 0.95@0.75 keeps the poses of which 95 % have OKS 0.75 or more, as the calibration data say.",
            show_default=False,
            rich_help_panel=POSES,
        ),
    ] = "",
    min_keypoint_score: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            metavar="SCORE",
            help="Joints below are not drawn, if the model scores joints.",
            rich_help_panel=POSES,
        ),
    ] = 0.3,
    queries: Annotated[
        bool,
        typer.Option(
            "--queries",
            help="Draw the keypoint queries as yellow circles (the paper's Figure 2).",
            rich_help_panel=POSES,
        ),
    ] = False,
    flip: Annotated[
        bool,
        typer.Option(
            "--flip",
            help="Average with the mirrored image: twice the time; not of a .onnx file.",
            rich_help_panel=POSES,
        ),
    ] = False,
    short_side: Annotated[
        int | None,
        typer.Option(
            min=32,
            metavar="PIXELS",
            help="Pixels of an image's short side in the network; more finds smaller people. By default the model's.",
            rich_help_panel=POSES,
        ),
    ] = None,
    scales: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Multiples of the short side, such as 0.5,1,2: of all these sizes the best pose of each person is "
            "kept. By default the model's.",
            show_default=False,
            rich_help_panel=POSES,
        ),
    ] = "",
    track: Annotated[
        bool | None,
        typer.Option(
            "--track/--no-track",
            help="Follow people: ids that stay, short gaps filled (dashed), weaker poses kept where a person was just "
            "before. On by default.",
            show_default=False,
            rich_help_panel=VIDEOS,
        ),
    ] = None,
    smooth: Annotated[
        bool, typer.Option("--smooth", help="Smooth the coordinates of people followed.", rich_help_panel=VIDEOS)
    ] = False,
    every: Annotated[
        int, typer.Option(min=1, metavar="N", help="Take every Nth frame only.", rich_help_panel=VIDEOS)
    ] = 1,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            metavar="FILE",
            help="A .onnx file, a .safetensors file or a run folder; by default the model that comes with Calipose.",
            show_default=False,
            rich_help_panel=MODEL,
        ),
    ] = "default",
    device: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="cpu, cuda, cuda:1, ...; by default a GPU where there is one.",
            show_default=False,
            rich_help_panel=MODEL,
        ),
    ] = "",
    providers: Annotated[
        list[str] | None,
        typer.Option(
            "--provider",
            metavar="NAME",
            help="Of a .onnx file: cuda or another provider of ONNX Runtime; may be repeated, best first.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    threads: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Of a .onnx file: threads; 0: ONNX Runtime's choice.", rich_help_panel=MODEL
        ),
    ] = 0,
    batch_size: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Images of equal size that go through the network together; faster on a GPU.",
            rich_help_panel=MODEL,
        ),
    ] = 1,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="A line for each image, however many.", rich_help_panel=MESSAGES)
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing but errors.", rich_help_panel=MESSAGES)] = False,
) -> None:
    """Find the poses in images and videos, draw them, and write them to poses.jsonl.

    What cannot be read is passed over and listed at the end, with exit code 1.
    Ctrl-C stops after the running image; --resume goes on there.
    Nothing in DIR is replaced but what was made of the same SOURCE before.
    """
    to_stdout = out == "-"
    if queries and track:
        raise typer.BadParameter("--queries are those of the network, not of people followed: leave out --track")
    if queries and (to_stdout or not draw):
        raise typer.BadParameter("--queries are only drawn, and nothing is drawn here")
    if to_stdout and (formats or resume):
        raise typer.BadParameter("--save and --resume need a folder as --out; --format says what --out - writes")
    if not to_stdout and stream_format is not Format.JSONL:
        raise typer.BadParameter(f"--format is for --out -; for a folder: --save {stream_format}")

    if precision and min_score is not None:
        raise typer.BadParameter("--precision chooses the least score: leave out --min-score")
    wish = PrecisionTarget.parse(precision) if precision else None

    sources = find_sources(*what, recursive=recursive)
    if recursive and not to_stdout:
        sources = outside(Path(out), sources)
    least = MIN_SCORE if min_score is None else min_score
    predictor = open_predictor(model, device, flip, short_side, least, providers, threads, scales, need_torch=queries)
    if not quiet:
        warn_of_setting(predictor)
        if predictor.calibration.is_identity and not to_stdout:
            message = "scores are the network's own; calipose calibrate makes them the expected OKS"
            err.print(message, style="yellow", markup=False, soft_wrap=True)
    if wish is not None:
        least = threshold_of(wish, predictor, quiet or to_stdout)
    options = PredictOptions(
        min_score=least,
        batch_size=batch_size,
        queries=queries,
        track=not queries if track is None else track,
        smooth=smooth,
        every=every,
        strict=wish is not None,
    )
    folder = None
    if not to_stdout:
        wished = [saved.value for saved in dict.fromkeys(formats or [])]
        folder = OutputFolder(Path(out), sources, resume=resume, draw=draw, formats=wished)
    with stop_requests("stopping; Ctrl-C again stops at once") as stopped:
        run = PredictionRun(predictor, sources, options, stopped, quiet=quiet, verbose=verbose)
        if folder is None:
            run.to_stdout(stream_format.value)
        else:
            run.to_folder(folder, min_keypoint_score)
    if run.stopped_early:
        again = "" if to_stdout else "; the same command with --resume goes on"
        err.print(f"stopped: {run.done} of {len(sources)} done{again}", style="yellow", markup=False, soft_wrap=True)
    for problem in run.broken:
        say_error(str(problem))
    if run.broken:
        err.print(f"{len(run.broken)} of {len(sources)} could not be read", style="red", markup=False)
    if run.stopped_early or run.broken:
        raise typer.Exit(130 if run.stopped_early else 1)


def threshold_of(wish: PrecisionTarget, predictor: Predictor, quiet: bool) -> float:
    """The least score that fulfils the wish; says what it costs, unless it is to be quiet.

    Raises:
        InputError: the calibration data cannot support the wish.
    """
    found = predictor.calibration.precision.choose(wish)
    least = float(predictor.calibration.score(found.raw))
    if not quiet:
        say(
            f"precision {wish}: score {least:.2f} or more. On the calibration data {100 * found.precision:.0f} % of"
            f" {counted(found.poses, 'pose')} in {counted(found.images, 'image')} were that good (at least"
            f" {100 * found.bound:.0f} % with 95 % confidence): {100 * found.recall:.0f} % of the people, instead of"
            f" {100 * found.full_recall:.0f} % without a threshold"
        )
    return least


def outside(folder: Path, sources: list[Source]) -> list[Source]:
    """The sources without those in a folder, unless all are there: drawings in DIR are not drawn again."""
    place = Path(os.path.realpath(folder))  # not Path.resolve: it raises where links lead in a circle
    inside = [source.kind in FILES and Path(os.path.realpath(source.value)).is_relative_to(place) for source in sources]
    return sources if all(inside) else [source for source, lies in zip(sources, inside, strict=True) if not lies]
