"""The charts of the scores: reliability, score against OKS, curves, histograms."""

from __future__ import annotations

from typing import Any

import numpy as np

from calipose.evaluation.ap import OKS_THRESHOLDS
from calipose.evaluation.evaluation import Evaluation
from calipose.evaluation.ground_truth import Integers
from calipose.evaluation.matching import Matches
from calipose.evaluation.metrics import area_under_risk_coverage, ece, reliability, risk_coverage
from calipose.geometry import Floats
from calipose.report.chart import BLUE, GREEN, GRID, INK, MUTED, ORANGE, PAPER, Chart, chart, new_axes

SCATTERED = 5  # poses of each image, as in the paper's Figure 5
MAX_POINTS = 2000  # of a scatter: more would only be a blot, and megabytes
CURVE_POINTS = 300
HISTOGRAM_BINS = 25


def score_charts(evaluation: Evaluation) -> dict[str, list[Chart]]:
    """All charts of the scores, by the section of the page they stand in; none where there are no poses."""
    if not evaluation.shown.any():
        return {}
    shown = evaluation.matches[evaluation.shown]
    charts = {
        "reliability": [reliability_chart("poses", "as given", shown.score, shown.oks, counts(shown))],
        "scatter": [score_against_oks(evaluation), score_histogram(evaluation)],
        "curves": [risk_coverage_chart(evaluation), precision_recall(evaluation)],
        "keypoints": [],
    }
    if evaluation.cross_fitted is not None:
        fitted = evaluation.cross_fitted[evaluation.shown]
        charts["reliability"].append(reliability_chart("poses", "calibrated", fitted.score, fitted.oks, counts(fitted)))
    score, similarity = evaluation.keypoint_pairs(evaluation.matches)
    if evaluation.has_keypoint_scores and len(score):
        keypoints = f"{len(score):,} labelled keypoints of {number((shown.person >= 0).sum(), 'pose')}"
        charts["keypoints"] = [reliability_chart("keypoints", "as given", score, similarity, keypoints)]
        if evaluation.cross_fitted is not None:
            charts["keypoints"].append(
                reliability_chart(
                    "keypoints", "calibrated", *evaluation.keypoint_pairs(evaluation.cross_fitted), keypoints
                )
            )
        charts["means"] = [keypoint_means(evaluation)]
    return charts


def number(n: Any, word: str) -> str:
    """`1 pose`, `1,234 poses`."""
    return f"{int(n):,} {word}{'' if n == 1 else 's'}"


def counts(matches: Matches) -> str:
    """Of how many poses and images."""
    return f"{number(len(matches), 'pose')} in {number(len(np.unique(matches.image)), 'image')}"


def _score_limits(score: Floats) -> tuple[float, float]:
    """0 to 1, or further where scores lie beyond."""
    return min(0.0, float(score.min(initial=0.0))) - 0.02, max(1.0, float(score.max(initial=1.0))) + 0.02


def _diagonal(axes: Any) -> None:
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))


@chart
def reliability_chart(subject: str, state: str, score: Floats, oks: Floats, counted: str, name: str = "") -> Chart:
    """Mean score against mean OKS, or similarity of keypoints.

    Args:
        subject: "poses" or "keypoints".
        state: "as given", "calibrated", or whose scores they are.
        score: (n,).
        oks: (n,).
        counted: of how many.
        name: of the chart's files; by default of subject and state.
    """
    bins = reliability(score, oks)
    worth = "OKS" if subject == "poses" else "similarity"
    title = f"{subject.capitalize()}, {state}"
    error = ece(score, oks)
    figure, axes = new_axes(title, f"ECE {error:.3f}  ·  {counted}", "mean score", f"mean {worth}")
    _diagonal(axes)
    high = np.where(bins.mean_score > bins.mean_oks, ORANGE, BLUE)
    axes.vlines(bins.mean_score, bins.mean_oks, bins.mean_score, colors=high, linewidth=3.5, alpha=0.35)
    axes.plot(bins.mean_score, bins.mean_oks, color=INK, linewidth=1, alpha=0.5)
    axes.scatter(bins.mean_score, bins.mean_oks, c=high, s=34, zorder=3, edgecolors=PAPER, linewidths=0.8)
    axes.set_xlim(*_score_limits(bins.mean_score))
    axes.set_ylim(-0.02, 1.02)
    how = (
        f"Each dot is one of {len(bins.poses)} groups of equally many {subject}, from low to high score. On the dashed"
        f" line a score is exactly the {worth} that follows. Orange, below it: too high; blue, above it: too low."
    )
    if state == "calibrated":
        how = (
            "The same after calibration. Each image's scores go through a map fitted on other images, so this is"
            " what calibration does to images it has not seen."
        )
    rows = list(zip(bins.mean_score.tolist(), bins.mean_oks.tolist(), bins.poses.tolist(), strict=True))
    name = name or f"reliability_{subject}_{'calibrated' if state == 'calibrated' else 'given'}"
    return Chart(name, f"Reliability of {title[0].lower()}{title[1:]}", counted, how, figure,
                 ("mean_score", f"mean_{worth.lower()}", subject), rows)  # fmt: skip


