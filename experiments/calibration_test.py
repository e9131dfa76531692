"""How often the test of "calibrated" rejects: its level where scores are perfect, its power where they are not.

    python experiments/calibration_test.py [--sets 300] [--images 40 150]

Poses are simulated (simulated_poses.py) whose expected OKS is known. Three statistics: the ECE (bins of equal mass),
the largest running sum of OKS - score over rising scores (KS, which `calibration_p` takes), and its range (Kuiper). Two
null distributions: the signs of all deviations of an image flipped together (wild cluster bootstrap), and OKS drawn as
of perfect scores (`draw_oks`, in which the poses of an image are as alike as they are).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from calipose.evaluation.chance import LEVEL, draw_oks
from calipose.evaluation.metrics import BINS, bin_sizes
from simulated_poses import simulate

TRUTHS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "perfect": lambda s: s,
    "too high by 0.05": lambda s: (s - 0.05).clip(0),
    "too high by 0.1": lambda s: (s - 0.1).clip(0),
    "over-confident (0.5 + 0.7 (s - 0.5))": lambda s: 0.5 + 0.7 * (s - 0.5),
    "low ones too high (s^1.3)": lambda s: s**1.3,
}
RESAMPLES = 199
GOOD = 0.82  # OKS of matched poses
CASES = [(alike, good, "perfect") for good in (GOOD, 1e-9) for alike in (0.0, 0.3, 0.6)]  # correlation within images
CASES += [(0.3, GOOD, name) for name in TRUTHS if name != "perfect"]


def p_values(score: np.ndarray, oks: np.ndarray, image: np.ndarray, seed: int) -> list[float]:
    """Of ECE, Kolmogorov-Smirnov and Kuiper, first by flipped signs of images, then by draws of perfect scores."""
    order = np.argsort(score, kind="stable")
    deviation, place = (oks - score)[order], np.unique(image[order], return_inverse=True)[1]
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (RESAMPLES, place.max() + 1))
    drawn = draw_oks(score, oks, image, RESAMPLES, seed)[:, order] - score[order]
    starts = np.append(0, np.cumsum(bin_sizes(len(score), BINS))[:-1])
    values = []
    for null in (deviation * signs[:, place], drawn):
        rows = np.concatenate([deviation[None], null])
        sums = rows.cumsum(1)
        for each in (
            np.abs(np.add.reduceat(rows, starts, axis=1)).sum(1),
            np.abs(sums).max(1),
            sums.max(1).clip(min=0) - sums.min(1).clip(max=0),
        ):
            values.append(float((1 + (each[1:] >= each[0] - 1e-12).sum()) / (1 + RESAMPLES)))
    return values


def main() -> None:
    """Simulate, test, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=300)
    parser.add_argument("--images", type=int, nargs="+", default=[40, 150])
    options = parser.parse_args()
    print(f"share of {options.sets} sets rejected at {LEVEL}")
    print("| images | alike | scores | flips: ECE | KS | Kuiper | draws: ECE | KS | Kuiper |")
    print("|---|---|---|---|---|---|---|---|---|")
    for images in options.images:
        for alike, good, name in CASES:
            rejected = []
            for seed in range(options.sets):
                poses = simulate(np.random.default_rng(seed), images, TRUTHS[name], alike, good=good)
                rejected.append([p <= LEVEL for p in p_values(poses.score, poses.oks, poses.image, seed)])
            shares = " | ".join(f"{share:.3f}" for share in np.mean(rejected, 0))
            print(
                f"| {images} | {alike:g} | {name}{'' if good == GOOD else ', no false positives'} | {shares} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
