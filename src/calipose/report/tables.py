"""The tables of the report's page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

from calipose.evaluation.coverage import Coverage, coverage_grid
from calipose.evaluation.evaluation import Evaluation
from calipose.evaluation.keypoint_errors import KINDS, kind_counts
from calipose.evaluation.metrics import METRICS
from calipose.evaluation.scores import BeforeAfter, ScoreFigures
from calipose.report.figures import number

POPULATIONS = {
    "score": "Poses with score ≥ 0.05",
    "people": "Best poses, as many as people",
    "best": "Best 20 poses of each image",
}
MINUS, DASH = "\u2212", "\u2013"  # as wide as a digit; between the ends of an interval, or where there is no figure
Row = tuple[str, Sequence[str]]


def show(value: float) -> str:
    """Three digits, or a dash where there is no figure."""
    return DASH if math.isnan(value) else f"{value:.3f}".replace("-", MINUS)


def show_interval(interval: tuple[float, float] | None) -> str:
    """A 95 % interval, or nothing."""
    if interval is None or math.isnan(interval[0]):
        return ""
    return f"{show(interval[0])}{DASH}{show(interval[1])}"


def precision_tables(evaluation: Evaluation) -> str:
    """AP and its companions, and what they hold for."""
    figures = evaluation.ap
    rows: list[Row] = [
        ("AP", [_cell(figures.ap, figures.interval)]),
        ("AP50", [show(figures.ap50)]),
        ("AP75", [show(figures.ap75)]),
        ("AP, medium people", [show(figures.ap_medium)]),
        ("AP, large people", [show(figures.ap_large)]),
        ("AR", [show(figures.ar)]),
    ]
    held: list[Row] = [
        ("images", [f"{figures.images:,}"]),
        ("people", [f"{figures.people:,}"]),
        ("poses", [f"{figures.poses:,}"]),
        *((escape(str(name)), [escape(str(value))]) for name, value in figures.setting.items()),
    ]
    small = "; small print: 95 % interval over images" if figures.interval else ""
    return table(f"<b>COCO's figures</b>{small}", [], rows) + table("<b>What they hold for</b>", [], held)


def population_tables(evaluation: Evaluation) -> str:
    """The score figures of both populations, as given and calibrated."""
    tables = ""
    for name, heading in POPULATIONS.items():
        figures = evaluation.population(name)
        columns = [figures.before, *([] if figures.after is None else [figures.after])]
        rows: list[Row] = [
            ("mean score", [show(column.mean_score) for column in columns]),
            ("mean OKS", [show(column.mean_oks) for column in columns]),
        ]
        for key, metric in METRICS.items():
            rows.append((escape(metric.label), _figures(columns, key)))
            if key == "ece":
                rows += _chance_rows(columns)
        counted = f"{number(figures.before.poses, 'pose')} in {number(figures.before.images, 'image')}"
        tables += table(f"<b>{heading}</b>: {counted}", ["as given", "calibrated"][: len(columns)], rows)
    return tables


def slice_tables(evaluation: Evaluation) -> str:
    """The score figures of the parts of the poses, a table for each way of parting."""
    tables = ""
    for by, parts in evaluation.slices.items():
        names = [part.replace(" or more", "+") for part in parts]
        tables += table(
            f"<b>By {by}</b>", names, _slice_rows(list(parts.values()), evaluation.cross_fitted is not None)
        )
    return tables


def _slice_rows(columns: Sequence[BeforeAfter], calibrated: bool) -> list[Row]:
    before, after = [column.before for column in columns], [column.after for column in columns]
    rows: list[Row] = [
        ("poses", [f"{column.poses:,}" for column in before]),
        ("images", [f"{column.images:,}" for column in before]),
        ("mean score", [show(column.mean_score) for column in before]),
        ("mean OKS", [show(column.mean_oks) for column in before]),
    ]
    for key, metric in METRICS.items():
        rows.append((escape(metric.label), _figures(before, key)))
        if calibrated and metric.by_calibration:
            rows.append((f"{escape(metric.label)}, calibrated", _figures(after, key)))
    rows += _chance_rows(before)
    if calibrated:
        rows += _chance_rows(after, ", calibrated")
    return rows


def keypoint_means_table(evaluation: Evaluation) -> str:
    """The pose's score and the mean of its keypoint scores: which predicts the OKS better."""
    pose, mean = evaluation.population("score"), evaluation.keypoint_means
    before, after = [pose.before, mean.before], [pose.after, mean.after]
    rows: list[Row] = [("mean", [show(column.mean_score) for column in before])]
    for key, metric in METRICS.items():
        rows.append((escape(metric.label), _figures(before, key)))
        if metric.by_calibration and evaluation.cross_fitted is not None:
            rows.append((f"{escape(metric.label)}, calibrated", _figures(after, key)))
    question = "<b>Which predicts the OKS better:</b> the score of the pose or the mean of its keypoint scores?"
    caption = f"{question} {number(pose.before.poses, 'pose')}"
    return table(caption, ["pose", "keypoints"], rows)


