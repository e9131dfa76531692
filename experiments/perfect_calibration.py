"""What ECE chance alone gives: scores of a model beside perfectly calibrated ones with the same scatter.

    python experiments/perfect_calibration.py MODEL --data DATA [--precision 0.7@0.5 ...]

Each pose of score 0.05 or more gets a drawn OKS: its score plus the residual of a pose of similar score, from an
isotonic fit of the OKS. The ECE of such draws is what a perfectly calibrated score would show. Also prints how often
score thresholds for target precisions, chosen on the model's calibration data, are right here.
"""

from __future__ import annotations

import argparse

import numpy as np

from calipose.calibration.fit import fit_calibration_map
from calipose.calibration.precision import PrecisionTarget
from calipose.data.locate import find_data
from calipose.errors import InputError
from calipose.evaluation.run import evaluate_predictor
from calipose.inference.predictor import Predictor

TARGETS = ("0.7@0.5", "0.8@0.5", "0.5@0.75", "0.6@0.75", "0.7@0.75", "0.8@0.75")
BINS, PARTS, DRAWS = 15, 12, 300


def calibration_error(score: np.ndarray, oks: np.ndarray) -> float:
    """ECE over bins of equally many poses."""
    parts = np.array_split(np.argsort(score, kind="stable"), BINS)
    return sum(len(part) * abs(score[part].mean() - oks[part].mean()) for part in parts) / len(score)


def main() -> None:
    """Evaluate, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--precision", nargs="+", default=list(TARGETS))
    options = parser.parse_args()
    predictor, rng = Predictor(options.model), np.random.default_rng(0)
    matches = evaluate_predictor(predictor, *find_data(options.data)).matches
    shown = matches.score >= 0.05
    score, oks = matches.score[shown], matches.oks[shown]
    residual = oks - fit_calibration_map(score, oks, kind="isotonic")(score)
    draws = []
    for _ in range(DRAWS):
        drawn = np.empty(len(score))
        for part in np.array_split(np.argsort(score), PARTS):
            centred = residual[part] - residual[part].mean()
            drawn[part] = (score[part] + rng.choice(centred, len(part))).clip(0, 1)
        draws.append(calibration_error(score, drawn))
    low, middle, high = np.percentile(draws, [5, 50, 95])
    print(f"ECE {calibration_error(score, oks):.3f}; perfectly calibrated {middle:.3f} ({low:.3f} to {high:.3f})")
    for text in options.precision:
        target = PrecisionTarget.parse(text)
        try:
            raw = predictor.calibration.precision.choose(target).raw
        except InputError:
            print(f"{text}: refused")
            continue
        kept = matches.score >= float(predictor.calibration.score(raw))
        print(f"{text}: {np.mean(matches.oks[kept] >= target.oks):.3f} of {kept.sum()} poses")


if __name__ == "__main__":
    main()
