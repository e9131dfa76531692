"""The tables of the report's page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

from calipose.evaluation.scores import ScoreFigures
from calipose.report.analysis import POPULATIONS, Analysis, BeforeAfter
from calipose.report.errors import KINDS, kind_counts
from calipose.report.figures import number

FIGURES = {  # of ScoreFigures, and what the page calls them
    "ece": "ECE",
    "brier": "Brier",
    "resolution": "Resolution",
    "spearman": "Spearman",
    "pearson": "Pearson",
    "aurc": "Risk-coverage area",
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


def precision_tables(of: Analysis) -> str:
    """AP and its companions, and what they hold for."""
    figures = of.precision
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
    return _table(f"<b>COCO's figures</b>{small}", [], rows) + _table("<b>What they hold for</b>", [], held)


def population_tables(of: Analysis) -> str:
    """The score figures of both populations, as given and calibrated."""
    tables = ""
    for name, heading in POPULATIONS.items():
        figures = of.populations[name]
        columns = [figures.before, *([] if figures.after is None else [figures.after])]
        rows: list[Row] = [
            ("mean score", [show(one.mean_score) for one in columns]),
            ("mean OKS", [show(one.mean_oks) for one in columns]),
            *((shown, _figures(columns, key)) for key, shown in FIGURES.items()),
        ]
        counted = f"{number(figures.before.poses, 'pose')} in {number(figures.before.images, 'image')}"
        tables += _table(f"<b>{heading}</b>: {counted}", ["as given", "calibrated"][: len(columns)], rows)
    return tables


def slice_tables(of: Analysis) -> str:
    """The score figures of the parts of the poses, a table for each way of parting."""
    tables = ""
    for by, parts in of.slices.items():
        names = [part.replace(" or more", "+") for part in parts]
        tables += _table(f"<b>By {by}</b>", names, _slice_rows(list(parts.values()), of.fitted is not None))
    return tables


def _slice_rows(columns: Sequence[BeforeAfter], calibrated: bool) -> list[Row]:
    before, after = [one.before for one in columns], [one.after for one in columns]
    rows: list[Row] = [
        ("poses", [f"{one.poses:,}" for one in before]),
        ("images", [f"{one.images:,}" for one in before]),
        ("mean score", [show(one.mean_score) for one in before]),
        ("mean OKS", [show(one.mean_oks) for one in before]),
    ]
    for key, shown in FIGURES.items():
        rows.append((shown, _figures(before, key)))
        if calibrated and key in {"ece", "brier"}:
            rows.append((f"{shown}, calibrated", _figures(after, key)))
    return rows


def keypoint_means_table(of: Analysis) -> str:
    """The pose's score and the mean of its joints' scores: which tells the OKS better."""
    pose, mean = of.populations["score"], of.keypoint_means
    before, after = [pose.before, mean.before], [pose.after, mean.after]
    rows: list[Row] = [("mean", [show(one.mean_score) for one in before])]
    for key, shown in FIGURES.items():
        rows.append((shown, _figures(before, key)))
        if key == "ece" and of.fitted is not None:
            rows.append((f"{shown}, calibrated", _figures(after, key)))
    caption = f"<b>Which tells the OKS better?</b> {number(pose.before.poses, 'pose')}"
    return _table(caption, ["pose score", "mean of joints"], rows)


def error_tables(of: Analysis) -> str:
    """Error kinds by joint, and what would be gained without each."""
    table = kind_counts(of.kinds)
    every = np.concatenate([table.sum(0)[None], table])
    names = ["all joints", *(name.replace("_", " ") for name in of.skeleton.keypoints)]
    shares = every / np.maximum(every.sum(1, keepdims=True), 1)
    rows: list[Row] = [
        (escape(name), [f"{count.sum():,}", *(f"{value:.0%}" for value in share.tolist())])
        for name, count, share in zip(names, every, shares, strict=True)
    ]
    gains: list[Row] = [(one.name, [show(one.ap), show(one.mean_oks)]) for one in of.repairs]
    return _table("<b>By joint</b>: labelled keypoints, and the share of each kind", ["joints", *KINDS], rows) + _table(
        "<b>If one kind were repaired</b>: mean OKS is of poses of a person", ["AP", "mean OKS"], gains
    )


def _figures(columns: Sequence[ScoreFigures | None], key: str) -> list[str]:
    return [DASH if one is None else _cell(getattr(one, key), one.intervals.get(key)) for one in columns]


def _cell(value: float, interval: tuple[float, float] | None = None) -> str:
    return show(value) + (f"<small>{show_interval(interval)}</small>" if interval else "")


def _table(caption: str, head: Sequence[str], rows: Sequence[Row]) -> str:
    """Numbers in columns; the first column names the row."""
    top = "".join(f"<th scope=col>{cell}</th>" for cell in ("", *head))
    body = "".join(
        f"<tr><th scope=row>{name}</th>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
        for name, cells in rows
    )
    top = f"<thead><tr>{top}</tr></thead>" if head else ""
    return f"<table><caption>{caption}</caption>{top}<tbody>{body}</tbody></table>\n"
