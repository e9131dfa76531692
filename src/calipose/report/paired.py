"""Two models side by side on one page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from calipose.evaluation.comparison import Comparison, ImageChange, panels
from calipose.evaluation.evaluation import Evaluation
from calipose.evaluation.metrics import METRICS, risk_coverage
from calipose.report.chart import BLUE, ORANGE, Chart, chart, new_axes
from calipose.report.drawing import fitted, webp
from calipose.report.figures import counts, number, reliability_chart, thinned
from calipose.report.page import document
from calipose.report.tables import DASH, MINUS, Row, show, table

MAX_IMAGES = 6  # that speak most for either model
CELL = 420  # pixels of an image's longer side
FIGURES = {
    "AP": "ap",
    "AP50": "ap50",
    "AP75": "ap75",
    "AP, medium people": "ap_medium",
    "AP, large people": "ap_large",
    "AR": "ar",
}
DIFFERENCE = f"B {MINUS} A"
PEOPLE = "people"  # the population: as many best poses as there are people


def paired_charts(a: Evaluation, b: Evaluation) -> list[Chart]:
    """Reliability of either, and their risk and coverage; none where one of them has no poses."""
    best = [each.matches[each.populations[PEOPLE]] for each in (a, b)]
    if not all(map(len, best)):
        return []
    charts = []
    for letter, matches in zip("AB", best, strict=True):
        drawn = reliability_chart("poses", letter, matches.score, matches.oks, counts(matches), f"reliability_{letter}")
        charts.append(drawn)
    return [*charts, risk_coverage_of_both(a, b)]


@chart
def risk_coverage_of_both(a: Evaluation, b: Evaluation) -> Chart:
    """Mean 1 - OKS of the poses kept, against their number as a share of the people."""
    people = max(int(a.truth.wanted.sum()), 1)
    counted = number(people, "person").replace("persons", "people")
    figure, axes = new_axes("Errors kept", counted, "poses kept per person, best first", "mean of 1 - OKS among them")
    rows: list[tuple[str, float, float]] = []
    for letter, each, colour in (("A", a, BLUE), ("B", b, ORANGE)):
        best = each.matches[each.populations[PEOPLE]]
        risk = risk_coverage(best.score, best.oks)[1]
        kept = np.arange(1, len(risk) + 1) / people
        at = thinned(len(risk))
        axes.plot(kept[at], risk[at], color=colour, label=letter)
        rows += [(letter, x, y) for x, y in zip(kept[at].tolist(), risk[at].tolist(), strict=True)]
    axes.set_xlim(0, 1.01)
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left", borderaxespad=0.2)
    how = (
        "Of either model the best-scored poses are kept, as many as the axis says for each annotated person. The lower"
        " line is the better one: it keeps fewer and smaller errors among as many poses."
    )
    return Chart("risk_coverage_both", "Errors kept", counted, how, figure, ("model", "kept", "risk"), rows)


def paired_page(
    comparison: Comparison, names: tuple[str, str], lead: str, charts: Sequence[Chart], images: Path
) -> str:
    """The page.

    Args:
        comparison: of both.
        names: what the page calls them.
        lead: stands below the title.
        charts: of both.
        images: folder of the images.

    Raises:
        ImageError: an image that it shows cannot be read.
    """
    better, worse = comparison.largest_changes(MAX_IMAGES)
    drawn = "".join(
        f'<figure id="chart-{each.name}">{each.svg()}<figcaption><b>How to read it.</b> {escape(each.how)}</figcaption>'
        "</figure>\n"
        for each in charts
    )
    sections = {
        "precision": ("Average precision", _precision(comparison)),
        "scores": ("What the scores are worth", _scores(comparison)),
        "charts": ("Reliability", f'<div class="charts">{drawn}</div>' if drawn else ""),
        "better": ("Images that speak for B", _images(comparison, better, images)),
        "worse": ("Images that speak for A", _images(comparison, worse, images)),
    }
    counted = f"{number(comparison.a.images, 'image')}, {number(comparison.a.people, 'annotated person')}"
    counted = counted.replace("persons", "people")
    title = f"Calipose report: {names[0]} and {names[1]}"
    return document(title, lead, _overview(comparison), sections, counted)


def _overview(comparison: Comparison) -> str:
    a, b = comparison.scores
    found = [sum(getattr(image, side).found for image in comparison.images) for side in "ab"]
    people = max(comparison.a.people, 1)
    entries = (
        ("AP of A and B", f"{show(comparison.a.ap)} · {show(comparison.b.ap)}", comparison.verdict()),
        (METRICS["ece"].label, f"{show(a['ece'])} · {show(b['ece'])}", "calibration error; lower is better"),
        (
            METRICS["spearman"].label,
            f"{show(a['spearman'])} · {show(b['spearman'])}",
            "score and OKS; higher is better",
        ),
        ("People found", f"{found[0] / people:.0%} · {found[1] / people:.0%}", "OKS ≥ 0.5, of as many poses as people"),
    )
    cards = (f"<div><dt>{name}</dt><dd>{value}</dd><dd>{more}</dd></div>" for name, value, more in entries)
    return f'<dl class="cards pair">{"".join(cards)}</dl>'


def _precision(comparison: Comparison) -> str:
    rows: list[Row] = []
    for name, key in FIGURES.items():
        in_a, in_b = getattr(comparison.a, key), getattr(comparison.b, key)
        small = f"<small>{_ends(comparison.difference.interval)}</small>" if key == "ap" else ""
        rows.append((name, [show(in_a), show(in_b), _signed(in_b - in_a) + small]))
    rows.append(("poses", [f"{comparison.a.poses:,}", f"{comparison.b.poses:,}", ""]))
    made = table("<b>COCO's figures</b>; small print: 95 % interval over the same images", ["A", "B", DIFFERENCE], rows)
    return f'<div class="tables wide">{made}</div>'


def _scores(comparison: Comparison) -> str:
    a, b = comparison.scores
    rows: list[Row] = [
        ("mean score", [show(a.mean_score), show(b.mean_score), ""]),
        ("mean OKS", [show(a.mean_oks), show(b.mean_oks), ""]),
    ]
    for key, metric in METRICS.items():
        difference, interval = comparison.score_differences[key]
        cell = f"{_signed(difference)}<small>{_ends(interval)}</small>"
        rows.append((escape(metric.label), [show(a[key]), show(b[key]), cell]))
        if key == "ece":
            chance = [DASH if each.by_chance is None else show(each.by_chance.mean) for each in (a, b)]
            rows.append(("ECE of perfect scores", [*chance, ""]))
            rows.append(("p of being calibrated", [show(a.p), show(b.p), ""]))
    counted = f"{number(a.poses, 'pose')} of A and {b.poses:,} of B"
    made = table(f"<b>Best poses, as many as people</b>: {counted}", ["A", "B", DIFFERENCE], rows)
    return (
        "<p>Of either model as many best-scored poses as there are annotated people, since a score need not mean"
        f' the same in both.</p><div class="tables wide">{made}</div>'
    )


def _images(comparison: Comparison, changes: Sequence[ImageChange], images: Path) -> str:
    if not changes:
        return ""
    names = comparison.truth.in_folder(images).files
    rows = []
    for change in changes:
        file = names[change.image_id]
        cells = "".join(
            f'<figure><img src="{webp(image)}" width="{image.shape[1]}" height="{image.shape[0]}" loading="lazy"'
            f' alt="{escape(label)}"><figcaption>{escape(label)}</figcaption></figure>'
            for image, label in (
                (fitted(image, CELL), label) for image, label in panels(comparison, change, images / file)
            )
        )
        points = f"{_signed(100 * change.change, '.2f')} points of AP"
        rows.append(f'<h3><span class="file">{escape(file)}</span> · {points}</h3><div class="three">{cells}</div>')
    note = (
        "What an image adds to B minus A, in hundredths of AP. The poses drawn are the best-scored ones of either, as"
        " many as there are people in all. At the left stands what is annotated."
    )
    return f'<p class="note">{note}</p>{"".join(rows)}'


def _ends(interval: tuple[float, float]) -> str:
    return "" if math.isnan(interval[0]) else f"{_signed(interval[0])} to {_signed(interval[1])}"


def _signed(value: float, form: str = ".3f") -> str:
    return DASH if math.isnan(value) else format(value, f"+{form}").replace("-", MINUS)