def _five_an_image(image: Integers, rng: np.random.Generator) -> Integers:
    """Up to five random rows of each image, at most `MAX_POINTS` in all."""
    order = rng.permutation(len(image))
    by_image = order[np.argsort(image[order], kind="stable")]
    first = np.searchsorted(image[by_image], image[by_image])
    chosen: Integers = by_image[np.arange(len(image)) - first < SCATTERED]
    if len(chosen) > MAX_POINTS:
        chosen = rng.choice(chosen, MAX_POINTS, replace=False)
    return np.sort(chosen)


@chart
def score_against_oks(evaluation: Evaluation) -> Chart:
    """The paper's Figure 5: score and OKS of five random poses an image of those that the results keep."""
    matches = evaluation.matches
    chosen = _five_an_image(matches.image, np.random.default_rng(0))
    few = np.zeros(len(matches), bool)
    few[chosen] = True
    drawn = matches[few]
    counted = counts(drawn)
    figure, axes = new_axes("Score against OKS", counted, "score", "OKS")
    _diagonal(axes)
    kinds = np.where(drawn.person >= 0, "matched", np.where(drawn.duplicate_of >= 0, "duplicate", "background"))
    for label, colour, marker in (("matched", BLUE, "o"), ("duplicate", GREEN, "s"), ("background", ORANGE, "D")):
        part = drawn[kinds == label]
        style = {"s": 15, "alpha": 0.6, "linewidths": 0, "marker": marker}
        axes.scatter(part.score, part.oks, color=colour, label=label, clip_on=False, **style)
    axes.set_xlim(*_score_limits(drawn.score))
    axes.set_ylim(-0.02, 1.02)
    figure.legend(loc="outside lower center", ncols=3, handletextpad=0.2)
    how = (
        "Five random poses of each image (all where it has fewer), as in the paper's Figure 5. The nearer to the"
        " dashed line, the better the score predicts the OKS. Bottom right: bad poses of high score; top left:"
        " good poses of low score. OKS 0: a false positive. Background: no annotated person is near. Duplicate: a"
        " second pose of a person whom a better one is matched with; the data beside the chart say its OKS with them."
    )
    names = [evaluation.file_name(i) for i in drawn.image.tolist()]
    columns = (drawn.entry, drawn.score, drawn.oks, kinds, drawn.duplicate_oks)
    rows = list(zip(names, *(column.tolist() for column in columns), strict=True))
    return Chart("score_against_oks", "Score against OKS", counted, how, figure,
                 ("image", "entry", "score", "oks", "kind", "duplicate_oks"), rows)  # fmt: skip


@chart
def score_histogram(evaluation: Evaluation) -> Chart:
    """Scores of poses that are matched with a person, and of false positives."""
    matches = evaluation.matches
    counted = counts(matches)
    figure, axes = new_axes("Scores of people and background", counted, "score", "poses")
    low, high = float(min(0, matches.score.min())), float(max(1, matches.score.max()))
    edges = np.linspace(low, high, HISTOGRAM_BINS + 1)
    parts = {
        "matched": matches.score[matches.person >= 0],
        "duplicate": matches.score[matches.duplicate_of >= 0],
        "background": matches.score[(matches.person < 0) & (matches.duplicate_of < 0)],
    }
    heights = {name: np.histogram(score, edges)[0] for name, score in parts.items()}
    for (name, height), colour in zip(heights.items(), (BLUE, GREEN, ORANGE), strict=True):
        label = f"{name} ({len(parts[name]):,})"
        axes.stairs(height, edges, color=colour, fill=True, alpha=0.22)
        axes.stairs(height, edges, color=colour, linewidth=1.6, label=label)
    axes.grid(axis="x", visible=False)
    axes.legend(loc="upper right", borderaxespad=0.2)
    how = (
        "How often each score is given. The less matched poses overlap with the others, the better a threshold on the"
        " score separates people from false positives: background, without an annotated person of OKS 0.1 or more, and"
        " duplicates, second poses of a person."
    )
    rows = list(zip(edges[:-1].tolist(), edges[1:].tolist(), *(h.tolist() for h in heights.values()), strict=True))
    return Chart("score_histogram", "Scores of people and background", counted, how, figure,
                 ("from", "to", *parts), rows)  # fmt: skip


def thinned(n: int) -> Integers:
    """Positions of a curve's points that are drawn."""
    return np.unique(np.linspace(0, n - 1, CURVE_POINTS).round().astype(np.int64))


