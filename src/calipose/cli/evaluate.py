"""`calipose evaluate`: AP of a model or of a results file, and what its scores are worth."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calipose.cli.console import out, progress_over, say, warn
from calipose.cli.evaluation_tables import figure, print_details, print_summary
from calipose.cli.judging import (
    Bootstrap,
    Data,
    ModelOptions,
    OnlyLabelled,
    OpenedSource,
    SkeletonFile,
    Source,
    Truth,
    make_folders,
    open_source,
    refuse,
)
from calipose.cli.options import As, Device, Flip, Quiet, Scales, ShortSide, read_scales
from calipose.errors import InputError
from calipose.evaluation.metrics import METRICS
from calipose.evaluation.run import evaluate_predictor, save_results
from calipose.evaluation.scores import score_figures
from calipose.io.atomic import replacing

if TYPE_CHECKING:
    from rich.table import Table

GRID_SCALES = "0.75,1,1.5"  # what --grid compares a single scale with


def evaluate_command(
    source: Source,
    data: Data = "",
    ground_truth: Truth = "",
    skeleton: SkeletonFile = None,
    only_labelled: OnlyLabelled = False,
    results: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write all poses as COCO results, numbers not rounded."),
    ] = None,
    figures: Annotated[
        Path | None, typer.Option("--figures", metavar="FILE", help="Write all figures as JSON.")
    ] = None,
    form: As = "",
    flip: Flip = False,
    scales: Scales = "",
    short_side: ShortSide = None,
    grid: Annotated[
        bool,
        typer.Option(
            "--grid",
            help=f"Print AP only: without and with flip, at one scale and at --scales (by default {GRID_SCALES}).",
        ),
    ] = False,
    details: Annotated[
        bool,
        typer.Option("--details", help="Print all figures: by size, occlusion, crowding, of keypoints, of regions."),
    ] = False,
    bootstrap: Bootstrap = 1000,
    device: Device = "",
    quiet: Quiet = False,
) -> None:
    """Measure a model, or the results file of any model, on labelled images: its AP, and how far scores can be trusted.

    A model predicts the images of --data first; a results file is compared with --ground-truth.
    """
    opened = open_source(
        source,
        data,
        ModelOptions(flip, "" if grid else scales, short_side, device, need_torch=grid, form=form),
        ground_truth=ground_truth,
        skeleton=skeleton,
        only_labelled=only_labelled,
        only_models={"out": results, "scales": scales, "grid": grid},
    )
    if grid:
        refuse(source, "--grid prints a table only", out=results, figures=figures, details=details)
        out.print(grid_table(opened, read_scales(scales or GRID_SCALES), bootstrap, quiet))
        return
    make_folders(results, figures)
    evaluation = opened.evaluation(bootstrap, quiet)
    if results is not None:
        save_results(results, evaluation.entries)
    if details:
        print_details(evaluation)
    else:
        print_summary(evaluation)
        say("more: --details prints all figures, --figures FILE writes them as JSON", "dim")
    if results is not None:
        say(f"poses: {results}")
    if figures is not None:
        with replacing(figures) as temporary:
            temporary.write_text(json.dumps(evaluation.to_dict(), indent=1), encoding="utf-8")
        say(f"figures: {figures}")


def grid_table(opened: OpenedSource, scales: tuple[float, ...], bootstrap: int, quiet: bool) -> Table:
    """AP of one scale and several, without and with flip (the paper's dagger rows); seconds an image at the end."""
    from rich.table import Table

    predictor, images = opened.predictor, opened.images
    assert predictor is not None
    assert images is not None

    table = Table("scales", "flip", "AP (95 %)", "APM", "APL", METRICS["spearman"].label, "s")
    for chosen in dict.fromkeys([(1.0,), predictor.settings.scales, scales]):
        for flip in (False, True):
            variant = predictor.with_settings(flip=flip, scales=chosen)
            started = time.monotonic()
            try:
                track = progress_over("Predicting", quiet)
                evaluation = evaluate_predictor(variant, opened.truth, images, bootstrap, track)
                figures = evaluation.ap
                quality = score_figures(evaluation.matches[evaluation.shown])
            except InputError as error:
                if not flip:
                    raise
                if chosen == (1.0,):
                    warn(f"without flip only: {error}")
                continue
            seconds = (time.monotonic() - started) / max(figures.images, 1)
            interval = "" if figures.interval is None else " ({:.3f}-{:.3f})".format(*figures.interval)
            values = (figures.ap_medium, figures.ap_large, quality["spearman"])
            table.add_row(
                ", ".join(f"{scale:g}" for scale in chosen),
                "yes" if flip else "no",
                figure(figures.ap) + interval,
                *map(figure, values),
                f"{seconds:.2f}",
            )
    return table
