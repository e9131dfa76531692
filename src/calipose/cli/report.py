"""`calipose report`: one HTML page that shows how good poses are, and what their scores are worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from calipose.cli.console import progress_over, say, warn
from calipose.cli.judging import (
    DATA_HELP,
    HOLDS_RESULTS,
    Bootstrap,
    SkeletonFile,
    Source,
    is_results,
    read_skeleton,
    refuse,
)
from calipose.cli.model import open_predictor
from calipose.cli.options import Device, Flip, Quiet, Scales, ShortSide
from calipose.data.locate import find_data
from calipose.evaluation.coco_files import ResultsSource, read_ground_truth
from calipose.evaluation.matching import match_poses
from calipose.evaluation.run import predict_data, setting_of
from calipose.evaluation.summary import cautions
from calipose.report import write_report
from calipose.report.chart import require_matplotlib

HISTORY = "history.jsonl"  # of a run


def report(
    source: Source,
    data: Annotated[str, typer.Option(metavar="DATA", help=f"{DATA_HELP}.")],
    folder: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="For report.html and figures/.")] = Path(
        "calipose-report"
    ),
    flip: Flip = False,
    short_side: ShortSide = None,
    scales: Scales = "",
    skeleton: SkeletonFile = None,
    name: Annotated[str, typer.Option(metavar="TEXT", help="What the page calls it; by default SOURCE.")] = "",
    bootstrap: Bootstrap = 1000,
    device: Device = "",
    quiet: Quiet = False,
) -> None:
    """Write a page with AP, reliability diagrams, error kinds and a gallery of failures; it needs no network."""
    require_matplotlib()
    annotations, images = find_data(data)
    results: ResultsSource
    setting: dict[str, Any]
    if is_results(source):
        refuse(source, HOLDS_RESULTS, flip=flip, scales=scales, short_side=short_side, device=device)
        results, setting = Path(source), {"results": Path(source).name}
        of = read_skeleton(skeleton)
    else:
        refuse(source, "a model, which knows its skeleton", skeleton=skeleton)
        predictor = open_predictor(source, device, flip, short_side, scales=scales)
        of, setting = predictor.skeleton, setting_of(predictor.settings)
        category = read_ground_truth(annotations, of).category_id
        results = predict_data(predictor, annotations, images, progress_over("Predicting", quiet), category)
    place = Path(source) if Path(source).is_dir() else Path(source).parent
    is_run = source != "default" and Path(source).suffix in {"", ".safetensors"}
    history = place / HISTORY if is_run and (place / HISTORY).is_file() else None
    page = write_report(
        folder,
        annotations,
        images,
        results,
        skeleton=of,
        name=name or source,
        setting=setting,
        history=history,
        bootstrap=bootstrap,
    )
    for caution in cautions(annotations, results, match_poses(annotations, results, of), of):
        warn(caution)
    say(f"report: {page}")
