"""Which precision targets the packaged models grant, and whether they hold: fitted on one half, judged on the other.

    python experiments/packaged_targets.py DATA [DATA ...] [--splits 40]

DATA are the data sets that the shipped calibration was fitted on (tools/default_calibration.py). For each target: what
the shipped table grants, with the poses that it keeps of all images; then, of random halves of the images, how often a
table of one half grants the target, and the share of right poses above its threshold in the other half.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from calipose.calibration.maps import Calibration
from calipose.calibration.precision import PrecisionTable, PrecisionTarget
from calipose.errors import CaliposeError
from calipose.evaluation.run import evaluate_predictor
from calipose.inference.packaged import ACCURATE, FAST, ONEPASS
from calipose.inference.predictor import Predictor
from precision_targets import RULES, judged_by_the_other
from simulated_poses import SimulatedPoses

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
from default_calibration import put_together

TARGETS = [f"{share}@{oks}" for oks in ("0.5", "0.75") for share in ("0.5", "0.6", "0.7", "0.8", "0.9", "0.95")]


def threshold(table: PrecisionTable, target: PrecisionTarget) -> float | None:
    """The raw score from which the target is met, None where the data do not support it."""
    try:
        return table.choose(target).raw
    except CaliposeError:
        return None


smoothed = RULES["smoothed"]  # the rule that ships


def main() -> None:
    """Predict, choose, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", nargs="+")
    parser.add_argument("--splits", type=int, default=40)
    options = parser.parse_args()
    content, root = put_together(options.data)
    for name in (ACCURATE, FAST, ONEPASS):
        shipped = Predictor(name)
        evaluation = evaluate_predictor(shipped.with_calibration(Calibration()), content, root)
        matches, images = evaluation.matches, len(evaluation.truth.image_ids)
        raw, oks, image = matches.score, matches.oks, matches.image
        poses = SimulatedPoses(raw, raw, oks, image)
        print(f"{name}: {len(raw)} poses, {images} images")
        for text in TARGETS:
            target = PrecisionTarget.parse(text)
            least = threshold(shipped.calibration.precision, target)
            kept = raw >= (np.inf if least is None else least)
            said = "refused" if least is None else f"{kept.sum()} poses, {np.mean(oks[kept] >= target.oks):.0%} right"
            rng = np.random.default_rng(0)
            firsts = [np.isin(image, rng.permutation(images)[: images // 2]) for _ in range(options.splits)]
            got, _ = judged_by_the_other(poses, lambda half, target=target: smoothed(half, target), target.oks, firsts)
            below = sum(share < target.precision for share in got)
            judged = f", mean {np.mean(got):.0%} right, {below} below the target" if got else ""
            print(f"  {text}: {said}; halves: granted {len(got)} of {options.splits}{judged}", flush=True)


if __name__ == "__main__":
    main()
