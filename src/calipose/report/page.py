"""The report's page: numbers, charts and gallery as one HTML file that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources

from calipose.evaluation.coverage import Coverage
from calipose.evaluation.evaluation import Evaluation
from calipose.evaluation.metrics import METRICS
from calipose.report.chart import COLOURS, Chart
from calipose.report.figures import number
from calipose.report.gallery import SECTIONS
from calipose.report.tables import (
    DASH,
    POPULATIONS,
    coverage_tables,
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


def page(
    title: str,
    lead: str,
    evaluation: Evaluation,
    charts: Charts,
    tiles: Mapping[str, Sequence[str]],
    whole: Sequence[str] = (),
    *,
    coverage: Sequence[Coverage] = (),
) -> str:
    """The whole page; a section about which there is nothing to say is left out.

    Args:
        title: of the page.
        lead: stands below the title.
        evaluation: of the results.
        charts: by section.
        tiles: of the gallery, by its section, as HTML.
        whole: the images that tiles open, as HTML.
        coverage: of the regions of keypoints.
    """
    sections = {
        "precision": ("Average precision", _precision(evaluation)),
        "scores": ("What the scores are worth", _scores(evaluation)),
        "reliability": ("Reliability", _reliability(charts)),
        "background": ("People and background", _charts(charts.get("scatter", ()))),
        "curves": ("Choosing a threshold", _charts(charts.get("curves", ()))),
        "keypoints": ("Keypoint scores", _keypoints(evaluation, charts)),
        "regions": ("Regions of keypoints", _regions(evaluation, charts, coverage)),
        "parts": ("By size, labelled keypoints, occlusion and crowding", _parts(evaluation)),
        "errors": ("Keypoint errors", _errors(evaluation, charts)),
        "training": ("Training", _charts(charts.get("training", ()))),
        "gallery": ("Gallery", _gallery(tiles)),
    }
    counted = f"{number(evaluation.ap.images, 'image')}, {number(evaluation.ap.poses, 'pose')}"
    return document(title, lead, _overview(evaluation), sections, counted, whole)


def document(
    title: str,
    lead: str,
    overview: str,
    sections: Mapping[str, tuple[str, str]],
    counted: str,
    whole: Sequence[str] = (),
) -> str:
    """An HTML page of the report's look that needs nothing else.

    Args:
        title: of the page.
        lead: stands below the title.
        overview: below that, as HTML.
        sections: id -> heading and content as HTML; those without content are left out.
        counted: of how many images and poses it is.
        whole: images that the page opens, as HTML.
    """
    sections = {name: section for name, section in sections.items() if section[1]}
    links = "".join(f'<a href="#{name}">{heading}</a>' for name, (heading, _) in sections.items())
    body = "".join(
        f'<section>\n<h2 id="{name}">{heading}</h2>\n{content}</section>\n'
        for name, (heading, content) in sections.items()
    )
    light, dark = ("".join(f"--{name}:{pair[i]};" for name, pair in COLOURS.items()) for i in (0, 1))
    style = resources.files("calipose.report").joinpath("page.css").read_text(encoding="utf-8")
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
<header><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>{overview}<nav>{links}</nav></header>
{body}<footer>{counted}. The charts lie in figures/ beside this page, as PNG, and their data as CSV.</footer>
</main>
{"".join(whole)}</body></html>
"""


