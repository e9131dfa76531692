"""`calipose predict`: poses in images and videos, drawn and written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from calipose.calibration.precision import PrecisionTarget
from calipose.cli import options
from calipose.cli.console import counted, ctrl_c, note, say
from calipose.cli.model import open_predictor, warn_of_setting
from calipose.cli.prediction_run import PredictionRun
from calipose.errors import InputError, WriteError
from calipose.formats.table import prefixed_formats
from calipose.inference.output_folder import OutputFolder, sources_outside
from calipose.inference.packaged import DEFAULT, FAST, FILES
from calipose.inference.pool import threads_each
from calipose.inference.predictor import Predictor
from calipose.inference.stream import PredictOptions
from calipose.io.folders import passed_over
from calipose.io.sources import find_sources

DEFAULT_OUT = "calipose-out"
DEFAULT_FORMAT = "jsonl"
STANDARD_OUTPUT = "-"


def predict_command(
    sources: options.Sources,
    recursive: options.Recursive = False,
    out: options.Out = DEFAULT_OUT,
    draw: options.Draw = True,
    # Calls, not aliases: the annotation is read when the command is built, so that the table is read then, too.
    formats: Annotated[list[str] | None, options.save_option()] = None,
    image_prefix: Annotated[str, options.image_prefix_option()] = "",
    stream_format: Annotated[str, options.format_option()] = DEFAULT_FORMAT,
    resume: options.Resume = False,
    min_score: options.MinScore = None,
    precision: options.Precision = "",
    min_keypoint_score: options.MinKeypointScore = 0.3,
    regions: options.Regions = None,
    queries: options.Queries = False,
    track: options.Track = None,
    smooth: options.Smooth = False,
    every: options.Every = 1,
    model: options.Model = DEFAULT,
    form: options.As = "",
    short_side: options.ShortSide = None,
    scales: options.Scales = "",
    flip: options.Flip = False,
    device: options.Device = "",
    providers: options.Providers = None,
    threads: options.Threads = 0,
    workers: options.Workers = 1,
    batch_size: options.BatchSize = 1,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Find the poses in images and videos, draw them, and write them to poses.jsonl.

    Files that cannot be read are skipped and listed at the end; the exit code is then 1.
    Ctrl-C stops after the current image; --resume continues from there.
    Of the files in DIR, only those of the same SOURCE are replaced.
    """
    to_stdout = out == STANDARD_OUTPUT
    if as_json and to_stdout:
        raise typer.BadParameter("--json and --out - both write to standard output; give a folder as --out")
    quiet = quiet or as_json
    check_options(
        to_stdout=to_stdout,
        draw=draw,
        formats=formats,
        image_prefix=image_prefix,
        stream_format=stream_format,
        resume=resume,
        min_score=min_score,
        precision=precision,
        queries=queries,
        track=track,
    )
    for source in sources:
        if source in FILES and not Path(source).exists():
            raise typer.BadParameter(f"'{source}' is a model, and no image: write --model {source}")
    target = PrecisionTarget.parse(precision) if precision else None

    found = find_sources(*sources, recursive=recursive)
    if recursive and not to_stdout:
        found = sources_outside(Path(out), found)
    if not quiet and not to_stdout:
        for source in sources:
            for suffix, number in passed_over(source, recursive).items():
                files = counted(number, "file")
                note(f"{source}: {files} skipped: {suffix} cannot be read; convert to JPEG or PNG")
    threshold = options.MIN_SCORE if min_score is None else min_score
    if model == DEFAULT and any(source.kind == "webcam" for source in found):
        model = FAST  # live: what takes longer loses frames
    if workers > 1 and not threads:
        threads = threads_each(workers)
    predictor = open_predictor(
        model, device, flip, short_side, threshold, providers, threads, scales, need_torch=queries, form=form
    )
    if not quiet:
        warn_of_setting(predictor)
        if predictor.calibration.is_identity and not to_stdout:
            note("scores are the model's own; calipose calibrate makes them the expected OKS")
    if regions is not None:
        predictor.calibration.regions.require(regions)  # before anything is predicted
    if target is not None:
        threshold = score_threshold(target, predictor, quiet=quiet or to_stdout)
    predict_options = PredictOptions(
        min_score=threshold,
        batch_size=batch_size,
        queries=queries,
        track=not queries if track is None else track,
        smooth=smooth,
        every=every,
        strict=target is not None,
        regions=regions,
    )
    folder = None
    if not to_stdout:
        unique = list(dict.fromkeys(formats or []))
        folder = OutputFolder(Path(out), found, resume=resume, draw=draw, formats=unique, image_prefix=image_prefix)
        if not (quiet or image_prefix) and any(source.kind == "image" for source in found):
            for name in set(prefixed_formats()) & set(folder.formats):
                note(
                    f"--save {name}: images are named as in the command, and not shown unless they are found there; "
                    "--image-prefix gives them addresses"
                )
        if folder.without_videos and not quiet:
            written = set(folder.without_videos) & set(folder.formats)
            what = "the videos are left out of it" if written else "of videos only, no such file is written"
            note(f"--save {' and '.join(folder.without_videos)}: for still images only; {what}")
        if folder.without_images and not quiet:
            written = set(folder.without_images) & set(folder.formats)
            what = "the images are left out of it" if written else "of images only, no such file is written"
            note(f"--save {' and '.join(folder.without_images)}: for people followed through videos only; {what}")
    with ctrl_c("stopping; Ctrl-C again stops at once") as stopped:
        run = PredictionRun(predictor, found, predict_options, stopped, quiet=quiet, verbose=verbose, workers=workers)
        try:
            if folder is None:
                run.to_stdout(stream_format)
            else:
                run.to_folder(folder, min_keypoint_score)
        except InputError as error:  # a full disk: what else went wrong is said, too
            run.stopped_early = isinstance(error, WriteError) and run.done > 0
            run.say_problems(can_resume=not to_stdout)
            raise
    run.say_problems(can_resume=not to_stdout)
    run.say_shift()
    if as_json:
        print(json.dumps(run.to_dict() | {"folder": out}))
    if run.exit_code:
        raise typer.Exit(run.exit_code)


