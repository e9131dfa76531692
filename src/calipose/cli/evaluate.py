"""`calipose evaluate`: AP of a checkpoint on a data set, and what its scores are worth."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calipose.cli.common import Device, Flip, Quiet, ShortSide, open_predictor, out, progress_over, say
from calipose.data.locate import find_data
from calipose.evaluation.run import evaluate_predictor, save_results

if TYPE_CHECKING:
    from rich.table import Table

    from calipose.evaluation.ap import AveragePrecision
    from calipose.evaluation.scores import ScoreQuality

POPULATIONS = {"score": "all poses of score >= 0.05", "best": "the best 20 of each picture"}


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A .safetensors file, or a run folder.")],
    data: Annotated[
        str,
        typer.Option(metavar="DATA", help="Folder with annotations.json and images/, or ANNOTATIONS.json=PICTURES."),
    ],
    results: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write all poses as COCO results, numbers not rounded."),
    ] = None,
    flip: Flip = False,
    short_side: ShortSide = None,
    bootstrap: Annotated[
        int, typer.Option(min=0, help="Resamples of the pictures for AP's 95 % interval; 0: none.")
    ] = 1000,
    device: Device = "",
    quiet: Quiet = False,
) -> None:
    """Predict a labelled data set; show AP, and how well scores foretell the OKS."""
    annotations, pictures = find_data(data)
    predictor = open_predictor(checkpoint, device, flip, short_side)
    figures, quality, poses = evaluate_predictor(
        predictor, annotations, pictures, bootstrap, progress_over("Predicting", quiet)
    )
    out.print(figures_table(figures, quality))
    if results is not None:
        results.parent.mkdir(parents=True, exist_ok=True)
        save_results(results, poses)
        say(f"poses: {results}")


def figures_table(figures: AveragePrecision, quality: dict[str, ScoreQuality]) -> Table:
    """AP and its companions, and below them how score and OKS go together."""
    table = figures.__rich__()
    for population, of in quality.items():
        table.add_section()
        table.add_row(POPULATIONS[population], f"{of.poses} poses")
        table.add_row("  rank correlation of score and OKS", _figure(of.spearman))
        table.add_row("  mean score, mean OKS", f"{_figure(of.mean_score)}, {_figure(of.mean_oks)}")
    return table


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
