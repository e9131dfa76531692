"""`calipose evaluate`: AP of a model or of a results file, and what its scores are worth."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calipose.cli.common import (
    Device,
    Flip,
    Quiet,
    Scales,
    ShortSide,
    open_predictor,
    out,
    progress_over,
    read_scales,
    say,
    warn,
)
from calipose.cli.judging import (
    HOLDS_RESULTS,
    Bootstrap,
    Data,
    SkeletonFile,
    Source,
    Truth,
    find_truth,
    is_results,
    make_folders,
    read_skeleton,
    refuse,
)
from calipose.data.locate import find_data
from calipose.errors import InputError
from calipose.evaluation.coco_files import read_ground_truth
from calipose.evaluation.run import evaluate_predictor, predict_data, save_results, setting_of
from calipose.evaluation.summary import Summary, summarise
from calipose.io.atomic import replacing

if TYPE_CHECKING:
    from rich.table import Table

    from calipose.evaluation.ap import AveragePrecision
    from calipose.evaluation.scores import ScoreFigures
    from calipose.inference.predictor import Predictor

POPULATIONS = {"score": "score >= 0.05", "best": "best 20 an image"}
SHORT = {"labelled keypoints": "joints"}  # of slicings whose name is too long for a table
MIN_POSES = 10  # of a part of the poses whose figures are shown
GRID_SCALES = "0.75,1,1.5"  # what --grid compares a single scale with
FIGURES = {  # of scores, as tables name them
    "ece": "ECE",
    "brier": "Brier score",
    "resolution": "resolution",
    "spearman": "Spearman, with OKS",
    "pearson": "Pearson",
    "aurc": "risk-coverage area",
}


def evaluate(
    source: Source,
    data: Data = "",
    ground_truth: Truth = "",
    skeleton: SkeletonFile = None,
    results: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write all poses as COCO results, numbers not rounded."),
    ] = None,
    figures: Annotated[
        Path | None, typer.Option("--figures", metavar="FILE", help="Write all figures as JSON.")
    ] = None,
    flip: Flip = False,
    scales: Scales = "",
    short_side: ShortSide = None,
    grid: Annotated[
        bool,
        typer.Option("--grid", help=f"AP without and with flip, at one scale and at --scales ({GRID_SCALES})."),
    ] = False,
    bootstrap: Bootstrap = 1000,
    device: Device = "",
    quiet: Quiet = False,
) -> None:
    """Judge a model on a labelled data set, or a results file of any model: AP, and what its scores are worth."""
    if is_results(source):
        annotations = find_truth(source, data, ground_truth)
        refuse(
            source,
            HOLDS_RESULTS,
            out=results,
            flip=flip,
            scales=scales,
            short_side=short_side,
            grid=grid,
            device=device,
        )
        make_folders(figures)
        summary = summarise(annotations, source, read_skeleton(skeleton), bootstrap)
    else:
        refuse(source, "a model, which predicts the images of --data", ground_truth=ground_truth, skeleton=skeleton)
        if not data:
            raise InputError(f"{source}: a model predicts the images of --data; name them")
        annotations, images = find_data(data)
        predictor = open_predictor(source, device, flip, short_side, scales="" if grid else scales, need_torch=grid)
        category_id = read_ground_truth(annotations, predictor.skeleton).category_id  # read before hours of prediction
        if grid:
            refuse(source, "--grid prints a table only", out=results, figures=figures)
            chosen = read_scales(scales or GRID_SCALES)
            out.print(grid_table(predictor, annotations, images, chosen, bootstrap, quiet))
            return
        make_folders(results, figures)
        poses = predict_data(predictor, annotations, images, progress_over("Predicting", quiet), category_id)
        if results is not None:
            save_results(results, poses)
        setting = setting_of(predictor.settings)
        summary = summarise(annotations, poses, predictor.skeleton, bootstrap, setting)
    print_summary(summary)
    if results is not None:
        say(f"poses: {results}")
    if figures is not None:
        with replacing(figures) as temporary:
            temporary.write_text(json.dumps(summary.to_dict(), indent=1), encoding="utf-8")
        say(f"figures: {figures}")


def grid_table(
    predictor: Predictor, annotations: Path, images: Path, scales: tuple[float, ...], bootstrap: int, quiet: bool
) -> Table:
    """AP of one scale and several, without and with flip (the paper's dagger rows); seconds an image at the end."""
    from rich.table import Table

    table = Table("scales", "flip", "AP (95 %)", "APM", "APL", "Spearman", "s")
    for chosen in dict.fromkeys([(1.0,), predictor.settings.scales, scales]):
        for flip in (False, True):
            variant = predictor.with_settings(flip=flip, scales=chosen)
            started = time.monotonic()
            try:
                figures, quality, _ = evaluate_predictor(
                    variant, annotations, images, bootstrap, progress_over("Predicting", quiet)
                )
            except InputError as error:
                if not flip:
                    raise
                if chosen == (1.0,):
                    warn(f"without flip only: {error}")
                continue
            seconds = (time.monotonic() - started) / max(figures.images, 1)
            interval = "" if figures.interval is None else " ({:.3f}-{:.3f})".format(*figures.interval)
            values = (figures.ap_medium, figures.ap_large, quality["score"].spearman)
            table.add_row(
                ", ".join(f"{scale:g}" for scale in chosen),
                "yes" if flip else "no",
                _figure(figures.ap) + interval,
                *map(_figure, values),
                f"{seconds:.2f}",
            )
    return table


def print_summary(summary: Summary) -> None:
    """Print all figures, and what a reader must know of them."""
    out.print(summary_table(summary))
    for warning in summary.warnings:
        warn(warning)


def summary_table(summary: Summary) -> Table:
    """AP, and below it what the scores are worth, as given and after cross-fitted calibration."""
    from rich.table import Table

    table = Table("", "as given", "calibrated")
    for name, value in summary.ap.rows():
        table.add_row(name, value, "")
    for population, before in summary.scores.items():
        after = summary.calibrated.get(population)
        table.add_section()
        _add_scores(table, f"{POPULATIONS[population]}: {before.poses} poses", before, after, tuple(FIGURES))
    for slicing, parts in summary.sliced.items():
        table.add_section()
        for part, (before, after) in parts.items():
            _add_scores(
                table,
                f"{SHORT.get(slicing, slicing)} {part}: {before.poses}",
                before,
                after,
                ("ece", "brier", "spearman"),
            )
    if summary.joints is not None:
        table.add_section()
        _add_keypoints(table, summary)
    return table


def _add_scores(
    table: Table, title: str, before: ScoreFigures, after: ScoreFigures | None, names: tuple[str, ...]
) -> None:
    """Rows of the figures named, of poses before and after calibration."""
    columns = [before] if after is None else [before, after]
    table.add_row(title, style="bold")
    if before.poses < MIN_POSES:
        return
    means = [f"{_figure(of.mean_score)}, {_figure(of.mean_oks)}" for of in columns]
    table.add_row("  mean score, mean OKS", *means)
    for name in names:
        table.add_row(f"  {FIGURES[name]}", *(_with_interval(of, name) for of in columns))


def _add_keypoints(table: Table, summary: Summary) -> None:
    """Rows on the scores of joints."""
    columns = [of for of in (summary.joints, summary.calibrated_keypoints) if of is not None]
    table.add_row(f"joints of people: {columns[0].joints}", style="bold")
    means = [f"{_figure(of.mean_score)}, {_figure(of.mean_similarity)}" for of in columns]
    table.add_row("  mean score, similarity", *means)
    table.add_row("  ECE", *(_figure(of.ece) for of in columns))
    table.add_row("  AUC, right from wrong", *(_figure(of.auc) for of in columns))
    table.add_row("  mean as pose's score: ECE", *(_figure(of.pose_ece) for of in columns))
    table.add_row("  and its Spearman", *(_figure(of.pose_spearman) for of in columns))


def figures_table(figures: AveragePrecision, quality: dict[str, ScoreFigures]) -> Table:
    """AP and its companions, and below them how score and OKS go together."""
    table = figures.__rich__()
    for population, of in quality.items():
        table.add_section()
        table.add_row(POPULATIONS[population], f"{of.poses} poses")
        table.add_row("  rank correlation of score and OKS", _figure(of.spearman))
        table.add_row("  mean score, mean OKS", f"{_figure(of.mean_score)}, {_figure(of.mean_oks)}")
    return table


def _with_interval(of: ScoreFigures, name: str) -> str:
    interval = of.intervals.get(name)
    value = _figure(getattr(of, name))
    return value if interval is None else f"{value} ({_figure(interval[0])} to {_figure(interval[1])})"


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
