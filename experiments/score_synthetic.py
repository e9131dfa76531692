"""What the background's weight in Eq. 3 does to the score: over-confidence, and by how much, on synthetic people.

A cell whose features are x belongs to a person's Omega with probability p, and then its target (Eq. 2) is the OKS of
the pose predicted there, o on average; otherwise its target is 0. Eq. 3 weighs the first kind by 1, the second by w. So
the score s that such cells should get minimises

    E = p E[(s - OKS)^2] + (1 - p) w s^2,    dE/ds = 2 p (s - o) + 2 (1 - p) w s = 0,    s = p o / (p + w (1 - p)).

The expected target, which a score in the sense of the contract should be, is p o. So w = 1 gives the contract's score,
and w = 0.1 one that is too high by the factor 1 / (p + 0.1 (1 - p)), up to 10 where hardly anybody is. The formula also
holds for a bin of cells of equal s, however p and o differ within it: s (p + w (1 - p)) = p o is linear in p and in
p o, so p may be the share of the bin's cells in Omega, and o the mean target of those.

Checked here where nothing else can make scores too high: every training image is drawn anew and seen once, nothing is
augmented, and the images that are measured on are others of the same kind. People are half covered, and beside
things that look like limbs, so that p is neither 0 nor 1. Three populations:

    cells   all cells: mean score against mean target, in bins of the score
    peaks   the cells that returned poses come from (chosen because they score higher than their neighbours)
    poses   the returned poses: mean score against mean OKS by COCO's matching; p is the share that are matched

    python experiments/score_synthetic.py --out runs/score-synthetic
    python experiments/score_synthetic.py --out runs/score-synthetic --table

Every finished training leaves its record, WEIGHT-SEED.json; started again, the script goes on where it stopped.
`--table` prints the table and writes over_confidence.png and over_confidence.csv.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from calipose.data.synthetic.scene import HARD, write_synthetic_data
from calipose.io.atomic import replacing

AMBIGUOUS = replace(
    HARD, people=(1, 3), size=(0.35, 0.9), as_in_photographs=False, things=(4, 12), limbs=(3, 8), covers=(2, 5),
    blur_px=1.5, noise=30,
)  # fmt: skip
TRAIN_SEED, FRESH_SEED = 11, 12
BINS = 20  # of equal width, of scores from 0 to 1
MIN_SCORE = 0.05  # of the figures over all bins; a bin's width
LEAST_COUNT = 30  # bins with fewer cells or poses are not shown
MOST_POSES = 30
LEVELS = {"cells": "cells", "peaks": "cells of returned poses", "poses": "returned poses, COCO's OKS"}
RESAMPLES = 1000


def ideal_score(p: np.ndarray, o: np.ndarray, weight: float) -> np.ndarray:
    """The score that minimises Eq. 3 (see above); nan where p and the weight are 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        score: np.ndarray = p * o / (p + weight * (1 - p))
    return score


@dataclass(frozen=True)
class Bins:
    """Sums over the members of each bin (..., BINS): their number, scores, targets, and how many belong to a person."""

    number: np.ndarray
    score: np.ndarray
    target: np.ndarray
    matched: np.ndarray

    @classmethod
    def from_members(
        cls, image: np.ndarray, images: int, score: np.ndarray, target: np.ndarray, own: np.ndarray
    ) -> Bins:
        """Sums (images, BINS) over members, all (n,); scores outside of 0 to 1 belong to the outermost bins."""
        bin_index = image * BINS + np.clip((score * BINS).astype(np.int64), 0, BINS - 1)
        sums = [np.bincount(bin_index, v, images * BINS) for v in (np.ones(len(score)), score, target * own, own)]
        return cls(*(values.reshape(images, BINS) for values in sums))

    def resampled(self, copies: np.ndarray) -> Bins:
        """Sums (r, BINS) over images that stand `copies` (r, images) times."""
        return Bins(*(copies @ values for values in (self.number, self.score, self.target, self.matched)))

    def __add__(self, other: Bins) -> Bins:
        return Bins(*(getattr(self, name) + getattr(other, name) for name in vars(self)))

    def means(self, weight: float) -> dict[str, np.ndarray]:
        """Of each bin (..., BINS): score, target, p, o, the ideal score; nan where it is empty."""
        with np.errstate(invalid="ignore"):
            score, target, p = (v / self.number for v in (self.score, self.target, self.matched))
            o = np.where(self.matched > 0, self.target / np.maximum(self.matched, 1), 0.0)
        return {"score": score, "target": target, "p": p, "o": o, "ideal": ideal_score(p, o, weight)}

    def summary(self, weight: float) -> dict[str, np.ndarray]:
        """Over all bins from MIN_SCORE (...): means, and how far score and ideal score are from the target."""
        shown = np.arange(BINS) >= round(MIN_SCORE * BINS)
        number = np.where(shown, self.number, 0)
        means = self.means(weight)
        total = np.maximum(number.sum(-1), 1)

        def mean(values: np.ndarray) -> np.ndarray:
            return np.where(number > 0, values * number, 0).sum(-1) / total

        score, target, ideal = means["score"], means["target"], means["ideal"]
        return {
            "score": mean(score),
            "target": mean(target),
            "excess": mean(score - target),
            "foretold excess": mean(ideal - target),
            "|score - target|": mean(np.abs(score - target)),
            "|score - foretold|": mean(np.abs(score - ideal)),
        }


