"""The charts of keypoint errors, and of a training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from calipose.errors import InputError
from calipose.evaluation.evaluation import Evaluation
from calipose.evaluation.keypoint_errors import KINDS, kind_counts
from calipose.report.chart import BLUE, GOLD, GREEN, INK, MUTED, ORANGE, PALE, PURPLE, Chart, chart, new_axes
from calipose.report.figures import number

KIND_COLOURS = (PALE, BLUE, PURPLE, GOLD, ORANGE)  # of KINDS
TRAINING_LINES = {"score": BLUE, "offset": ORANGE, "keypoint": GREEN, "quality": PURPLE}
VALIDATION_LINES = {
    "val_ap": ("AP", BLUE),
    "val_ap50": ("AP50", GREEN),
    "val_ar": ("AR", PURPLE),
    "val_spearman": ("Spearman", ORANGE),
}


def error_charts(evaluation: Evaluation) -> list[Chart]:
    """Error kinds by keypoint, and what each kind costs; none where no pose is matched."""
    if not (evaluation.error_kinds >= 0).any():
        return []
    return [kinds_by_keypoint(evaluation), repair_bars(evaluation)]


@chart
def kinds_by_keypoint(evaluation: Evaluation) -> Chart:
    """Shares of the error kinds for each keypoint."""
    table = kind_counts(evaluation.error_kinds)
    names = [name.replace("_", " ") for name in evaluation.skeleton.keypoints]
    k = len(names)
    counted = f"{number(table.sum(), 'labelled keypoint')} of {number((evaluation.matches.person >= 0).sum(), 'pose')}"
    figure, axes = new_axes("Kinds of errors", counted, "share of the keypoints", "", (4.4, 1.5 + 0.21 * k))
    share = table / np.maximum(table.sum(1, keepdims=True), 1)
    left = np.zeros(k)
    for kind, colour in enumerate(KIND_COLOURS):
        axes.barh(np.arange(k), share[:, kind], left=left, color=colour, height=0.72, label=KINDS[kind])
        left += share[:, kind]
    axes.set_yticks(np.arange(k), names, color=INK)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=5, handlelength=0.9,
                  handletextpad=0.4, columnspacing=1.1)  # fmt: skip
    how = (
        "Of the matched poses. Jitter: near the annotation. Inversion: on the other side of the same person. Swap: on a"
        " keypoint of another person. Miss: near none of these."
    )
    rows = [(name, *row) for name, row in zip(evaluation.skeleton.keypoints, table.tolist(), strict=True)]
    return Chart("error_kinds", "Kinds of errors by keypoint", counted, how, figure, ("keypoint", *KINDS), rows)


@chart
def repair_bars(evaluation: Evaluation) -> Chart:
    """AP as it is, and with one kind of error repaired."""
    repairs = evaluation.repairs
    counted = f"{number(len(evaluation.matches), 'pose')} in {number(len(evaluation.truth.image_ids), 'image')}"
    figure, axes = new_axes("What each kind of error costs", counted, "AP", "", (4.4, 3.3))
    names = [
        repairs[0].name,
        *(f"no {repair.name} errors" for repair in repairs[1:5]),
        "perfect scores",
        "no background",
    ]
    ap = np.array([repair.ap for repair in repairs])
    at = np.arange(len(repairs))
    axes.barh(at, ap, color=[MUTED, *[BLUE] * (len(repairs) - 1)], height=0.64)
    axes.barh(at[1:], np.minimum(ap[0], ap[1:]), color=PALE, height=0.64)
    for y, value in enumerate(ap.tolist()):
        gain = "" if y == 0 else f"  {value - ap[0]:+.3f}"
        axes.annotate(f"{value:.3f}{gain}", (value, y), (5, 0), textcoords="offset points", va="center", fontsize=8.5)
    axes.set_yticks(at, names, color=INK)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.3 * float(np.nanmax(ap, initial=0.1)))
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    how = (
        "AP if one kind of error were gone and all else stayed. Repaired keypoints lie exactly where they are"
        " annotated; with perfect scores the score of each pose is its OKS; without background there are no false"
        " positives. The longest blue piece promises the largest gain. Such figures are upper bounds."
    )
    rows = [(repair.name, repair.ap, repair.mean_oks) for repair in repairs]
    return Chart("error_costs", "What each kind of error costs", counted, how, figure, ("repaired", "ap", "mean_oks"),
                 rows)  # fmt: skip


def read_history(path: Path) -> list[dict[str, Any]]:
    """The lines of a run's history.jsonl.

    Raises:
        InputError: it cannot be read, or a line is no JSON object.
    """
    entries: list[dict[str, Any]] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}") from None
    for number_, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict):
            raise InputError(f"{path}: line {number_} is no JSON object; remove it")
        entries.append(entry)
    return entries


def training_charts(history: list[dict[str, Any]]) -> list[Chart]:
    """Losses, and figures on the validation data; those of which the history tells nothing are left out."""
    steps = [entry for entry in history if "total" in entry]
    checks = [entry for entry in history if any(name in entry for name in VALIDATION_LINES)]
    return [draw(entries) for draw, entries in ((losses, steps), (validation, checks)) if entries]


@chart
def losses(entries: list[dict[str, Any]]) -> Chart:
    """The parts of the loss over the training."""
    names = [name for name in TRAINING_LINES if any(entry.get(name) for entry in entries)]
    epochs = [float(entry["epoch"]) for entry in entries]
    counted = f"{number(max(entry.get('step', 0) for entry in entries), 'step')} in {max(epochs):g} epochs"
    counted = counted.replace(" 1 epochs", " 1 epoch")
    figure, axes = new_axes("Loss", counted, "epoch", "loss (logarithmic)")
    for name in ("total", *names):
        values = [entry.get(name, np.nan) for entry in entries]
        style = {"color": TRAINING_LINES.get(name, INK), "marker": "o" if len(epochs) == 1 else "", "linewidth": 1.5}
        axes.plot(epochs, values, label=name, **style)
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}")
    figure.legend(loc="outside lower center", ncols=5, handlelength=1.2, handletextpad=0.5, columnspacing=1.1)
    how = "What the training minimised, and its parts. Lower is better; only the course matters, not the height."
    rows = [(entry.get("step", ""), entry["epoch"], entry["total"], *(entry.get(name, "") for name in names))
            for entry in entries]  # fmt: skip
    return Chart("training_loss", "Loss", counted, how, figure, ("step", "epoch", "total", *names), rows)


@chart
def validation(entries: list[dict[str, Any]]) -> Chart:
    """AP and its companions on the validation data, over the training."""
    names = [name for name in VALIDATION_LINES if any(entry.get(name) is not None for entry in entries)]
    epochs = [float(entry["epoch"]) for entry in entries]
    counted = number(len(entries), "check")
    figure, axes = new_axes("Validation", counted, "epoch", "")
    for name in names:
        label, colour = VALIDATION_LINES[name]
        values = [np.nan if entry.get(name) is None else float(entry[name]) for entry in entries]
        axes.plot(epochs, values, label=label, color=colour, marker="o", markersize=4, linewidth=1.5)
    axes.set_ylim(0, 1)
    axes.set_xlim(0, 1.03 * max(epochs))
    axes.legend(loc="upper left", ncols=2, columnspacing=1)
    how = "Figures on images that the training did not learn from, as the training measured them. Higher is better."
    rows = [(entry["epoch"], *(entry.get(name, "") for name in names)) for entry in entries]
    return Chart("training_validation", "Validation", counted, how, figure, ("epoch", *names), rows)
