"""What all charts share: colours that light and dark pages set, axes, and the forms they are written in.

A chart is drawn once, in the light colours. In its SVG each of them becomes a variable of the page's style sheet, so
that the same drawing lives on a dark page; its PNG keeps them, on white.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from html import escape
from pathlib import Path
from typing import Any

from calipose.errors import InputError, install_hint
from calipose.io.atomic import replacing

# Name -> (light, dark). Those for data are from Okabe and Ito's palette, which colour-blind people tell apart.
COLOURS = {
    "ink": ("#20242a", "#e8eaed"),
    "muted": ("#626a75", "#9aa3ae"),
    "grid": ("#e3e6ea", "#343a42"),
    "paper": ("#ffffff", "#16191d"),
    "pale": ("#c6d0da", "#46515e"),
    "blue": ("#0072b2", "#5ab4f0"),
    "orange": ("#d55e00", "#ff8c50"),
    "green": ("#00916a", "#3ccf9e"),
    "purple": ("#b45f96", "#e29bc8"),
    "gold": ("#d99500", "#f2bd45"),
}
INK, MUTED, GRID, PAPER, PALE, BLUE, ORANGE, GREEN, PURPLE, GOLD = (light for light, _ in COLOURS.values())

SIZE = (4.4, 3.5)  # inches of 72 units: about a phone's width in CSS pixels, so that letters keep their size there
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9.5,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.fonttype": "none",
    "savefig.dpi": 200,
}


@dataclass(frozen=True)
class Chart:
    """A figure of the report.

    Attributes:
        name: of its files.
        title: what it shows.
        counts: of how many images and poses.
        how: a sentence or two for who has never seen one.
        figure: matplotlib's.
        columns: of the data drawn, and `rows`.
    """

    name: str
    title: str
    counts: str
    how: str
    figure: Any
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]

    def svg(self) -> str:
        """An `<svg>` element for an HTML page that defines the colours as variables; fits any width."""
        import matplotlib as mpl

        written = io.StringIO()
        with mpl.rc_context(STYLE | {"svg.hashsalt": self.name}):  # the same ids each time
            self.figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
        svg = written.getvalue()[written.getvalue().index("<svg") :]
        svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
        box = re.search(r'viewBox="[^"]*"', svg)
        head = f'<svg {box[0] if box else ""} role="img" aria-label="{escape(f"{self.title}; {self.counts}")}">'
        svg = head + svg[svg.index(">") + 1 :]
        used = set(re.findall(r"#([\w-]+)[\")]", svg))  # ids are the page's, all others would be there twice
        svg = re.sub(r' id="([^"]+)"', lambda m: f' id="{self.name}-{m[1]}"' if m[1] in used else "", svg)
        svg = re.sub(r'(href="#|url\(#)([\w-]+)', rf"\g<1>{self.name}-\g<2>", svg).replace("xlink:href", "href")
        svg = re.sub(r"font: (?:(\w+) )?([\d.]+px) [^;\"]*", _font, svg)
        svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag[0]), svg)  # shorter, letters apart
        for name, (light, _) in COLOURS.items():
            svg = svg.replace(light, f"var(--{name})")
        return svg.replace("#000000", "var(--ink)")

    def save(self, folder: Path) -> None:
        """Write NAME.png and NAME.csv, each whole or not at all."""
        import matplotlib as mpl

        with replacing(folder / f"{self.name}.png") as temporary, mpl.rc_context(STYLE):
            self.figure.savefig(temporary, format="png", facecolor=PAPER)
        with (
            replacing(folder / f"{self.name}.csv") as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(self.columns)
            writer.writerows(self.rows)


def _font(found: re.Match[str]) -> str:
    return f"font-size: {found[2]}" + (f"; font-weight: {found[1]}" if found[1] else "")


def chart(draw: Callable[..., Chart]) -> Callable[..., Chart]:
    """A function that draws a chart, in the report's style."""

    @wraps(draw)
    def styled(*arguments: Any, **named: Any) -> Chart:
        import matplotlib as mpl

        with mpl.rc_context(STYLE):
            return draw(*arguments, **named)

    return styled


def new_axes(title: str, counts: str, x: str, y: str, size: tuple[float, float] = SIZE) -> tuple[Any, Any]:
    """A figure with one set of axes: title, and below it in grey what it was drawn from."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    line = 1 / (72 * size[1])  # one of the page's units, as a share of the height
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - 35 * line)))
    axes = figure.add_subplot()
    figure.text(0.004, 1 - 2 * line, title, va="top", fontsize=11, fontweight="bold")
    figure.text(0.004, 1 - 18 * line, counts, va="top", color=MUTED, fontsize=9)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def require_matplotlib() -> None:
    """Say early what is missing.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise InputError(f"the report needs matplotlib: {install_hint('report')}") from None
