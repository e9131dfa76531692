"""`calipose compare`: which of two results files is better, by how much, and in which images."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calipose.cli.console import err, out, say, warn
from calipose.cli.evaluation_tables import show_p
from calipose.cli.judging import OnlyLabelled, SkeletonFile, is_results, read_skeleton
from calipose.errors import InputError
from calipose.evaluation.comparison import Comparison, ImageChange, compare, draw_changes
from calipose.evaluation.evaluation import Evaluation
from calipose.evaluation.metrics import METRICS

if TYPE_CHECKING:
    from rich.table import Table

FIGURES = {"AP": "ap", "AP50": "ap50", "AP75": "ap75", "APM": "ap_medium", "APL": "ap_large", "AR": "ar"}


def compare_command(
    a: Annotated[Path, typer.Argument(metavar="A.json", help="COCO results of a pose model.")],
    b: Annotated[Path, typer.Argument(metavar="B.json", help="COCO results of another model, on the same images.")],
    ground_truth: Annotated[
        Path, typer.Option("--ground-truth", metavar="FILE", help="The annotations to compare both with.")
    ],
    images: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder of the images, to draw those that changed most.")
    ] = None,
    folder: Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="Folder for the drawings.")] = None,
    skeleton: SkeletonFile = None,
    only_labelled: OnlyLabelled = False,
    bootstrap: Annotated[
        int, typer.Option(min=100, metavar="N", help="Resamples of the images for the 95 % interval.")
    ] = 1000,
) -> None:
    """Compare two results files: the difference in AP with its 95 % interval, and the images that changed most.

    A difference is significant where its interval excludes 0.
    Each resample takes the same images for both files, so hard and easy images do not widen the interval.
    """
    if (images is None) != (folder is None):
        raise typer.BadParameter(
            "--images and --out go together: name the folder of the images, and one for the drawings"
        )
    for file in (a, b):
        if not is_results(str(file)):
            raise InputError(f"{file}: no results file (.json); 'calipose report {a} {b} --data ...' compares models")
    first = Evaluation(ground_truth, a, read_skeleton(skeleton), only_labelled=only_labelled)
    second = Evaluation(first.truth, b, first.skeleton, only_labelled=only_labelled)
    for remark in dict.fromkeys(first.assumptions + second.assumptions):
        warn(remark)
    with err.status("resampling the images"):  # seconds; a minute for COCO's 5,000
        comparison = compare(first, second, bootstrap)
    say(f"A  {a}")
    say(f"B  {b}")
    out.print(_figures(comparison))
    out.print(comparison.verdict(), markup=False)
    better, worse = comparison.largest_changes()
    for letter, changes in (("B", better), ("A", worse)):
        if changes:
            out.print(f"\nImages that speak most for {letter}", style="bold")
            out.print(_images(changes))
    if better or worse:
        out.print(f"\n{_explanation(comparison)}", markup=False)
    if images is not None and folder is not None:
        for file in draw_changes(comparison, images, folder):
            say(f"drawn: {file}")


def _figures(comparison: Comparison) -> Table:
    from rich.table import Table

    table = Table("")
    for column in ("A", "B", "B - A"):
        table.add_column(column, justify="right")
    for name, field in FIGURES.items():
        in_a, in_b = getattr(comparison.a, field), getattr(comparison.b, field)
        table.add_row(name, _figure(in_a), _figure(in_b), _figure(in_b - in_a, "+.3f"))
        if name == "AP":
            low, high = comparison.difference.interval
            table.add_row("AP, 95 %", "", "", f"{_figure(low, '+.3f')} to {_figure(high, '+.3f')}")
    table.add_section()
    for name in ("images", "people", "poses"):
        table.add_row(name, str(getattr(comparison.a, name)), str(getattr(comparison.b, name)))
    table.add_section()
    scores_a, scores_b = comparison.scores
    table.add_row("best poses, as many as people", str(scores_a.poses), str(scores_b.poses))
    for key, metric in METRICS.items():
        in_a, in_b = scores_a[key], scores_b[key]
        label = f"{metric.label}, {metric.better} is better"
        difference, (low, high) = comparison.score_differences[key]
        interval = "" if math.isnan(low) else f" ({low:+.3f} to {high:+.3f})"
        table.add_row(label, _figure(in_a), _figure(in_b), _figure(difference, "+.3f") + interval)
        if key == "ece":
            chance = ["-" if each.by_chance is None else _figure(each.by_chance.mean) for each in (scores_a, scores_b)]
            table.add_row("  by chance", *chance, "")
            table.add_row("  p of being calibrated", show_p(scores_a.p), show_p(scores_b.p), "")
    return table


def _images(changes: list[ImageChange]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("image", "people", "found A", "found B", "false A", "false B", "points"):
        table.add_column(column, justify="right")
    for change in changes:
        a, b = change.a, change.b
        numbers = (change.image_id, change.people, a.found, b.found, a.false, b.false)
        table.add_row(*map(str, numbers), f"{100 * change.change:+.2f}")
    return table


def _explanation(comparison: Comparison) -> str:
    limits = [
        f"all {letter}'s poses" if min_score == -math.inf else f"{letter}'s poses of score {min_score:.3f} or more"
        for letter, min_score in zip("AB", comparison.min_scores, strict=True)
    ]
    return (
        "points: what the image adds to B minus A, in hundredths of AP. A false positive costs what it takes from"
        " the correct poses below it; a missed person adds nothing."
        f"\nfound, false: at OKS 0.5, of {limits[0]} and {limits[1]}: of each as many as there are people, since"
        " their scores need not mean the same."
    )


def _figure(value: float, form: str = ".3f") -> str:
    return "-" if math.isnan(value) else format(value, form)