@chart
def risk_coverage_chart(evaluation: Evaluation) -> Chart:
    """Mean 1 - OKS of the poses kept, against the share kept."""
    shown = evaluation.matches[evaluation.shown]
    counted = counts(shown)
    coverage, risk = risk_coverage(shown.score, shown.oks)
    ideal = risk_coverage(shown.oks, shown.oks)[1]
    area = area_under_risk_coverage(shown.score, shown.oks)
    figure, axes = new_axes("Risk and coverage", f"area {area:.3f}  ·  {counted}", "share of poses kept, best first",
                            "mean of 1 - OKS among them")  # fmt: skip
    at = thinned(len(coverage))
    axes.axhline(risk[-1], color=MUTED, linewidth=1, linestyle=(0, (1, 2)), label="random order")
    axes.plot(coverage[at], ideal[at], color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="perfect order")
    axes.plot(coverage[at], risk[at], color=BLUE, label="this score")
    axes.fill_between(coverage[at], ideal[at], risk[at], color=BLUE, alpha=0.1, linewidth=0)
    axes.set_xlim(0, 1.01)
    axes.set_ylim(0, max(0.05, 1.12 * float(max(risk.max(), ideal.max()))))
    axes.legend(loc="lower right", borderaxespad=0.2)
    how = (
        "Keep only the poses with the best scores: how wrong are they on average? A low, late-rising line is good. The"
        " dashed line is the best possible order of these very poses; the shaded gap is what the score costs."
    )
    rows = list(zip(coverage[at].tolist(), risk[at].tolist(), ideal[at].tolist(), strict=True))
    return Chart("risk_coverage", "Risk and coverage", counted, how, figure, ("coverage", "risk", "ideal_risk"), rows)


@chart
def precision_recall(evaluation: Evaluation) -> Chart:
    """COCO's precision at each recall, at three thresholds of the OKS."""
    people = int(evaluation.truth.wanted.sum())
    counted = (
        f"{number(people, 'person').replace('persons', 'people')} in {number(len(evaluation.truth.image_ids), 'image')}"
    )
    figure, axes = new_axes("Precision and recall", counted, "recall: share of the people found", "precision")
    rows: list[tuple[float, float, float]] = []
    for t, colour in ((0, GREEN), (5, BLUE), (8, ORANGE)):
        hits, false = evaluation.table.hit[t].cumsum(), evaluation.table.false[t].cumsum()
        precision = hits / np.maximum(hits + false, 1)
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        recall = hits / max(people, 1)
        new = np.append(True, np.diff(recall) > 0)
        recall, precision = recall[new], precision[new]
        at = thinned(len(recall))
        axes.step(recall[at], precision[at], color=colour, where="pre", label=f"OKS ≥ {OKS_THRESHOLDS[t]:.2f}")
        level = float(OKS_THRESHOLDS[t])
        rows += [(level, r, p) for r, p in zip(recall[at].tolist(), precision[at].tolist(), strict=True)]
    axes.set_xlim(0, 1.01)
    axes.set_ylim(0, 1.02)
    axes.legend(loc="upper right", borderaxespad=0.2)
    how = (
        "From the highest score threshold (left) to none (right): the share of people found, and the share of the poses"
        " that are correct. A higher OKS demands more of a correct pose. The line ends at the people that are never"
        " found."
    )
    return Chart("precision_recall", "Precision and recall", counted, how, figure, ("oks", "recall", "precision"), rows)


@chart
def keypoint_means(evaluation: Evaluation) -> Chart:
    """The pose's score against the mean of its keypoint scores."""
    shown = evaluation.matches[evaluation.shown]
    chosen = np.arange(len(shown))
    if len(chosen) > MAX_POINTS:
        chosen = np.sort(np.random.default_rng(0).choice(chosen, MAX_POINTS, replace=False))
    counted = counts(shown)
    mean, score, oks = shown.keypoint_scores.mean(1)[chosen], shown.score[chosen], shown.oks[chosen]
    figure, axes = new_axes(
        "Pose score and mean of its keypoints", counted, "mean of the keypoint scores", "pose score"
    )
    _diagonal(axes)
    for good, colour, label in ((False, ORANGE, "OKS < 0.5"), (True, BLUE, "OKS ≥ 0.5")):
        part = (oks >= 0.5) == good
        axes.scatter(mean[part], score[part], s=13, color=colour, alpha=0.5, linewidths=0, label=label,
                     marker="o" if good else "D")  # fmt: skip
    axes.set_xlim(*_score_limits(mean))
    axes.set_ylim(*_score_limits(score))
    figure.legend(loc="outside lower center", ncols=2, handletextpad=0.2)
    axes.grid(color=GRID)
    how = (
        "The OKS of a pose is the mean of its keypoints' similarities, so its score and the mean of its keypoint scores"
        " can be checked against each other: on the dashed line they agree. The table says which of the two predicts"
        " the OKS better."
    )
    rows = list(zip(mean.tolist(), score.tolist(), oks.tolist(), strict=True))
    return Chart("pose_and_keypoint_scores", "Pose score and mean of its keypoint scores", counted, how, figure,
                 ("mean_keypoint_score", "score", "oks"), rows)  # fmt: skip
