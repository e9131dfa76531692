"""Regions of keypoints: the coverage that was asked for against the one that was got."""

from __future__ import annotations

from collections.abc import Sequence

from calipose.evaluation.coverage import ALL, Coverage
from calipose.report.chart import BLUE, GOLD, GREEN, INK, MUTED, ORANGE, PAPER, PURPLE, Chart, chart, new_axes
from calipose.report.figures import number

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, GOLD, MUTED)


def coverage_charts(rows: Sequence[Coverage]) -> list[Chart]:
    """A chart for each way of grouping, each with the line of all keypoints; none without rows."""
    ways = list(dict.fromkeys(row.by for row in rows if row.group != ALL)) or [""] * bool(rows)
    return [coverage_chart([row for row in rows if row.group == ALL or row.by == by], by) for by in ways]


@chart
def coverage_chart(rows: Sequence[Coverage], by: str = "") -> Chart:
    """Asked against got, a line for each group; on the dashed line the regions hold what they promise.

    Args:
        rows: of any number of groups, each at any number of coverages asked for.
        by: what the groups differ in.
    """
    title = f"Regions by {by}: asked and got" if by else "Regions: asked and got"
    groups = list(dict.fromkeys(row.group for row in rows))
    most = max((row.keypoints for row in rows), default=0)
    counted = number(most, "keypoint") if most else ""
    figure, axes = new_axes(title, counted, "coverage asked for", "share of keypoints inside")
    low = min([row.asked for row in rows] + [row.got for row in rows], default=0.5)
    edge = max(0.0, low - 0.05)
    axes.plot([edge, 1], [edge, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    for i, group in enumerate(groups):
        points = sorted((row.asked, row.got, row.interval or (row.got, row.got)) for row in rows if row.group == group)
        x, y, ends = zip(*points, strict=True)
        colour = INK if group == ALL else COLOURS[i % len(COLOURS)]
        axes.plot(x, y, color=colour, linewidth=2.2 if group == ALL else 1.2, marker="o", markersize=5, label=group,
                  markeredgecolor=PAPER)  # fmt: skip
        axes.vlines(x, [end[0] for end in ends], [end[1] for end in ends], colors=colour, linewidth=3, alpha=0.25)
    axes.set_xlim(edge, 1.005)
    axes.set_ylim(edge, 1.02)
    figure.legend(loc="outside lower center", ncols=3, handletextpad=0.3)
    how = (
        "Each region is a circle in which the annotated keypoint lies with the probability asked for. On the dashed"
        " line as many lie inside as was promised; below it the circles are too small. Bars are 95 % intervals."
    )
    data = [(row.group, row.asked, row.got, row.keypoints) for row in rows]
    name = f"regions_{by}" if by else "regions"
    return Chart(name, title, counted, how, figure, ("group", "asked", "got", "keypoints"), data)
