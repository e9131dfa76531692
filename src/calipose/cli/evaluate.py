"""`calipose evaluate`: AP of a model or of a results file, and what its scores are worth."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calipose.cli.console import out, progress_over, say, warn
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
from calipose.evaluation.chance import LEVEL, ByChance
from calipose.evaluation.coverage import ALL, coverage_grid
from calipose.evaluation.metrics import METRICS
from calipose.evaluation.run import evaluate_predictor, save_results
from calipose.evaluation.scores import score_figures
from calipose.io.atomic import replacing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

    from calipose.evaluation.evaluation import Evaluation
    from calipose.evaluation.scores import KeypointFigures, ScoreFigures

POPULATIONS = {"score": "score >= 0.05", "people": "as many as people", "best": "best 20 an image"}
SHORT = {"labelled keypoints": "keypoints"}  # of slicings whose name is too long for a table
MIN_POSES = 10  # of a part of the poses whose figures are shown
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
        typer.Option("--grid", help=f"AP without and with flip, at one scale and at --scales ({GRID_SCALES})."),
    ] = False,
    bootstrap: Bootstrap = 1000,
    device: Device = "",
    quiet: Quiet = False,
) -> None:
    """Judge a model on a labelled data set, or a results file of any model: AP, and what its scores are worth."""
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
        refuse(source, "--grid prints a table only", out=results, figures=figures)
        out.print(grid_table(opened, read_scales(scales or GRID_SCALES), bootstrap, quiet))
        return
    make_folders(results, figures)
    evaluation = opened.evaluation(bootstrap, quiet)
    if results is not None:
        save_results(results, evaluation.entries)
    print_evaluation(evaluation)
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
                _figure(figures.ap) + interval,
                *map(_figure, values),
                f"{seconds:.2f}",
            )
    return table


def print_evaluation(evaluation: Evaluation) -> None:
    """Print all figures, and what a reader must know of them."""
    out.print(evaluation_table(evaluation))
    if evaluation.coverage:
        out.print(coverage_table(evaluation))
    for warning in evaluation.warnings:
        warn(warning)
    if evaluation.bootstrap and evaluation.shown.any():
        say(f"* scores are not the expected OKS, by a test at level {LEVEL:g}; docs/scores.md explains it")


def print_calibration(evaluation: Evaluation) -> None:
    """`print_evaluation`, and then what calibration does to one population of poses."""
    print_evaluation(evaluation)
    out.print(calibration_table(evaluation))


def evaluation_table(evaluation: Evaluation) -> Table:
    """AP, and below it what the scores are worth, as given and after cross-fitted calibration."""
    from rich.table import Table

    table = Table("", "as given", "calibrated")
    for name, value in evaluation.ap.rows():
        table.add_row(name, value, "")
    for population, heading in POPULATIONS.items():
        table.add_section()
        before, after = evaluation.population(population)
        _add_scores(table, f"{heading}: {before.poses} poses", before, after, METRICS)
    in_parts = [key for key, metric in METRICS.items() if metric.in_parts]
    for slicing, parts in evaluation.slices.items():
        table.add_section()
        for part, (before, after) in parts.items():
            _add_scores(table, f"{SHORT.get(slicing, slicing)} {part}: {before.poses}", before, after, in_parts)
    if evaluation.keypoints is not None:
        table.add_section()
        _add_keypoints(table, evaluation)
    return table


def _add_scores(
    table: Table, title: str, before: ScoreFigures, after: ScoreFigures | None, keys: Iterable[str]
) -> None:
    """Rows of the metrics named, of poses before and after calibration."""
    columns = [before] if after is None else [before, after]
    if title:
        table.add_row(title, style="bold")
    if before.poses < MIN_POSES:
        return
    means = [f"{_figure(column.mean_score)}, {_figure(column.mean_oks)}" for column in columns]
    table.add_row("  mean score, mean OKS", *means)
    for key in keys:
        table.add_row(f"  {METRICS[key].label}", *(_with_interval(column, key) for column in columns))
        if key == "ece" and before.by_chance is not None:
            table.add_row("    if perfect, 95 % below", *(_by_chance(column.by_chance) for column in columns))
            table.add_row("    p of being calibrated", *map(show_p, (column.p for column in columns)))


def _add_keypoints(table: Table, evaluation: Evaluation) -> None:
    """Rows on the keypoint scores."""
    columns = [column for column in (evaluation.keypoints, evaluation.calibrated_keypoints) if column is not None]
    _add_keypoint_part(table, "labelled", columns)
    table.add_row("  AUC, correct from wrong", *(_figure(column.auc) for column in columns))
    table.add_row("  their mean as score: ECE", *(_figure(column.pose_ece) for column in columns))
    table.add_row("  and its Spearman", *(_figure(column.pose_spearman) for column in columns))
    for part, pair in evaluation.keypoint_parts.items():
        _add_keypoint_part(table, part, [column for column in pair if column is not None])


def _add_keypoint_part(table: Table, part: str, columns: list[KeypointFigures]) -> None:
    """Rows on the scores of some keypoints, before and, where there is a second column, after calibration."""
    table.add_row(f"{part} keypoints: {columns[0].count}", style="bold")
    means = [f"{_figure(column.mean_score)}, {_figure(column.mean_similarity)}" for column in columns]
    table.add_row("  mean score, similarity", *means)
    table.add_row("  ECE", *(_figure(column.ece) for column in columns))
    if columns[0].by_chance is not None:
        table.add_row("    if perfect, 95 % below", *(_by_chance(column.by_chance) for column in columns))


def coverage_table(evaluation: Evaluation) -> Table:
    """The share of labelled keypoints inside their regions, by the share that was asked for."""
    from rich.table import Table

    asked, groups = coverage_grid(evaluation.coverage)
    whose = "of the results" if evaluation.carries_regions else "cross-fitted"
    whose = "of the model" if evaluation.has_regions else whose
    table = Table(f"inside their regions ({whose})", "keypoints", *(f"asked {share:g}" for share in asked))
    for name, found in groups.items():
        known = [row for row in found if row is not None]
        table.add_row(name, str(known[0].keypoints), *("-" if row is None else _figure(row.got) for row in found))
        if name == ALL:
            ends = [None if row is None else row.interval for row in found]
            if any(ends):
                table.add_row("  95 %", "", *("-" if end is None else f"{end[0]:.3f}-{end[1]:.3f}" for end in ends))
            table.add_section()
    return table


def figures_table(evaluation: Evaluation) -> Table:
    """AP and its companions, and below them how score and OKS go together."""
    table = evaluation.ap.__rich__()
    for population, heading in POPULATIONS.items():
        figures = score_figures(evaluation.matches[evaluation.populations[population]])
        table.add_section()
        table.add_row(heading, f"{figures.poses} poses")
        table.add_row("  rank correlation of score and OKS", _figure(figures["spearman"]))
        table.add_row("  mean score, mean OKS", f"{_figure(figures.mean_score)}, {_figure(figures.mean_oks)}")
    return table


def _with_interval(figures: ScoreFigures, key: str) -> str:
    interval = figures.intervals.get(key)
    value = _figure(figures[key])
    return value if interval is None or value == "-" else f"{value} ({_figure(interval[0])} to {_figure(interval[1])})"


def _by_chance(chance: ByChance | None) -> str:
    return "-" if chance is None else f"{_figure(chance.mean)}, {_figure(chance.bound)}"


def show_p(p: float) -> str:
    """A p-value, with a star where it speaks against calibrated scores."""
    return "-" if math.isnan(p) else f"{p:.3f}{' *' if p <= LEVEL else ''}"


def calibration_table(evaluation: Evaluation, population: str = "people") -> Table:
    """What calibration does to the scores of the same poses, whichever scores it begins with.

    Args:
        evaluation: of the results before calibration.
        population: of the poses; "people" does not change with the calibration.
    """
    from rich.table import Table

    before, after = evaluation.population(population)
    table = Table(f"the same {before.poses} poses of {before.images} images", "before", "after (cross-fitted)")
    _add_scores(table, "", before, after, [key for key, metric in METRICS.items() if metric.in_parts])
    return table


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
