"""How often the test of "calibrated" rejects: its level where scores are perfect, its power where they are not.

    python experiments/calibration_test.py [--sets 500] [--images 40 100 400]

Poses are simulated (simulated_poses.py) whose expected OKS is known. Statistics compared, each with the same bootstrap
over images: the ECE (bins of equal mass), the largest running sum (Kolmogorov-Smirnov) and its range (Kuiper), which
`calibration_p` takes. Beside them, whether the ECE lies above the bound of `ece_by_chance`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from calipose.evaluation.chance import FLIPS, LEVEL, calibration_p, ece_by_chance, kuiper
from calipose.evaluation.metrics import BINS, bin_sizes, ece
from simulated_poses import simulate

TRUTHS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "perfect": lambda s: s,
    "too high by 0.05": lambda s: (s - 0.05).clip(0),
    "too high by 0.1": lambda s: (s - 0.1).clip(0),
    "over-confident (0.5 + 0.7 (s - 0.5))": lambda s: 0.5 + 0.7 * (s - 0.5),
    "low ones too high (s^1.3)": lambda s: s**1.3,
}
ALIKE = (0.0, 0.3, 0.6)  # correlation within images


def p_values(score: np.ndarray, oks: np.ndarray, image: np.ndarray, seed: int) -> list[float]:
    """Of the ECE and of the Kolmogorov-Smirnov statistic, by the bootstrap of `calibration_p`."""
    order = np.argsort(score, kind="stable")
    deviation, place = (oks - score)[order], np.unique(image[order], return_inverse=True)[1]
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (FLIPS, place.max() + 1))
    rows = np.concatenate([deviation[None], deviation * signs[:, place]])
    starts = np.append(0, np.cumsum(bin_sizes(len(score), BINS))[:-1])
    both = np.abs(np.add.reduceat(rows, starts, axis=1)).sum(1), np.abs(rows.cumsum(1)).max(1)
    return [float((1 + (values[1:] >= values[0] - 1e-12).sum()) / (1 + FLIPS)) for values in both]


def main() -> None:
    """Simulate, test, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=500)
    parser.add_argument("--images", type=int, nargs="+", default=[40, 100, 400])
    options = parser.parse_args()
    assert kuiper(np.array([[0.5, -1.0, 0.25]]), np.arange(3))[0] == 1.0
    print(f"share of {options.sets} sets rejected at {LEVEL}")
    print("| images | alike | scores | ECE | Kolmogorov-Smirnov | Kuiper | above the bound |")
    print("|---|---|---|---|---|---|---|")
    for images in options.images:
        for alike in ALIKE:
            for name, truth in TRUTHS.items():
                if alike != ALIKE[1] and name != "perfect" and images != options.images[0]:
                    continue
                rejected = []
                for seed in range(options.sets):
                    poses = simulate(np.random.default_rng(seed), images, truth, alike)
                    given = poses.score, poses.oks, poses.image
                    above = ece(*given[:2]) > ece_by_chance(*given, draws=100).bound
                    p = [*p_values(*given, seed), calibration_p(*given)]
                    rejected.append([*(value <= LEVEL for value in p), above])
                cells = " | ".join(f"{share:.3f}" for share in np.mean(rejected, 0))
                print(f"| {images} | {alike:g} | {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
