"""How regions of keypoints are fitted: weights, the correction for the image to come, groups, factors by kind.

    python experiments/regions.py --ground-truth ANNOTATIONS --results RAW_RESULTS [--images 27] [--draws 60]

Draws calibrations of so many images with found people, fits the radii, and measures on all other images: the share of
keypoints within their circles, the mean over images of that share, and the largest deviation from the asked coverage
among thirds of the score, thirds of the size, and kinds of keypoints. All are means over the draws.

- weights: each keypoint the same, or each image the same (its keypoints share it);
- correction: none; the image to come counts as one of n + 1; or as one of n_eff + 1, Kish's effective number of images.

Groups and factors are those of `fit_regions`, with each keypoint the same and one of n + 1.
"""

from __future__ import annotations

import argparse

import msgspec
import numpy as np

from calipose.calibration.regions import RegionMap, units_img
from calipose.evaluation.evaluation import Evaluation
from calipose.evaluation.fitting import fit_keypoint_map, fit_region_map
from calipose.evaluation.matching import Matches
from calipose.skeleton import COCO_17

COVERAGES = (0.5, 0.8, 0.9)
SIGMAS = COCO_17.sigmas_array


def weighted_quantile(ratio: np.ndarray, image: np.ndarray, coverage: float, by_image: bool, correction: str) -> float:
    """Of keypoints' distance / unit (m,)."""
    _, index, count = np.unique(image, return_inverse=True, return_counts=True)
    n = len(count) if correction == "n" else count.sum() ** 2 / (count**2).sum()
    level = coverage if correction == "none" else coverage * (n + 1) / n
    weight = 1 / count[index] / len(count) if by_image else np.full(len(index), 1 / len(index))
    order = np.argsort(ratio)
    return float(ratio[order][np.searchsorted(np.cumsum(weight[order]), level - 1e-9).clip(max=len(order) - 1)])


def without_groups(regions: RegionMap) -> RegionMap:
    """The regions with one quantile for all."""
    assert regions.group is not None
    group = msgspec.structs.replace(regions.group, split="", edges=(), parts=())
    return msgspec.structs.replace(regions, group=group)


def measures(inside: np.ndarray, labelled: np.ndarray, test: Matches, scores: np.ndarray, asked: float) -> list[float]:
    """Shares and deviations, see the module."""
    image = np.broadcast_to(test.image[:, None], labelled.shape)[labelled]
    index = np.unique(image, return_inverse=True)[1]
    hits = inside[labelled]
    found = [hits.mean(), float((np.bincount(index, hits) / np.bincount(index)).mean())]
    kind = np.broadcast_to(np.minimum(np.arange(17), COCO_17.flip_index), labelled.shape)[labelled]
    size = np.broadcast_to(test.pose_size_img[:, None], labelled.shape)[labelled]
    for values in (scores[labelled], size):
        part = np.searchsorted(np.quantile(values, [1 / 3, 2 / 3]), values)
        found.append(max(abs(hits[part == i].mean() - asked) for i in range(3)))
    return [*found, max(abs(hits[kind == i].mean() - asked) for i in np.unique(kind))]


def main() -> None:
    """Draw, fit, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ground-truth", required=True)
    parser.add_argument("--results", required=True)
    parser.add_argument("--images", type=int, default=27)
    parser.add_argument("--draws", type=int, default=60)
    options = parser.parse_args()
    matches = Evaluation(options.ground_truth, options.results).matches
    matches = matches[matches.person >= 0]
    images, rng = np.unique(matches.image), np.random.default_rng(0)
    sums: dict[tuple[str, float], list[list[float]]] = {}
    for _ in range(options.draws):
        here = np.isin(matches.image, rng.choice(images, options.images, replace=False))
        fit, test = matches[here], matches[~here]
        keypoint = fit_keypoint_map(fit)
        fit_scores, scores = (keypoint(m.keypoint_scores).clip(0, 1) for m in (fit, test))
        labelled, fitted = np.isfinite(test.distance_img), np.isfinite(fit.distance_img)
        unit = units_img(test.pose_size_img, SIGMAS, scores)
        ratio = (fit.distance_img / units_img(fit.pose_size_img, SIGMAS, fit_scores))[fitted]
        image = np.broadcast_to(fit.image[:, None], fitted.shape)[fitted]
        regions = fit_region_map(fit, keypoint, COCO_17)
        for asked in COVERAGES:
            radii = {
                f"each {'image' if by_image else 'keypoint'} the same, correction {correction}": unit
                * weighted_quantile(ratio, image, asked, by_image, correction)
                for by_image in (True, False)
                for correction in ("none", "n", "n_eff")
            }
            radii |= {
                name: chosen.radius_of_size_img(test.pose_size_img, scores, SIGMAS, asked)
                for name, chosen in (("+ factors by kind", without_groups(regions)), ("+ groups: as it ships", regions))
            }
            for name, radius in radii.items():
                row = measures(test.distance_img <= radius, labelled, test, scores, asked)
                sums.setdefault((name, asked), []).append(row)
    print(f"{options.images} of {len(images)} images; means of {options.draws} draws")
    print(f"{'':46} asked  keypoints  images  off: score  size   kind")
    for (name, asked), rows in sums.items():
        share, per_image, score, size, kind = np.mean(rows, axis=0)
        print(f"{name:46} {asked:.2f}   {share:.3f}      {per_image:.3f}   {score:.3f}       {size:.3f}  {kind:.3f}")


if __name__ == "__main__":
    main()
