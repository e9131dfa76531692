"""Regions of keypoints: the coverage that was asked for against the one that was got."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from calipose.report.chart import BLUE, GOLD, GREEN, INK, MUTED, ORANGE, PAPER, PURPLE, Chart, chart, new_axes
from calipose.report.figures import number

ALL = "all"  # the group of all keypoints
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, GOLD, MUTED)


@dataclass(frozen=True)
class Coverage:
    """How many keypoints of a group lie in their regions.

    Attributes:
        group: in words, such as "large people"; "all" for all keypoints.
        asked: share that was asked for.
        got: share of the annotated keypoints that lie in their region, on images that fitted nothing.
        keypoints: of how many.
        interval: of `got`, 95 %, over images; None where it is not known.
    """

    group: str
    asked: float
    got: float
    keypoints: int = 0
    interval: tuple[float, float] | None = None


@chart
def coverage_chart(rows: Sequence[Coverage]) -> Chart:
    """Asked against got, a line for each group; on the dashed line the regions hold what they promise.

    Args:
        rows: of any number of groups, each at any number of coverages asked for.
    """
    groups = list(dict.fromkeys(row.group for row in rows))
    most = max((row.keypoints for row in rows), default=0)
    counted = number(most, "keypoint") if most else ""
    figure, axes = new_axes("Regions: asked and got", counted, "coverage asked for", "share of keypoints inside")
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
    return Chart(
        "regions", "Regions: asked and got", counted, how, figure, ("group", "asked", "got", "keypoints"), data
    )
