"""The report: one HTML page that shows how good results are, and what their scores are worth."""

from __future__ import annotations

from pathlib import Path

from calipose.evaluation.evaluation import Evaluation
from calipose.io.atomic import make_folder, replacing
from calipose.report.bars import error_charts, read_history, training_charts
from calipose.report.chart import require_matplotlib
from calipose.report.figures import number, score_charts
from calipose.report.gallery import gallery
from calipose.report.page import page

PAGE = "report.html"


def write_report(
    folder: Path, evaluation: Evaluation, images: Path, *, name: str = "results", history: Path | None = None
) -> Path:
    """Write FOLDER/report.html, and its charts as FOLDER/figures/NAME.png with their data as NAME.csv.

    The page needs neither a network nor the other files. Each file appears whole or not at all.

    Args:
        folder: need not exist.
        evaluation: of the results of any model; its ground truth names the files of the images.
        images: folder of the images.
        name: what the page calls the results.
        history: history.jsonl of a run, for the training curves.

    Returns:
        The path of the page.

    Raises:
        InputError: matplotlib is not installed, an image has no file name, or the folder cannot be written to.
        ImageError: an image that the gallery shows cannot be read.

    Example:
        >>> evaluation = calipose.evaluate("annotations.json", "results.json", bootstrap=1000)
        >>> write_report(Path("report"), evaluation, Path("images"))
    """
    require_matplotlib()
    evaluation.truth.require_files()
    training = [] if history is None else training_charts(read_history(history))
    charts = score_charts(evaluation) | {"errors": error_charts(evaluation), "training": training}
    figures = evaluation.ap
    lead = (
        f"{number(figures.poses, 'pose')} for {number(figures.people, 'person').replace('persons', 'people')} in"
        f" {number(figures.images, 'image')} of {evaluation.truth.source.removeprefix('ground truth ')}"
    )
    text = page(f"Calipose report: {name}", lead, evaluation, charts, gallery(evaluation, images))
    make_folder(folder / "figures")
    for chart in (each for section in charts.values() for each in section):
        chart.save(folder / "figures")
    with replacing(folder / PAGE) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return folder / PAGE
