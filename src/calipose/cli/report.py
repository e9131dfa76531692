"""`calipose report`: one HTML page that shows how good poses are, and what their scores are worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calipose.cli.console import say, warn
from calipose.cli.judging import (
    Bootstrap,
    ModelOptions,
    OnlyLabelled,
    SkeletonFile,
    Source,
    open_source,
    refuse,
)
from calipose.cli.options import As, Device, Flip, Quiet, Scales, ShortSide
from calipose.data.locate import DATA_HELP
from calipose.inference.packaged import FILES
from calipose.report import write_comparison_report, write_report
from calipose.report.chart import require_matplotlib

HISTORY = "history.jsonl"  # of a run
MIN_BOOTSTRAP = 100  # resamples for the difference of two models


def report_command(
    source: Source,
    other: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|RESULTS",
            help="A second model or results file: the page then shows both side by side.",
            show_default=False,
        ),
    ] = "",
    *,
    data: Annotated[str, typer.Option(metavar="DATA", help=f"{DATA_HELP}.")],
    folder: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="For report.html and figures/.")] = Path(
        "calipose-report"
    ),
    form: As = "",
    flip: Flip = False,
    short_side: ShortSide = None,
    scales: Scales = "",
    skeleton: SkeletonFile = None,
    only_labelled: OnlyLabelled = False,
    name: Annotated[str, typer.Option(metavar="TEXT", help="What the page calls it; by default the file's name.")] = "",
    bootstrap: Bootstrap = 1000,
    device: Device = "",
    quiet: Quiet = False,
) -> None:
    """Write an HTML page with AP, reliability diagrams, kinds of errors and the worst images.

    The page opens without an internet connection.
    """
    require_matplotlib()
    options = ModelOptions(flip, scales, short_side, device, form=form)
    opened = open_source(source, data, options, skeleton=skeleton, only_labelled=only_labelled, needs_images=True)
    assert opened.images is not None
    opened.truth.require_files()  # before hours of prediction
    evaluation = opened.evaluation(bootstrap, quiet)
    if other:
        refuse(other, "of two models, the page names each by its file", name=name)
        second = open_source(other, data, options, skeleton=skeleton, only_labelled=only_labelled, needs_images=True)
        against = second.evaluation(bootstrap, quiet)
        names = Path(source).name, Path(other).name
        page = write_comparison_report(
            folder, evaluation, against, opened.images, names=names, bootstrap=max(bootstrap, MIN_BOOTSTRAP)
        )
        for caution in dict.fromkeys(evaluation.assumptions + against.assumptions):
            warn(caution)
        say(f"report: {page}")
        return
    run = Path(source) if Path(source).is_dir() else Path(source).parent
    is_run = source not in FILES and Path(source).suffix in {"", ".safetensors"}
    history = run / HISTORY if is_run and (run / HISTORY).is_file() else None
    page = write_report(folder, evaluation, opened.images, name=name or Path(source).name, history=history)
    for caution in evaluation.cautions:
        warn(caution)
    say(f"report: {page}")