def coverage_tables(coverage: Sequence[Coverage]) -> str:
    """The share of keypoints inside their regions, by group and coverage asked for."""
    asked, groups = coverage_grid(coverage)
    small = "; small print: 95 % interval over images" if any(row.interval for row in coverage) else ""
    rows: list[Row] = []
    for name, found in groups.items():
        cells = [DASH if row is None else _cell(row.got, row.interval) for row in found]
        rows.append((escape(name), [f"{max(row.keypoints for row in found if row is not None):,}", *cells]))
    return table(
        f"<b>Keypoints inside</b>, by the share asked for{small}",
        ["keypoints", *(f"{share:g}" for share in asked)],
        rows,
    )


def error_tables(evaluation: Evaluation) -> str:
    """Error kinds by keypoint, and what would be gained without each."""
    by_keypoint = kind_counts(evaluation.error_kinds)
    every = np.concatenate([by_keypoint.sum(0)[None], by_keypoint])
    names = ["all", *(name.replace("_", " ") for name in evaluation.skeleton.keypoints)]
    shares = every / np.maximum(every.sum(1, keepdims=True), 1)
    rows: list[Row] = [
        (escape(name), [f"{count.sum():,}", *(f"{value:.0%}" for value in share.tolist())])
        for name, count, share in zip(names, every, shares, strict=True)
    ]
    gains: list[Row] = [(column.name, [show(column.ap), show(column.mean_oks)]) for column in evaluation.repairs]
    return table("<b>By keypoint</b>: labelled keypoints, and the share of each kind", ["count", *KINDS], rows) + table(
        "<b>If one kind were repaired</b>: mean OKS is of matched poses", ["AP", "mean OKS"], gains
    )


def _chance_rows(columns: Sequence[ScoreFigures | None], name: str = "") -> list[Row]:
    """What chance alone does to the ECE, and the test; nothing without them."""
    if all(column is None or column.by_chance is None for column in columns):
        return []
    chance = [None if column is None else column.by_chance for column in columns]
    bounds = [
        DASH if each is None else f"{show(each.mean)}<small>95 % below {show(each.bound)}</small>" for each in chance
    ]
    rows: list[Row] = [(f"ECE of perfect scores{name}", bounds)]
    rows.append((f"p of being calibrated{name}", [DASH if column is None else show(column.p) for column in columns]))
    return rows


def _figures(columns: Sequence[ScoreFigures | None], key: str) -> list[str]:
    return [DASH if column is None else _cell(column[key], column.intervals.get(key)) for column in columns]


def _cell(value: float, interval: tuple[float, float] | None = None) -> str:
    return show(value) + (f"<small>{show_interval(interval)}</small>" if interval else "")


def table(caption: str, head: Sequence[str], rows: Sequence[Row]) -> str:
    """Numbers in columns; the first column names the row.

    Args:
        caption: above it, as HTML.
        head: names of the columns after the first; none for no head.
        rows: name and cells, as HTML.
    """
    top = "".join(f"<th scope=col>{cell}</th>" for cell in ("", *head))
    body = "".join(
        f"<tr><th scope=row>{name}</th>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
        for name, cells in rows
    )
    top = f"<thead><tr>{top}</tr></thead>" if head else ""
    return f"<table><caption>{caption}</caption>{top}<tbody>{body}</tbody></table>\n"
