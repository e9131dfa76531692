"""Tables about scores, from COCO results files: whom they rank right, and what they are worth as an expected OKS.

experiments/score_labels.py uses it; each results file stands for one training (a row and a seed) or for a peer. "After"
means cross-fitted: each pose's score comes from a map that was fitted on the other folds' images.

Intervals are the middle 95 % of a bootstrap over images. For an ECE near 0 they lie above the figure itself: bins of
a resample scatter more than those of the images, and the ECE counts every deviation as an error.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from calipose.evaluation.ap import evaluate_results, paired_difference
from calipose.evaluation.fitting import cross_fit
from calipose.evaluation.matching import Matches, match_poses
from calipose.evaluation.metrics import ece, keypoint_auc, pearson, rank_correlation, reliability
from calipose.evaluation.scores import populations, score_figures
from calipose.io.atomic import replacing

RIGHT = 0.5  # similarity from which a joint counts as right
FIRST = "CIR"  # the row that the others are compared with
Figure = tuple[float, float, float]  # the figure, and the ends of its 95 % interval
NO_INTERVAL = (np.nan, np.nan)


@dataclass(frozen=True)
class Scored:
    """One results file: `raw` as it is, `fitted` the same poses in the same order with cross-fitted scores.

    A peer has no `seed`, and nothing in its `record`.
    """

    name: str
    seed: int | None
    results: Path
    raw: Matches
    fitted: Matches
    record: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_results(
        cls, annotations: Path, results: Path, name: str, seed: int | None = None, record: dict[str, Any] | None = None
    ) -> Scored:
        """Match and cross-fit."""
        matches = match_poses(annotations, results)
        return cls(name, seed, results, matches, cross_fit(matches), record or {})

    def population(self, name: str) -> tuple[Matches, Matches]:
        """The poses of a population (chosen by the raw score), as they are and cross-fitted."""
        mask = populations(self.raw)[name]
        return self.raw[mask], self.fitted[mask]

    @property
    def label(self) -> list[str]:
        """First cells of its line in a table."""
        return [self.name, "-" if self.seed is None else str(self.seed)]


def print_studies(
    scored: list[Scored], studies: dict[str, list[str]], annotations: Path, out: Path, bootstrap: int
) -> None:
    """All tables in Markdown, and the plot of the first study; `studies` names the rows of each."""
    figures = [figures_of(one, annotations, bootstrap) for one in scored]
    for study, names in studies.items():
        print(f"\n### {study}: mean over the seeds (lowest to highest)\n")
        columns = ["AP", "rank corr.", "Pearson", "ECE", "ECE after", "Brier", "Brier after", "joints' AUC"]
        rows = []
        for name in names:
            chosen = [i for i, one in enumerate(scored) if one.name == name]
            images = " + ".join(map(str, scored[chosen[0]].record.get("images", ["-"])))
            of_row = [figures[i] for i in chosen]
            rows.append([name, images, str(len(chosen)), *(over_seeds(of_row, column) for column in columns)])
        table(["row", "images", "runs", *columns], rows)
    for population, title in (
        ("score", "all poses with a raw score of at least 0.05"),
        ("best", "the best 20 of each image"),
    ):
        print(f"\n### Each results file, with its 95 % interval over images: {title}\n")
        end = ENDS[population]
        bare, full = ["poses", "mean score", "mean OKS"], ["rank corr.", "Pearson", "ECE", "ECE after"]
        rows = [
            [*one.label, text(f["AP"]), *(text(f[c + end]) for c in bare), *(text(f[c + end]) for c in full)]
            for one, f in zip(scored, figures, strict=True)
        ]
        table(["row", "seed", "AP", *bare, *full], rows)
    print(f"\n### Labelled joints of matched poses (right: similarity >= {RIGHT})\n")
    columns = ["joints", "joints right", "joints' ECE", "joints' ECE after", "joints' AUC"]
    columns += ["rank corr.", "rank corr. of the joints' mean"]
    rows = [
        [*one.label, *(text(f[c]) for c in columns)] for one, f in zip(scored, figures, strict=True) if "joints" in f
    ]
    table(["row", "seed", *columns], rows)
    print(f"\n### {FIRST} minus another row, same seed, paired over images (95 %)\n")
    table(["minus", "seed", "AP", "rank corr.", "Pearson"], differences(scored, annotations, bootstrap))
    trained = [one.record for one in scored if one.record]
    if trained:
        first, minutes = trained[0], np.mean([record["minutes"] for record in trained])
        print(
            f"\n{first['steps']} steps, {minutes:.1f} min on {first['threads']} thread(s); short side "
            f"{first['short_side']} px, no flip."
        )
    plot([one for one in scored if one.name in next(iter(studies.values()))], out)


def differences(scored: list[Scored], annotations: Path, bootstrap: int) -> list[list[str]]:
    """Rows of a table: FIRST minus each other training of the same seed."""
    rows = []
    for one in (one for one in scored if one.name == FIRST):
        for other in (o for o in scored if o is not one and o.seed == one.seed):
            ap = paired_difference(annotations, one.results, other.results, bootstrap=bootstrap)
            both = one.population("score")[0], other.population("score")[0]
            rank = with_interval(lambda a, b: _spearman(a) - _spearman(b), both, bootstrap)
            linear = with_interval(lambda a, b: _pearson(a) - _pearson(b), both, bootstrap)
            rows.append([*other.label, *(text(f, sign="+") for f in ((ap.difference, *ap.interval), rank, linear))])
    return rows


ENDS = {"score": "", "best": " (best 20)"}  # of the names of a population's figures


def figures_of(one: Scored, annotations: Path, bootstrap: int) -> dict[str, Figure]:
    """Every figure of a results file by name."""
    ap = evaluate_results(annotations, one.results, bootstrap=bootstrap)
    figures: dict[str, Figure] = {"AP": (ap.ap, *(ap.interval or NO_INTERVAL))}
    for population, end in ENDS.items():
        raw, fitted = (score_figures(matches, bootstrap) for matches in one.population(population))
        for name, measured, entry in (
            ("rank corr.", raw, "spearman"), ("Pearson", raw, "pearson"), ("ECE", raw, "ece"),
            ("ECE after", fitted, "ece"), ("Brier", raw, "brier"), ("Brier after", fitted, "brier"),
        ):  # fmt: skip
            figures[name + end] = (measured[entry], *measured.intervals.get(entry, NO_INTERVAL))
        for name, value in (("poses", raw.poses), ("mean score", raw.mean_score), ("mean OKS", raw.mean_oks)):
            figures[name + end] = (value, *NO_INTERVAL)
    raw, fitted = one.population("score")
    score, similarity = joints_of(raw)
    if len(score) and np.ptp(score) > 0:  # some models give no scores of joints
        figures["joints"] = (len(score), *NO_INTERVAL)
        figures["joints right"] = (float((similarity >= RIGHT).mean()), *NO_INTERVAL)
        for name, matches, statistic in (
            ("joints' ECE", raw, lambda m: ece(*joints_of(m))),
            ("joints' ECE after", fitted, lambda m: ece(*joints_of(m))),
            ("joints' AUC", raw, _auc),
            ("rank corr. of the joints' mean", raw, lambda m: rank_correlation(m.keypoint_scores.mean(1), m.oks)),
        ):
            figures[name] = with_interval(statistic, (matches,), bootstrap)
    return figures


def joints_of(matches: Matches) -> tuple[np.ndarray, np.ndarray]:
    """Score and similarity (n,) of the labelled keypoints of matched poses."""
    labelled = np.isfinite(matches.similarity)
    return matches.keypoint_scores[labelled], matches.similarity[labelled]


def _spearman(matches: Matches) -> float:
    return rank_correlation(matches.score, matches.oks)


def _pearson(matches: Matches) -> float:
    return pearson(matches.score, matches.oks)


def _auc(matches: Matches) -> float:
    score, similarity = joints_of(matches)
    return keypoint_auc(score, similarity >= RIGHT)


def with_interval(statistic: Callable[..., float], matches: Sequence[Matches], bootstrap: int) -> Figure:
    """A statistic of one or several sets of poses and its 95 % interval; a resample takes the same images for all."""
    images = np.unique(np.concatenate([m.image for m in matches]))
    places = []  # for each set and image, where its poses are
    for m in matches:
        order = np.argsort(m.image, kind="stable")
        ends = np.searchsorted(m.image[order], [images, images + 1])
        places.append([order[first:last] for first, last in ends.T])
    rng = np.random.default_rng(0)
    values = []
    for _ in range(bootstrap if len(images) else 0):
        chosen = rng.integers(0, len(images), len(images))
        values.append(
            statistic(*(m[np.concatenate([p[i] for i in chosen])] for m, p in zip(matches, places, strict=True)))
        )
    low, high = np.nanpercentile(values, [2.5, 97.5]) if values else NO_INTERVAL
    return statistic(*matches), float(low), float(high)


def table(head: list[str], rows: list[list[str]]) -> None:
    """Print as Markdown."""
    if not rows:
        print("(nothing yet)")
        return
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


def over_seeds(figures: list[dict[str, Figure]], column: str) -> str:
    """Mean, lowest and highest of the runs of a row."""
    values = [f[column][0] for f in figures if column in f]
    if not values:
        return "-"
    return f"{np.mean(values):.3f}" + (f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else "")


def text(figure: Figure, sign: str = "") -> str:
    """A figure with its interval, where it has one; a number of things is a whole number."""
    value, low, high = figure
    if isinstance(value, int):
        return str(value)
    shown = f"{value:{sign}.3f}"
    return shown if np.isnan(low) else f"{shown} ({low:{sign}.3f} to {high:{sign}.3f})"


def plot(scored: list[Scored], out: Path) -> None:
    """`reliability.png`: mean OKS over mean score, before and after cross-fitting, of poses and joints; also as CSV."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    out.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(one.name for one in scored))
    figure, axes = plt.subplots(
        2, len(names), figsize=(2.6 * len(names) + 0.5, 5.6), sharex=True, sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    lines: list[dict[str, Any]] = []
    for one in scored:
        raw, fitted = one.population("score")
        for axis, what in zip(axes[:, names.index(one.name)], ("poses", "joints"), strict=True):
            for when, matches, colour in (("before", raw, "tab:orange"), ("after", fitted, "tab:blue")):
                score, value = (matches.score, matches.oks) if what == "poses" else joints_of(matches)
                if not len(score) or np.ptp(score) == 0:
                    continue
                bins = reliability(score, value)
                axis.plot(bins.mean_score, bins.mean_oks, ".-", color=colour, linewidth=1)
                entry = {"row": one.name, "seed": one.seed, "of": what, "calibration": when}
                for s, v, n in zip(bins.mean_score, bins.mean_oks, bins.poses, strict=True):
                    means = {"mean score": round(float(s), 5), "mean OKS": round(float(v), 5)}
                    lines.append({**entry, "members": int(n), **means})
    for axis in axes.flat:
        axis.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, zorder=0)
        axis.set(xlim=(0, 1), ylim=(0, 1))
    for j, name in enumerate(names):
        axes[0, j].set_title(name, fontsize=9)
        axes[1, j].set_xlabel("mean score")
    axes[0, 0].set_ylabel("mean OKS of poses")
    axes[1, 0].set_ylabel("mean similarity of joints")
    handles = [plt.Line2D([], [], color=colour, marker=".") for colour in ("tab:orange", "tab:blue")]
    axes[0, 0].legend(handles, ["before", "after"], title="calibration", frameon=False, fontsize=8)
    figure.savefig(out / "reliability.png", dpi=150)
    plt.close(figure)
    with replacing(out / "reliability.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    print(f"\n{out / 'reliability.png'}, {out / 'reliability.csv'}")
