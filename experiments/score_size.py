"""Does a score that also knows the person's size, and the keypoint scores' mean, foretell the OKS better?

    python experiments/score_size.py --ground-truth ANNOTATIONS --results NAME=RAW_RESULTS ...

Each tenth of the images is scored by maps that were fitted on the others: the plain map (what ships), and logistic
regressions on the logit of the raw score with the logarithm of the pose's size (the root of its box), with the logit of
the keypoint scores' mean, and with both. Printed are the mean squared error with the OKS, its difference to the plain
map's with a 95 % interval (paired bootstrap over images), AP of the results re-ranked by each score, and mean score and
mean OKS of poses of small people (area below 32 x 32 pixels, as the pose's box says it).
"""

from __future__ import annotations

import argparse

import numpy as np

from calipose.calibration.fit import LOGIT_CLIP, assign_folds, fit_calibration_map, sigmoid
from calipose.evaluation.evaluation import Evaluation
from calipose.evaluation.fitting import FOLDS
from calipose.evaluation.scores import MEDIUM_AREA

RESAMPLES = 2000
RIDGE = 1.0


def logit(share: np.ndarray) -> np.ndarray:
    """Of values in [0, 1]."""
    share = share.clip(LOGIT_CLIP, 1 - LOGIT_CLIP)
    return np.log(share / (1 - share))


def logistic(columns: np.ndarray, target: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Predictions for `new` of a logistic regression, in which an OKS counts as that share of a success."""
    mean, spread = columns.mean(0), columns.std(0)
    x, x_new = (np.c_[(c - mean) / spread, np.ones(len(c))] for c in (columns, new))
    weights = np.zeros(x.shape[1])
    ridge = np.append(np.full(columns.shape[1], RIDGE), 0)
    for _ in range(30):
        p = sigmoid(x @ weights)
        curve = (x * (p * (1 - p))[:, None]).T @ x + np.diag(ridge + 1e-9)
        weights += np.linalg.solve(curve, x.T @ (target - p) - ridge * weights).clip(-2, 2)
    return sigmoid(x_new @ weights)


def main() -> None:
    """Fit, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ground-truth", required=True)
    parser.add_argument("--results", action="append", required=True, metavar="NAME=FILE")
    options = parser.parse_args()
    for entry in options.results:
        name, _, file = entry.partition("=")
        evaluation = Evaluation(options.ground_truth, file)
        matches, oks = evaluation.matches, evaluation.matches.oks
        images, index = np.unique(matches.image, return_inverse=True)
        fold = assign_folds(len(images), FOLDS)[index]
        columns = np.stack(
            [logit(matches.score), np.log(matches.pose_size_img), logit(matches.keypoint_scores.mean(1))], 1
        )
        kinds = {"logistic": [0], "size": [0, 1], "keypoints": [0, 2], "size and keypoints": [0, 1, 2]}
        scores = {kind: np.zeros(len(oks)) for kind in ("plain", *kinds)}
        for i in range(FOLDS):
            here, others = fold == i, fold != i
            plain = fit_calibration_map(matches.score[others], oks[others], matches.image[others])
            scores["plain"][here] = plain(matches.score[here])
            for kind, chosen in kinds.items():
                scores[kind][here] = logistic(columns[others][:, chosen], oks[others], columns[here][:, chosen])
        print(f"\n{name}: {len(oks)} poses of {len(images)} images")
        # A uniform draw of images, the same for all scores.
        drawn = np.random.default_rng(0).integers(0, len(images), (RESAMPLES, len(images)))
        count = np.bincount(index)
        small = matches.pose_size_img**2 < MEDIUM_AREA
        print(f"  {small.sum()} poses of small people, mean OKS {oks[small].mean():.3f}")
        for kind, score in scores.items():
            error = np.bincount(index, (score - oks) ** 2 - (scores["plain"] - oks) ** 2)
            low, high = np.percentile(error[drawn].sum(1) / count[drawn].sum(1), [2.5, 97.5])
            entries = [dict(e) for e in evaluation.entries]
            for row, value in zip(matches.entry, score, strict=True):
                entries[row]["score"] = float(value)
            ap = Evaluation(evaluation.truth, entries).ap
            print(
                f"  {kind:20} squared error {((score - oks) ** 2).mean():.4f}  against plain"
                f" {error.sum() / len(oks):+.4f} ({low:+.4f} to {high:+.4f})  AP {ap.ap:.4f}  small people's score"
                f" {score[small].mean():.3f}"
            )


if __name__ == "__main__":
    main()
