"""The report: one HTML page that shows how good results are, and what their scores are worth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from calipose.evaluation.comparison import compare
from calipose.evaluation.coverage import Coverage
from calipose.evaluation.evaluation import Evaluation
from calipose.io.atomic import make_folder, replacing
from calipose.report.bars import error_charts, read_history, training_charts
from calipose.report.chart import Chart, require_matplotlib
from calipose.report.coverage import coverage_charts
from calipose.report.figures import number, score_charts
from calipose.report.gallery import gallery
from calipose.report.page import page
from calipose.report.paired import paired_charts, paired_page

PAGE = "report.html"


def write_report(
    folder: Path,
    evaluation: Evaluation,
    images: Path,
    *,
    name: str = "results",
    history: Path | None = None,
    coverage: Sequence[Coverage] | None = None,
) -> Path:
    """Write FOLDER/report.html, and its charts as FOLDER/figures/NAME.png with their data as NAME.csv.

    The page needs neither a network nor the other files. Each file appears whole or not at all.

    Args:
        folder: need not exist.
        evaluation: of the results of any model; its ground truth names the files of the images.
        images: folder of the images.
        name: what the page calls the results.
        history: history.jsonl of a run, for the training curves.
        coverage: of regions of keypoints; by default the evaluation's. Without rows, the page has no such section.

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
    rows = evaluation.coverage if coverage is None else coverage
    charts["regions"] = coverage_charts(rows)
    figures = evaluation.ap
    lead = (
        f"{number(figures.poses, 'pose')} for {number(figures.people, 'person').replace('persons', 'people')} in"
        f" {number(figures.images, 'image')} of {data_name(evaluation)}"
    )
    text = page(f"Calipose report: {name}", lead, evaluation, charts, *gallery(evaluation, images), coverage=rows)
    return _write(folder, text, [each for section in charts.values() for each in section])


def write_comparison_report(
    folder: Path,
    a: Evaluation,
    b: Evaluation,
    images: Path,
    *,
    names: tuple[str, str] = ("A", "B"),
    bootstrap: int = 1000,
) -> Path:
    """Write FOLDER/report.html about two models side by side, and its charts as `write_report`.

    Args:
        folder: need not exist.
        a: of the results of one model.
        b: of another one, on the same ground truth.
        images: folder of the images.
        names: what the page calls the two.
        bootstrap: resamples of the images, each the same for both.

    Returns:
        The path of the page.

    Raises:
        InputError: as `write_report`; or the two are of different ground truths.
        ImageError: an image that the page shows cannot be read.

    Example:
        >>> old = calipose.evaluate("annotations.json", "old.json")
        >>> new = calipose.evaluate(old.truth, "new.json")
        >>> write_comparison_report(Path("report"), old, new, Path("images"), names=("old", "new"))
    """
    require_matplotlib()
    a.truth.require_files()
    comparison = compare(a, b, bootstrap)
    charts = paired_charts(a, b)
    lead = (
        f"A: {names[0]}. B: {names[1]}. On {number(a.ap.people, 'person').replace('persons', 'people')} in"
        f" {number(a.ap.images, 'image')} of {data_name(a)}"
    )
    return _write(folder, paired_page(comparison, names, lead, charts, images), charts)


def data_name(evaluation: Evaluation) -> str:
    """Of the ground truth: the file's name, without the folders of the machine that it lies on."""
    path = Path(evaluation.truth.source.removeprefix("ground truth "))
    return f"{path.parent.name}/{path.name}" if path.name == "annotations.json" and path.parent.name else path.name


def _write(folder: Path, text: str, charts: Sequence[Chart]) -> Path:
    make_folder(folder / "figures")
    for chart in charts:
        chart.save(folder / "figures")
    with replacing(folder / PAGE) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return folder / PAGE