def record_of(options: argparse.Namespace, weight: float, seed: int) -> Path:
    """Where the record of one training lies."""
    path: Path = options.out / f"{weight:g}-{seed}.json"
    return path


def main() -> None:
    """Train and count (without `--table`), then print the tables and draw the chart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--weights", type=float, nargs="+", default=[1.0, 0.1, 0.3])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--train-images", type=int, default=12000)
    parser.add_argument("--fresh-images", type=int, default=1000)
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels, a multiple of 32")
    parser.add_argument("--set", nargs="*", default=[], help="changes of the recipe 'synthetic'")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="only print and plot what is there")
    options = parser.parse_args()
    if not options.table:
        size = (options.size, options.size)
        for name, number, seed in (
            ("train", options.train_images, TRAIN_SEED),
            ("fresh", options.fresh_images, FRESH_SEED),
        ):
            if not (options.out / name).exists():  # it appears when it is complete
                write_synthetic_data(options.out / name, number, AMBIGUOUS, size, seed, options.threads)
                print(f"made {number} images: {options.out / name}", flush=True)
        for seed in options.seeds:
            for weight in options.weights:
                if not record_of(options, weight, seed).exists():
                    run_one(options, weight, seed)
    print_and_plot(options)


def run_one(options: argparse.Namespace, weight: float, seed: int) -> None:
    """One training and its record."""
    import cv2
    import msgspec
    import torch

    from calipose.config.recipe import load_recipe
    from calipose.config.settings import AugmentSettings
    from calipose.data.locate import read_data
    from calipose.training.loop import Stopped, Trainer

    cv2.setNumThreads(1)
    torch.set_num_threads(options.threads)
    changes = [  # a clipped gradient would weigh a batch by how hard it is, so nothing is clipped
        f"size={options.size}", "epochs=1", f"predict.short_side={options.size}", "data.in_memory=false",
        f"loss.background_weight={weight}", f"seed={seed}", "optim.clip_norm=0",
    ]  # fmt: skip
    recipe = load_recipe("synthetic", [*changes, *options.set])
    recipe = msgspec.structs.replace(recipe, augment=AugmentSettings.none())
    name = f"weight {weight:g}, seed {seed}"
    tenths = [0]

    def progress(step: int, total: int, losses: dict[str, float]) -> None:
        if step * 10 // total > tenths[0]:
            tenths[0] = step * 10 // total
            figures = "  ".join(f"{k} {losses[k]:.3f}" for k in ("score", "offset", "mean_oks"))
            print(f"{name}: {step}/{total}  {figures}", flush=True)

    out = record_of(options, weight, seed).with_suffix("")
    trainer = Trainer(
        recipe,
        read_data([options.out / "train"]),
        out,
        resume=(out / "state.safetensors").exists(),
        progress=progress,
    )
    try:
        result = trainer.run()
    except Stopped:
        raise SystemExit(f"{name}: stopped after step {trainer.step}; the script goes on there") from None
    # The last tenth of the training was on images that the network had never seen, as all of it.
    learnt = [line for line in result.history if line["step"] > 0.9 * trainer.total_steps]
    losses = {k: float(np.mean([line[k] for line in learnt])) for k in ("score", "mean_oks")}
    measured = measure(result.last, options.out / "fresh")
    record = {"weight": weight, "seed": seed, "minutes": result.minutes, "steps": trainer.total_steps}
    record |= {"last_tenth": losses, **measured}
    with replacing(record_of(options, weight, seed)) as temporary:
        temporary.write_text(json.dumps(record))
    print(f"{name}: {result.minutes:.1f} min", flush=True)


def measure(checkpoint_file: Path, folder: Path, batch_size: int = 16) -> dict[str, Any]:
    """Losses on images that were not trained on, and the sums of the three populations, image by image."""
    import torch

    from calipose.config.settings import AugmentSettings
    from calipose.data.locate import read_data
    from calipose.evaluation.matching import match_poses
    from calipose.model.checkpoint import load_checkpoint
    from calipose.training.loader import collate
    from calipose.training.losses import all_losses
    from calipose.training.samples import TrainingImages
    from calipose.training.targets import make_targets, oks_of_cells, score_label

    checkpoint = load_checkpoint(checkpoint_file)
    recipe, network = checkpoint.recipe, checkpoint.network().eval()
    sigmas = torch.tensor(checkpoint.skeleton.sigmas)
    data = read_data([folder])
    images = TrainingImages(data, recipe.size, AugmentSettings.none(), network.backbone.mean, 0)
    cells: list[tuple[np.ndarray, ...]] = []
    peaks: list[tuple[float, float, bool]] = []  # of each entry of the results: score, target, in Omega
    results: list[dict[str, Any]] = []
    losses = []
    for first in range(0, len(data), batch_size):
        chosen = range(first, min(first + batch_size, len(data)))
        batch = collate([images[0, i] for i in chosen])
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16"):
            targets = make_targets(batch.keypoints_inp, batch.labelled, batch.area_inp, batch.ignore_cell, recipe.loss)
            output = network(batch.images, targets.cells)
            loss = all_losses(output, targets, recipe.method, recipe.loss, sigmas)
            losses.append((float(loss.score), float(loss.mean_oks)))
            cell_oks = oks_of_cells(targets, output.displacements, sigmas)
            label = score_label(targets, cell_oks, "cir", recipe.loss.radius).numpy()
            omega, score = (targets.owner >= 0).numpy(), output.maps.score.float().numpy()
            for row, xy, joints, value in returned_poses(network, output.maps, checkpoint.skeleton, recipe.predict):
                x, y = xy
                peaks.append((value, float(label[row, y, x]), bool(omega[row, y, x])))
                # The images have the network's size, so its frame is theirs.
                triples = np.concatenate([joints, np.ones((len(joints), 1))], 1)
                image_id = int(data.image_ids[chosen[row]])
                entry = {"image_id": image_id, "category_id": 1, "keypoints": triples.ravel().tolist()}
                results.append({**entry, "score": value})
        row, y, x = np.nonzero(~targets.ignore.numpy())
        cells.append((row + first, score[row, y, x], label[row, y, x], omega[row, y, x]))

    matches = match_poses(folder / "annotations.json", results, checkpoint.skeleton)
    value, target, inside = np.array(peaks, np.float64).reshape(-1, 3)[matches.entry].T
    populations = {
        "cells": tuple(np.concatenate(column) for column in zip(*cells, strict=True)),
        "peaks": (matches.image, value, target, inside),
        "poses": (matches.image, matches.score, matches.oks, matches.person >= 0),
    }
    sums = {name: Bins.from_members(rows[0], len(data), *rows[1:]) for name, rows in populations.items()}
    score_loss, mean_oks = np.mean(losses, axis=0)
    return {
        "fresh": {"score": float(score_loss), "mean_oks": float(mean_oks)},
        "sums": {level: {k: v.round(4).tolist() for k, v in vars(bins).items()} for level, bins in sums.items()},
    }


def returned_poses(network: Any, maps: Any, skeleton: Any, settings: Any) -> Iterator[tuple[int, Any, Any, float]]:
    """As a predictor finds them, with the cells they come from: row of the batch, cell (2,), joints (k, 2), score."""
    from calipose.geometry import CELL_CENTRE_INP, STRIDE, pose_nms
    from calipose.model.decode import find_peaks

    cells, values = find_peaks(maps.score.float(), MOST_POSES)
    moves = network.head.displacements(maps, cells)
    joints = ((cells.unsqueeze(1) + moves).transpose(1, 2) * STRIDE + CELL_CENTRE_INP).double().numpy()
    for row, (places, scores) in enumerate(zip(cells.numpy(), values.double().numpy(), strict=True)):
        good = np.flatnonzero(scores > settings.score_threshold)
        for i in good[pose_nms(joints[row, good], scores[good], skeleton.sigmas_array, settings.nms_threshold)]:
            yield row, places[i], joints[row, i], float(scores[i])


def read_records(options: argparse.Namespace) -> dict[float, list[dict[str, Any]]]:
    """The records there are, by weight."""
    found: dict[float, list[dict[str, Any]]] = {}
    for weight in sorted(options.weights):
        files = [record_of(options, weight, seed) for seed in options.seeds]
        records = [json.loads(file.read_text()) for file in files if file.exists()]
        if records:
            found[weight] = records
    return found


def bins_of(record: dict[str, Any], level: str) -> Bins:
    """Sums of one population from a record."""
    return Bins(**{name: np.array(values) for name, values in record["sums"][level].items()})


def print_and_plot(options: argparse.Namespace) -> None:
    """Table, CSV and plot of the records there are; seeds are put together, image by image."""
    records = read_records(options)
    if not records:
        print("no records yet")
        return
    print("| w | seed | minutes | score loss, last tenth of training | on fresh images | mean OKS | fresh |")
    print("|---|---|---|---|---|---|---|")
    for weight, runs in records.items():
        for run in runs:
            before, after = run["last_tenth"], run["fresh"]
            print(
                f"| {weight:g} | {run['seed']} | {run['minutes']:.1f} | {before['score']:.3f} | {after['score']:.3f} "
                f"| {before['mean_oks']:.3f} | {after['mean_oks']:.3f} |"
            )

    pooled = {
        (level, weight): sum((bins_of(run, level) for run in runs[1:]), bins_of(runs[0], level))
        for level in LEVELS
        for weight, runs in records.items()
    }
    images = len(next(iter(pooled.values())).number)
    copies = np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), size=RESAMPLES)
    rows: list[dict[str, Any]] = []
    columns = ["score", "target", "excess", "foretold excess", "|score - target|", "|score - foretold|"]
    print(f"\nscores of at least {MIN_SCORE}; all seeds (lowest to highest seed; 95 % over images)\n")
    print("| population | w | members | " + " | ".join(columns) + " |" + "\n|" + "---|" * (len(columns) + 3))
    for (level, weight), bins in pooled.items():
        once = Bins(*(v.sum(0) for v in vars(bins).values()))
        drawn = bins.resampled(copies)
        summary, spread = once.summary(weight), drawn.summary(weight)
        seeds = [
            Bins(*(v.sum(0) for v in vars(bins_of(run, level)).values())).summary(weight) for run in records[weight]
        ]
        entries = []
        for column in columns:
            text, low, high = f"{summary[column]:.3f}", *np.percentile(spread[column], [2.5, 97.5])
            if column in {"excess", "foretold excess"}:
                of_seeds = [seed[column] for seed in seeds]
                text += f" ({min(of_seeds):.3f} to {max(of_seeds):.3f}; {low:.3f} to {high:.3f})"
            entries.append(text)
        members = once.number[round(MIN_SCORE * BINS) :].sum()
        print(f"| {level} | {weight:g} | {members:.0f} | " + " | ".join(entries) + " |")
        rows += _csv_rows(level, weight, once, drawn)
    with replacing(options.out / "over_confidence.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    plot(rows, list(records), options.out / "over_confidence.png")
    print(f"\n{options.out / 'over_confidence.png'}, {options.out / 'over_confidence.csv'}")


def _csv_rows(level: str, weight: float, once: Bins, drawn: Bins) -> list[dict[str, Any]]:
    """One row for each bin that is full enough."""
    means, spread = once.means(weight), drawn.means(weight)
    rows = []
    for b in np.flatnonzero(once.number >= LEAST_COUNT):
        row = {"population": level, "weight": weight, "bin": f"{b / BINS:g} to {(b + 1) / BINS:g}"}
        row |= {"members": int(once.number[b])} | {name: round(float(values[b]), 5) for name, values in means.items()}
        for name in ("excess", "foretold excess"):
            which = "score" if name == "excess" else "ideal"
            excess = spread[which][:, b] - spread["target"][:, b]
            low, high = np.nanpercentile(excess, [2.5, 97.5])
            row |= {
                name: round(float(means[which][b] - means["target"][b]), 5),
                f"{name} low": round(float(low), 5),
                f"{name} high": round(float(high), 5),
            }
        rows.append(row)
    return rows


def plot(rows: list[dict[str, Any]], weights: list[float], path: Path) -> None:
    """Measured and foretold excess of the score, by population (down) and background weight (across)."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        len(LEVELS), len(weights), figsize=(3.6 * len(weights) + 0.6, 2.9 * len(LEVELS)), sharex=True, sharey="row",
        squeeze=False, layout="constrained",
    )  # fmt: skip
    for (i, level), (j, weight) in ((a, b) for a in enumerate(LEVELS) for b in enumerate(weights)):
        axis = axes[i, j]
        shown = [row for row in rows if row["population"] == level and row["weight"] == weight]
        score, excess, low, high, ideal = (
            np.array([row[name] for row in shown])
            for name in ("score", "excess", "excess low", "excess high", "foretold excess")
        )
        axis.axhline(0, color="0.6", linewidth=0.8)
        axis.plot(score, ideal, "-", color="tab:orange", label="p o / (p + w (1 - p)) - p o")
        bars = np.clip([excess - low, high - excess], 0, None)
        axis.errorbar(score, excess, bars, fmt="o", markersize=4, color="tab:blue", label="measured, 95 %")
        axis.set(title=f"w = {weight:g}" if i == 0 else "", xlabel="score" if i == len(LEVELS) - 1 else "")
        if j == 0:
            axis.set_ylabel(f"{LEVELS[level]}\nscore - mean target")
    axes[0, 0].legend(frameon=False, fontsize=8)
    figure.suptitle("How far scores exceed the OKS, on new images of the kind learnt from")
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
