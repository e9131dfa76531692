"""The report: one HTML page that shows how good results are, and what their scores are worth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calipose.evaluation.coco_files import ResultsSource
from calipose.io.atomic import replacing, write_errors
from calipose.report.analysis import analyse
from calipose.report.bars import error_charts, read_history, training_charts
from calipose.report.chart import require_matplotlib
from calipose.report.figures import number, score_charts
from calipose.report.gallery import gallery
from calipose.report.page import page
from calipose.skeleton import COCO_17, Skeleton

PAGE = "report.html"


def write_report(
    folder: Path,
    annotations: Path,
    images: Path,
    results: ResultsSource,
    *,
    skeleton: Skeleton = COCO_17,
    name: str = "results",
    setting: Mapping[str, Any] | None = None,
    history: Path | None = None,
    bootstrap: int = 1000,
) -> Path:
    """Write FOLDER/report.html, and its charts as FOLDER/figures/NAME.png with their data as NAME.csv.

    The page needs neither a network nor the other files. Each file appears whole or not at all.

    Args:
        folder: need not exist.
        annotations: COCO file of the data set.
        images: folder of its images.
        results: COCO results of any model, a file or its content.
        skeleton: of annotations and results.
        name: what the page calls them.
        setting: what the figures hold for (flip, scales, short side).
        history: history.jsonl of a run, for the training curves.
        bootstrap: resamples of the images for the intervals, 0 for none.

    Returns: the page's path.

    Raises:
        InputError: a file is broken, or matplotlib is not installed.
        ImageError: an image that the gallery shows cannot be read.
    """
    require_matplotlib()
    training = [] if history is None else training_charts(read_history(history))
    of = analyse(annotations, results, skeleton, setting, bootstrap)
    charts = score_charts(of) | {"errors": error_charts(of), "training": training}
    found = of.precision
    lead = (
        f"{number(found.poses, 'pose')} for {number(found.people, 'person').replace('persons', 'people')} in"
        f" {number(found.images, 'image')} of {annotations}"
    )
    text = page(f"Calipose report: {name}", lead, of, charts, gallery(of, images))
    with write_errors(folder):
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        for chart in (one for section in charts.values() for one in section):
            chart.save(folder / "figures")
        with replacing(folder / PAGE) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return folder / PAGE
