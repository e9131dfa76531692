"""The tables of `calipose evaluate` and `calipose calibrate`: a short one, and all figures."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from calipose.cli.console import out, say, warn
from calipose.evaluation.chance import LEVEL, ByChance
from calipose.evaluation.coverage import ALL, coverage_grid
from calipose.evaluation.metrics import METRICS
from calipose.evaluation.scores import KeypointFigures, ScoreFigures, score_figures

if TYPE_CHECKING:
    from rich.table import Table

    from calipose.evaluation.evaluation import Evaluation

POPULATIONS = {"score": "score >= 0.05", "people": "as many as people", "best": "best 20 an image"}
SHORT = {"labelled keypoints": "keypoints"}  # of slicings whose name is too long for a table
MIN_POSES = 10  # of a part of the poses whose figures are shown
SUMMARY_COVERAGE = 0.9  # of the regions in the short table; results that carry regions have one of their own


def print_summary(evaluation: Evaluation) -> None:
    """Print what is asked first: AP, how far scores can be trusted, what chance gives, and of how many poses."""
    out.print(summary_table(evaluation))
    for warning in evaluation.warnings:
        warn(warning)
    for line in verdict(evaluation):
        say(line)


def print_calibration(evaluation: Evaluation) -> None:
    """Print what calibration does to the scores of the same poses."""
    out.print(summary_table(evaluation, "people", ("before", "after (cross-fitted)")))
    for warning in evaluation.warnings:
        warn(warning)


def print_details(evaluation: Evaluation) -> None:
    """Print all figures, and what a reader must know of them."""
    out.print(evaluation_table(evaluation))
    if evaluation.coverage:
        out.print(coverage_table(evaluation))
    for warning in evaluation.warnings:
        warn(warning)
    if evaluation.bootstrap and evaluation.shown.any():
        say(f"* scores are not the expected OKS, by a test at level {LEVEL:g}; docs/scores.md explains it")


def verdict(evaluation: Evaluation) -> list[str]:
    """What the test says of the scores as given, in a sentence; nothing where there was none."""
    figures = evaluation.scores["score"]
    if math.isnan(figures.p):
        return []
    if figures.p <= LEVEL:
        return [f"* the scores as given are not the expected OKS (p = {figures.p:.3f}); calipose calibrate mends that"]
    return [f"the scores as given agree with the expected OKS, as far as these images can tell (p = {figures.p:.3f})"]


def summary_table(
    evaluation: Evaluation, population: str = "score", headings: tuple[str, str] = ("as given", "calibrated")
) -> Table:
    """AP and its companions, and of one population of poses the calibration error and rank correlation.

    Args:
        evaluation: of the results before calibration.
        population: of the poses; "people" does not change with the calibration.
        headings: of the columns before and after cross-fitted calibration.
    """
    from rich.table import Table

    table, figures = Table("", *headings), evaluation.ap
    interval = "" if figures.interval is None else " ({:.3f} to {:.3f})".format(*figures.interval)
    table.add_row("AP", figure(figures.ap) + interval)
    for name, value in (("AP50", figures.ap50), ("AP75", figures.ap75), ("AR", figures.ar)):
        table.add_row(name, figure(value))
    table.add_row("images, people, poses", f"{figures.images}, {figures.people}, {figures.poses}")
    for name, text in figures.setting.items():
        table.add_row(str(name), str(text))
    before, after = evaluation.population(population)
    table.add_section()
    _add_scores(table, f"{POPULATIONS[population]}: {before.poses} poses", before, after, ("ece", "spearman"))
    of_all = [row for row in evaluation.coverage if row.group == ALL]
    row = next((row for row in of_all if row.asked == SUMMARY_COVERAGE), of_all[0] if of_all else None)
    if row is not None:
        ends = "" if row.interval is None else " ({:.3f} to {:.3f})".format(*row.interval)
        given = evaluation.has_regions or evaluation.carries_regions
        columns = [figure(row.got) + ends] if given else ["", figure(row.got) + ends]
        table.add_section()
        table.add_row(f"in regions asked for {row.asked:g}", *columns)
    return table


def evaluation_table(evaluation: Evaluation) -> Table:
    """All figures: AP, and below it what the scores are worth, as given and after cross-fitted calibration."""
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
    means = [f"{figure(column.mean_score)}, {figure(column.mean_oks)}" for column in columns]
    table.add_row("  mean score, mean OKS", *means)
    for key in keys:
        table.add_row(f"  {METRICS[key].label}", *(_with_interval(column, key) for column in columns))
        if key == "ece" and before.by_chance is not None:
            table.add_row("    by chance: mean, bound", *(_by_chance(column.by_chance) for column in columns))
            table.add_row("    p of being calibrated", *map(show_p, (column.p for column in columns)))


def _add_keypoints(table: Table, evaluation: Evaluation) -> None:
    """Rows on the keypoint scores."""
    columns = [column for column in (evaluation.keypoints, evaluation.calibrated_keypoints) if column is not None]
    _add_keypoint_part(table, "labelled", columns)
    table.add_row("  AUC, correct from wrong", *(figure(column.auc) for column in columns))
    table.add_row("  their mean as score: ECE", *(figure(column.pose_ece) for column in columns))
    table.add_row("  and its Spearman", *(figure(column.pose_spearman) for column in columns))
    for part, pair in evaluation.keypoint_parts.items():
        _add_keypoint_part(table, part, [column for column in pair if column is not None])


def _add_keypoint_part(table: Table, part: str, columns: list[KeypointFigures]) -> None:
    """Rows on the scores of some keypoints, before and, where there is a second column, after calibration."""
    table.add_row(f"{part} keypoints: {columns[0].count}", style="bold")
    means = [f"{figure(column.mean_score)}, {figure(column.mean_similarity)}" for column in columns]
    table.add_row("  mean score, similarity", *means)
    table.add_row("  ECE", *(figure(column.ece) for column in columns))
    if columns[0].by_chance is not None:
        table.add_row("    by chance: mean, bound", *(_by_chance(column.by_chance) for column in columns))


def coverage_table(evaluation: Evaluation) -> Table:
    """The share of labelled keypoints inside their regions, by the share that was asked for."""
    from rich.table import Table

    asked, groups = coverage_grid(evaluation.coverage)
    whose = "of the results" if evaluation.carries_regions else "cross-fitted"
    whose = "of the model" if evaluation.has_regions else whose
    table = Table(f"inside their regions ({whose})", "keypoints", *(f"asked {share:g}" for share in asked))
    for name, found in groups.items():
        known = [row for row in found if row is not None]
        table.add_row(name, str(known[0].keypoints), *("-" if row is None else figure(row.got) for row in found))
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
        table.add_row("  rank correlation of score and OKS", figure(figures["spearman"]))
        table.add_row("  mean score, mean OKS", f"{figure(figures.mean_score)}, {figure(figures.mean_oks)}")
    return table


def _with_interval(figures: ScoreFigures, key: str) -> str:
    interval = figures.intervals.get(key)
    value = figure(figures[key])
    return value if interval is None or value == "-" else f"{value} ({figure(interval[0])} to {figure(interval[1])})"


def _by_chance(chance: ByChance | None) -> str:
    return "-" if chance is None else f"{figure(chance.mean)}, {figure(chance.bound)}"


def show_p(p: float) -> str:
    """A p-value, with a star where it speaks against calibrated scores."""
    return "-" if math.isnan(p) else f"{p:.3f}{' *' if p <= LEVEL else ''}"


def figure(value: float) -> str:
    """Three digits; a dash where it is not defined."""
    return "-" if math.isnan(value) else f"{value:.3f}"