def _overview(evaluation: Evaluation) -> str:
    """The four figures that one looks for first."""
    figures = evaluation.scores["score"]
    after = evaluation.calibrated.get("score")
    gap = figures.mean_score - figures.mean_oks
    verdict = "" if math.isnan(gap) else f"scores are too {'high' if gap > 0 else 'low'} by {abs(gap):.3f} on average"
    if figures.by_chance is not None and verdict:
        verdict = f"perfect scores: {show(figures.by_chance.mean)}; {verdict}"
    if after is not None and verdict:
        verdict = f"{show(after['ece'])} calibrated; {verdict}"
    found, people = int((evaluation.matches.oks >= 0.5).sum()), evaluation.ap.people
    entries = (
        ("AP", show(evaluation.ap.ap), show_interval(evaluation.ap.interval)),
        (f"Calibration error ({METRICS['ece'].label})", show(figures["ece"]), verdict),
        (
            f"Score and OKS ({METRICS['spearman'].label})",
            show(figures["spearman"]),
            show_interval(figures.intervals.get("spearman")),
        ),
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


def _precision(evaluation: Evaluation) -> str:
    return (
        "<p>A pose counts as correct if its OKS with a person reaches a threshold, and no pose of higher score is"
        " matched with that person. AP is the mean over thresholds of 0.50 to 0.95. Only the order of the scores"
        " matters to it, not their height.</p>"
        f'<div class="tables wide">{precision_tables(evaluation)}</div>\n'
    )


def _scores(evaluation: Evaluation) -> str:
    if not evaluation.shown.any():
        poses = number(len(evaluation.matches), "pose")
        return f"<p>None of {poses} has a score of 0.05 or more: there is nothing to say.</p>"
    fitted = (
        "“Calibrated” is cross-fitted: the images are split into folds, and the scores of each fold go through a map"
        " from score to OKS that was fitted on the others. It shows what <code>calipose calibrate</code> would gain."
        if evaluation.cross_fitted is not None
        else f"There are no calibrated scores here ({escape(evaluation.not_calibrated)})."
    )
    small = (
        " Small print: 95 % intervals over images, by bootstrap. Few poses never show an ECE of 0: “ECE of perfect"
        " scores” is what a perfectly calibrated score would show on as many poses in as many images. The p-value is of"
        " the test that the scores are the expected OKS: 0.05 or less speaks against them."
        if evaluation.bootstrap
        else ""
    )
    return (
        "<p><b>OKS</b> says how well a pose fits the annotated one: 1 is perfect, 0 is a false positive."
        f" {_meanings()}</p>"
        f'<p class="note">{fitted}{small}</p><div class="tables wide">{population_tables(evaluation)}</div>\n'
    )


def _meanings() -> str:
    """What the metrics say."""
    return " ".join(
        f"<b>{escape(metric.label)}</b> is {escape(metric.meaning)}; {metric.better} is better."
        for metric in METRICS.values()
        if metric.meaning
    )


def _reliability(charts: Charts) -> str:
    if not charts.get("reliability"):
        return ""
    text = f"A score is reliable if poses of score 0.8 have an OKS of 0.8 on average. Here are {SHOWN}."
    return f"<p>{text}</p>{_charts(charts['reliability'])}"


def _keypoints(evaluation: Evaluation, charts: Charts) -> str:
    if not evaluation.shown.any():
        return ""
    if not charts.get("keypoints"):
        return (
            "<p>There are no keypoint scores to look at: the third numbers of the results hardly differ, or no pose is"
            " matched with a person.</p>"
        )
    return (
        "<p>Keypoint scores against how near the keypoint is to its annotation (similarity: 1 on the spot, 0 far off),"
        " for labelled keypoints of matched poses. The calibrated score of a keypoint assumes that the pose is matched"
        " with a person, so the mean over the keypoints of a false positive is too high.</p>"
        f"{_charts(charts['keypoints'])}{_charts(charts.get('means', ()), keypoint_means_table(evaluation))}"
    )


def _regions(evaluation: Evaluation, charts: Charts, coverage: Sequence[Coverage]) -> str:
    if not coverage:
        return ""
    whose = "Maps and regions are cross-fitted: those of each image were fitted on the other images."
    if evaluation.has_regions:
        whose = "The regions are the model's own."
    elif evaluation.carries_regions:
        whose = "The regions are those that the results carry."
    return (
        "<p>A region is a circle in which the annotated keypoint lies with the probability asked for. Here are the"
        " labelled keypoints of matched poses, all of them and in groups of 100 and more. Thirds of the keypoint scores"
        " make low, middle and high. Nothing is promised of visible and of occluded keypoints each by itself."
        f" {whose}</p>{_charts(charts.get('regions', ()))}"
        f'<div class="tables wide">{coverage_tables(coverage)}</div>\n'
    )


def _parts(evaluation: Evaluation) -> str:
    if not evaluation.shown.any():
        return ""
    return (
        f"<p>Again {SHOWN}. COCO calls people below 32² pixels small, from 96² large; a false positive has the size of"
        " its own box. Occluded: a third or more of the labelled keypoints are hidden. Overlapped: another annotated"
        " person's box overlaps. False positives have no labelled keypoints, so those tables are of matched poses"
        " only. A calibrated score allows for false positives, so it is too low"
        f' there.</p><div class="tables">{slice_tables(evaluation)}</div>\n'
    )


def _errors(evaluation: Evaluation, charts: Charts) -> str:
    if not charts.get("errors"):
        return ""
    return (
        "<p>The kinds are those of Ronchi and Perona (ICCV 2017). A keypoint is <b>good</b> if its similarity with"
        " the annotation is 0.85 or more, and <b>jitter</b> from 0.5. Nearer to another annotated keypoint it is an"
        " <b>inversion</b> or a <b>swap</b>, and near none a <b>miss</b>.</p>"
        f'{_charts(charts["errors"])}<div class="tables wide">{error_tables(evaluation)}</div>\n'
    )


def _gallery(tiles: Mapping[str, Sequence[str]]) -> str:
    if not any(tiles.values()):
        return ""
    parts = [
        "<p>Each pair shows the annotation on the left and the pose on the right. A person's left side is drawn"
        " orange, the right side blue. A click shows the whole image.</p>",
        '<p class="jump">'
        + "".join(f'<a href="#gallery-{name}">{SECTIONS[name][0]}</a>' for name in SECTIONS if tiles[name])
        + "</p>",
    ]
    for section, (heading, rule) in SECTIONS.items():
        shown = f'<div class="gallery">{"".join(tiles[section])}</div>' if tiles[section] else "<p>None.</p>"
        parts.append(f'<h3 id="gallery-{section}">{heading}</h3><p class="note">{escape(rule)}</p>{shown}\n')
    return "".join(parts)
