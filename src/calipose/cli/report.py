"""`calipose report`: one HTML page that shows how good poses are, and what their scores are worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from calipose.cli.common import Device, Flip, Quiet, ShortSide, open_predictor, progress_over, say
from calipose.data.locate import find_data
from calipose.errors import InputError
from calipose.evaluation.coco_files import ResultsSource, read_ground_truth
from calipose.evaluation.run import predict_data, setting_of
from calipose.report import write_report
from calipose.report.chart import require_matplotlib
from calipose.skeleton import COCO_17, Skeleton

HISTORY = "history.jsonl"  # of a run


def report(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A run folder, a checkpoint, an .onnx file, 'default', or the COCO results (.json) of any model.",
        ),
    ],
    data: Annotated[
        str,
        typer.Option(metavar="DATA", help="Folder with annotations.json and images/, or ANNOTATIONS.json=PICTURES."),
    ],
    folder: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="For report.html and figures/.")] = Path(
        "calipose-report"
    ),
    flip: Flip = False,
    short_side: ShortSide = None,
    skeleton: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Skeleton of a results file; by default COCO's 17 keypoints.")
    ] = None,
    name: Annotated[str, typer.Option(metavar="TEXT", help="What the page calls it; by default SOURCE.")] = "",
    bootstrap: Annotated[
        int, typer.Option(min=0, help="Resamples of the pictures for the 95 % intervals; 0: none.")
    ] = 1000,
    device: Device = "",
    quiet: Quiet = False,
) -> None:
    """Write a page with AP, reliability diagrams, error kinds and a gallery of failures; it needs no network."""
    require_matplotlib()
    annotations, pictures = find_data(data)
    results: ResultsSource
    setting: dict[str, Any]
    if Path(source).suffix == ".json":
        if flip or short_side or device:
            raise InputError(f"{source} holds results: --flip, --short-side and --device are for a model")
        results, setting = Path(source), {"results": Path(source).name}
        of = COCO_17 if skeleton is None else Skeleton.from_file(skeleton)
    else:
        if skeleton is not None:
            raise InputError(f"--skeleton is for results files; {source} knows its own")
        predictor = open_predictor(source, device, flip, short_side)
        of, setting = predictor.skeleton, setting_of(predictor.settings)
        category = read_ground_truth(annotations, of).category_id
        results = predict_data(predictor, annotations, pictures, progress_over("Predicting", quiet), category)
    place = Path(source) if Path(source).is_dir() else Path(source).parent
    history = place / HISTORY if Path(source).suffix in {"", ".safetensors"} and (place / HISTORY).is_file() else None
    page = write_report(
        folder,
        annotations,
        pictures,
        results,
        skeleton=of,
        name=name or source,
        setting=setting,
        history=history,
        bootstrap=bootstrap,
    )
    say(f"report: {page}")
