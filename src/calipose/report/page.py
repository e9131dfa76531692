"""The report's page: numbers, charts and gallery as one HTML file that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources

from calipose.report.analysis import POPULATIONS, Analysis
from calipose.report.chart import COLOURS, Chart
from calipose.report.figures import number
from calipose.report.gallery import SECTIONS
from calipose.report.tables import (
    DASH,
    error_tables,
    keypoint_means_table,
    population_tables,
    precision_tables,
    show,
    show_interval,
    slice_tables,
)

Charts = Mapping[str, Sequence[Chart]]
SHOWN = POPULATIONS["score"][0].lower() + POPULATIONS["score"][1:]


def page(title: str, lead: str, of: Analysis, charts: Charts, tiles: Mapping[str, Sequence[str]]) -> str:
    """The whole page. `lead` stands below the title; `charts` by section; `tiles` of the gallery by section, as HTML.

    A section about which there is nothing to say is left out.
    """
    sections = {
        "precision": ("Average precision", _precision(of)),
        "scores": ("What the scores are worth", _scores(of)),
        "reliability": ("Reliability", _reliability(charts)),
        "background": ("People and background", _charts(charts.get("scatter", ()))),
        "curves": ("Choosing a threshold", _charts(charts.get("curves", ()))),
        "joints": ("Scores of joints", _keypoints(of, charts)),
        "parts": ("By size, labelled keypoints and crowding", _parts(of)),
        "errors": ("What is wrong with the joints", _errors(of, charts)),
        "training": ("Training", _charts(charts.get("training", ()))),
        "gallery": ("Gallery", _gallery(tiles)),
    }
    sections = {name: section for name, section in sections.items() if section[1]}
    links = "".join(f'<a href="#{name}">{heading}</a>' for name, (heading, _) in sections.items())
    body = "".join(
        f'<section>\n<h2 id="{name}">{heading}</h2>\n{content}</section>\n'
        for name, (heading, content) in sections.items()
    )
    light, dark = ("".join(f"--{name}:{pair[i]};" for name, pair in COLOURS.items()) for i in (0, 1))
    style = resources.files("calipose.report").joinpath("page.css").read_text(encoding="utf-8")
    counted = f"{number(of.precision.images, 'image')}, {number(of.precision.poses, 'pose')}"
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>
:root {{ {light} }}
@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}
{style}</style></head>
<body><main>
<header><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>{_overview(of)}<nav>{links}</nav></header>
{body}<footer>{counted}. The charts lie in figures/ beside this page, as PNG, and their data as CSV.</footer>
</main></body></html>
"""


def _overview(of: Analysis) -> str:
    """The four figures that one looks for first."""
    figures = of.populations["score"].before
    after = of.populations["score"].after
    gap = figures.mean_score - figures.mean_oks
    verdict = "" if math.isnan(gap) else f"scores are too {'high' if gap > 0 else 'low'} by {abs(gap):.3f} on average"
    if after is not None and verdict:
        verdict = f"{show(after.ece)} calibrated; {verdict}"
    found, people = of.people_found()
    entries = (
        ("AP", show(of.precision.ap), show_interval(of.precision.interval)),
        ("Calibration error (ECE)", show(figures.ece), verdict),
        ("Score and OKS (Spearman)", show(figures.spearman), show_interval(figures.intervals.get("spearman"))),
        ("People found", f"{found / people:.0%}" if people else DASH, f"{found:,} of {people:,} with OKS ≥ 0.5"),
    )
    cards = (f"<div><dt>{name}</dt><dd>{value}</dd><dd>{more}</dd></div>" for name, value, more in entries)
    return f'<dl class="cards">{"".join(cards)}</dl>'


def _charts(charts: Sequence[Chart], beside: str = "") -> str:
    """Charts side by side, and what else stands beside them."""
    figures = "".join(
        f'<figure id="chart-{chart.name}">{chart.svg()}<figcaption><b>How to read it.</b> {escape(chart.how)}'
        "</figcaption></figure>\n"
        for chart in charts
    )
    return f'<div class="charts">{figures}{beside}</div>\n' if figures else ""