def check_options(
    *,
    to_stdout: bool,
    draw: bool,
    formats: list[str] | None,
    image_prefix: str,
    stream_format: str,
    resume: bool,
    min_score: float | None,
    precision: str,
    queries: bool,
    track: bool | None,
) -> None:
    """Options that do not go together are said before anything is opened.

    Raises:
        typer.BadParameter: two options contradict each other.
    """
    if queries and track:
        raise typer.BadParameter("--queries do not go with following people: leave out --track")
    if queries and (to_stdout or not draw):
        raise typer.BadParameter("--queries are only drawn, and nothing is drawn here")
    if to_stdout and (formats or resume):
        raise typer.BadParameter("--save and --resume need a folder as --out; --format says what --out - writes")
    opened = [name for name in prefixed_formats() if name in (formats or [])]
    if image_prefix and not opened:
        raise typer.BadParameter(f"--image-prefix is for --save {' or '.join(prefixed_formats())}")
    if not to_stdout and stream_format != DEFAULT_FORMAT:
        raise typer.BadParameter(f"--format is for --out -; for a folder: --save {stream_format}")
    if precision and min_score is not None:
        raise typer.BadParameter("--precision chooses the score threshold: leave out --min-score")


def score_threshold(target: PrecisionTarget, predictor: Predictor, quiet: bool) -> float:
    """The lowest score threshold that reaches the target precision; prints what it costs, unless `quiet`.

    Raises:
        InputError: the calibration data cannot support the target.
    """
    chosen = predictor.calibration.precision.choose(target)
    threshold = float(predictor.calibration.score(chosen.raw))
    if not quiet:
        say(
            f"precision {target}: score {threshold:.2f} or more. On the calibration data {100 * chosen.precision:.0f} %"
            f" of {counted(chosen.poses, 'pose')} in {counted(chosen.images, 'image')} were that good (at least"
            f" {100 * chosen.bound:.0f} % with 95 % confidence). They find {100 * chosen.recall:.0f} % of the people;"
            f" without a threshold it is {100 * chosen.full_recall:.0f} %"
        )
    return threshold