def _precision(of: Analysis) -> str:
    return (
        "<p>A pose counts as right if its OKS with a person whom no better pose has taken reaches a threshold; AP is"
        " the mean over thresholds of 0.50 to 0.95. Only the order of the scores matters to it, not their height.</p>"
        f'<div class="tables wide">{precision_tables(of)}</div>\n'
    )


def _scores(of: Analysis) -> str:
    if not of.shown.any():
        return f"<p>None of {number(len(of.matches), 'pose')} has a score of 0.05 or more: there is nothing to say.</p>"
    fitted = (
        "“Calibrated” is cross-fitted: the images are parted into folds, and each fold's scores go through a map from"
        " score to OKS that was fitted on the others. It shows what <code>calipose calibrate</code> would gain."
        if of.fitted is not None
        else f"There are no calibrated scores here ({escape(of.not_fitted)})."
    )
    small = " Small print: 95 % intervals over images, by bootstrap." if of.bootstrap else ""
    return (
        "<p><b>OKS</b> says how well a pose fits the annotated one: 1 is perfect, 0 is of nobody. <b>ECE</b> is how far"
        " score and mean OKS lie apart on average, 0 is best. <b>Brier</b> is the mean squared difference of score and"
        " OKS, 0 is best; <b>resolution</b> is how much of the OKS the score tells apart, more is better."
        " <b>Spearman</b> and <b>Pearson</b> say how well score and OKS go together, 1 is best. The <b>risk-coverage"
        " area</b> is the mean error when only the best-scored poses are kept, 0 is best.</p>"
        f'<p class="note">{fitted}{small}</p><div class="tables wide">{population_tables(of)}</div>\n'
    )


def _reliability(charts: Charts) -> str:
    if not charts.get("reliability"):
        return ""
    text = f"A score is reliable if poses of score 0.8 have an OKS of 0.8 on average. Here are {SHOWN}."
    return f"<p>{text}</p>{_charts(charts['reliability'])}"


def _keypoints(of: Analysis, charts: Charts) -> str:
    if not of.shown.any():
        return ""
    if not charts.get("joints"):
        return (
            "<p>There are no scores of joints to look at: the third numbers of the results hardly differ, or no pose is"
            " of a person.</p>"
        )
    return (
        "<p>Joint scores against how near the joint really is (similarity: 1 on the spot, 0 far off), for labelled"
        " joints of poses that are of a person. The calibrated score of a joint takes it for granted that somebody is"
        " there, so the mean of a background pose's joints is too high.</p>"
        f"{_charts(charts['joints'])}{_charts(charts.get('means', ()), keypoint_means_table(of))}"
    )


def _parts(of: Analysis) -> str:
    if not of.shown.any():
        return ""
    return (
        f"<p>Again {SHOWN}. COCO calls people below 32² pixels small, from 96² large; a pose of nobody has the size of"
        " its own box. Overlapped: another annotated person's box overlaps. Poses of nobody have no labelled keypoints,"
        " so that table is of poses of people only; a calibrated score, which reckons with background, is bound to be"
        f' too low there.</p><div class="tables">{slice_tables(of)}</div>\n'
    )


def _errors(of: Analysis, charts: Charts) -> str:
    if not charts.get("errors"):
        return ""
    return (
        "<p>The kinds are those of Ronchi and Perona (ICCV 2017). A joint is <b>good</b> if its similarity with the"
        " annotation is 0.85 or more, and <b>jitter</b> from 0.5. Nearer to another annotated joint it is an"
        " <b>inversion</b> or a <b>swap</b>, and near none a <b>miss</b>.</p>"
        f'{_charts(charts["errors"])}<div class="tables wide">{error_tables(of)}</div>\n'
    )


def _gallery(tiles: Mapping[str, Sequence[str]]) -> str:
    if not any(tiles.values()):
        return ""
    parts = [
        "<p>Each pair shows what is annotated on the left, and the pose on the right. A person's left side is drawn"
        " orange, the right side blue.</p>"
    ]
    for section, (heading, rule) in SECTIONS.items():
        shown = f'<div class="gallery">{"".join(tiles[section])}</div>' if tiles[section] else "<p>None.</p>"
        parts.append(f'<h3>{heading}</h3><p class="note">{escape(rule)}</p>{shown}\n')
    return "".join(parts)
