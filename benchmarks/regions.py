"""Do the regions of keypoints hold what they promise? Coverage asked and got, and how large they are.

    python benchmarks/regions.py --data DATA --model fast --model accurate --results MoveNet=movenet.json
    python benchmarks/regions.py --data DATA --kept DATA2 --results MoveNet=movenet.json,kept-movenet.json

Models are predicted without calibration; results files must hold the scores as the model gives them. Without `--kept`,
everything is cross-fitted by image: each tenth of the images gets the map of keypoint scores and the radii that were
fitted on the others. With `--kept` both are fitted on that other data set. `--unscored NAME=FILE` takes a results file
without its keypoint scores: the radius is then constant by keypoint, times the person's size.

"got" is the share of labelled keypoints of matched poses that lie within their circle, with its 95 % interval
(bootstrap over images); "an image" is the mean of the images' shares. Radii are in parts
of the person's size; "constant" are radii constant by keypoint, times the size, scaled to the same share got.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from calipose.angles import LIMBS, RADII_COVERAGE, angles_of
from calipose.calibration.fit import assign_folds
from calipose.calibration.maps import Calibration
from calipose.data.locate import find_data
from calipose.evaluation.evaluation import Evaluation
from calipose.evaluation.fitting import FOLDS, fit_keypoint_map, fit_region_map
from calipose.evaluation.ground_truth import read_ground_truth
from calipose.evaluation.matching import Matches
from calipose.evaluation.run import evaluate_predictor
from calipose.evaluation.scores import LARGE_AREA, MEDIUM_AREA
from calipose.inference.predictor import Predictor
from calipose.skeleton import COCO_17

COVERAGES = (0.5, 0.8, 0.9)
MIN_KEYPOINTS = 100  # of a group that counts
OVERALL, EACH = 0.03, 0.05  # how far coverage may be off
RESAMPLES = 2000


def radii(fit: Matches, test: Matches, scored: bool) -> tuple[np.ndarray, np.ndarray]:
    """Radii (c, n, k) of the coverages for the test poses, and their calibrated keypoint scores; fitted on others."""
    keypoint = fit_keypoint_map(fit) if scored else Calibration().keypoint
    regions = fit_region_map(fit, keypoint, COCO_17)
    scores = None if keypoint.is_identity else keypoint(test.keypoint_scores).clip(0, 1)
    sizes, sigmas = test.pose_size_img, COCO_17.sigmas_array
    found = [regions.radius_of_size_img(sizes, scores, sigmas, coverage) for coverage in COVERAGES]
    return np.stack(found), test.keypoint_scores if scores is None else scores


def cross_fitted(matches: Matches, scored: bool) -> tuple[np.ndarray, np.ndarray]:
    """As `radii`, each image by the others."""
    images, index = np.unique(matches.image, return_inverse=True)
    fold = assign_folds(len(images), FOLDS)[index]
    shape = matches.similarity.shape
    found, scores = np.full((len(COVERAGES), *shape), np.nan), np.zeros(shape)
    for i in range(FOLDS):
        here = fold == i
        found[:, here], scores[here] = radii(matches[~here], matches[here], scored)
    return found, scores


def visible(annotations: Path, evaluation: Evaluation) -> np.ndarray:
    """(people, k): the annotated keypoint is marked visible; people in the order of `Matches.person`."""
    content = json.loads(annotations.read_text())
    by_image: dict[int, list[Any]] = {image_id: [] for image_id in evaluation.truth.image_ids}
    for entry in content["annotations"]:
        by_image[entry["image_id"]].append(np.array(entry["keypoints"]).reshape(-1, 3)[:, 2] == 2)
    return np.array([flags for people in by_image.values() for flags in people])


def groups(matches: Matches, scores: np.ndarray, seen: np.ndarray) -> dict[str, np.ndarray]:
    """Labelled keypoints (n, k) by score, size, keypoint and visibility."""
    labelled = np.isfinite(matches.distance_img)
    low, high = np.quantile(scores[labelled], [1 / 3, 2 / 3])
    area = matches.area[:, None]
    found = {
        "low score": scores < low,
        "middle score": (scores >= low) & (scores < high),
        "high score": scores >= high,
        "small person": area < MEDIUM_AREA,
        "medium person": (area >= MEDIUM_AREA) & (area < LARGE_AREA),
        "large person": area >= LARGE_AREA,
        "visible": seen[matches.person],
        "occluded": ~seen[matches.person],
    }
    names = [name.removeprefix("left_").removeprefix("right_") for name in COCO_17.keypoints]
    found |= {name: np.array([other == name for other in names]) for name in dict.fromkeys(names)}
    return {name: np.broadcast_to(mask, labelled.shape) & labelled for name, mask in found.items()}


def interval(inside: np.ndarray, image: np.ndarray) -> tuple[float, float]:
    """95 % of the share inside, (m,) of keypoints in these images."""
    index = np.unique(image, return_inverse=True)[1]
    count, hits = np.bincount(index), np.bincount(index, inside)
    chosen = np.random.default_rng(0).integers(0, len(count), (RESAMPLES, len(count)))
    low, high = np.percentile(hits[chosen].sum(1) / count[chosen].sum(1), [2.5, 97.5])
    return float(low), float(high)


def rows(
    name: str, matches: Matches, seen: np.ndarray, found: np.ndarray, scores: np.ndarray, constant: np.ndarray
) -> Iterable[str]:
    """The table of one model."""
    labelled = np.isfinite(matches.distance_img) & np.isfinite(found).all(0)
    image = np.broadcast_to(matches.image[:, None], labelled.shape)
    sizes = np.broadcast_to(matches.pose_size_img[:, None], labelled.shape)[labelled]
    distance = matches.distance_img[labelled]
    yield f"\n{name}: {labelled.sum()} keypoints of {len(np.unique(image[labelled]))} images"
    yield "  asked  got (95 %)             an image  mean radius, constant: saved   median radius, constant: saved"
    for i, coverage in enumerate(COVERAGES):
        radius, plain = found[i][labelled], constant[i][labelled]
        inside = distance <= radius
        low, high = interval(inside, image[labelled])
        share = np.bincount(image[labelled], inside) / np.maximum(np.bincount(image[labelled]), 1)
        per_image = share[np.unique(image[labelled])].mean()
        known = np.isfinite(plain)
        plain = plain * np.quantile((distance / plain)[known], inside[known].mean())
        sides = [(average(radius / sizes), average((plain / sizes)[known])) for average in (np.mean, np.median)]
        cells = "   ".join(f"{own:.3f}  {other:.3f}  {100 * (1 - own / other):+3.0f} %      " for own, other in sides)
        off = "" if abs(inside.mean() - coverage) <= OVERALL else "  OFF"
        yield (f"  {coverage:.2f}   {inside.mean():.3f} ({low:.3f} to {high:.3f})  {per_image:.3f}     {cells}{off}")
    yield f"  group            keypoints  images  got at {', '.join(f'{coverage:.2f}' for coverage in COVERAGES)}"
    for group, mask in groups(matches, scores, seen).items():
        chosen = mask & labelled
        if chosen.sum() < MIN_KEYPOINTS:
            continue
        got = [(matches.distance_img[chosen] <= found[i][chosen]).mean() for i in range(len(COVERAGES))]
        off = ["*" if abs(value - asked) > EACH else " " for value, asked in zip(got, COVERAGES, strict=True)]
        cells = "  ".join(f"{value:.3f}{mark}" for value, mark in zip(got, off, strict=True))
        yield f"  {group:16} {chosen.sum():8}  {len(np.unique(image[chosen])):6}  {cells}"


def angle_rows(evaluation: Evaluation, matched: np.ndarray, found: np.ndarray) -> Iterable[str]:
    """How often the annotated angle of elbows and knees lies within its interval, all three keypoints labelled."""
    matches = evaluation.matches[matched]
    points = evaluation.keypoints_img[matched]
    truth = np.concatenate([people.keypoints_img for people in evaluation.truth.people])[matches.person]
    labelled = np.isfinite(matches.distance_img)
    for joint in ("elbow", "knee"):
        triples = {
            f"{side}_{joint}": (f"{side}_{a}", f"{side}_{b}", f"{side}_{c}")
            for side in ("left", "right")
            for a, b, c in [LIMBS[joint]]
        }
        index = np.array([[COCO_17.keypoints.index(part) for part in parts] for parts in triples.values()])
        whole = labelled[:, index].all(-1)
        true = angles_of(truth, COCO_17, triples).degrees
        cells = []
        for coverage in COVERAGES:
            seen = angles_of(points, COCO_17, triples, found[COVERAGES.index(RADII_COVERAGE)], coverage)
            assert seen.low_deg is not None
            assert seen.high_deg is not None
            known = whole & np.isfinite(seen.low_deg) & np.isfinite(true)
            inside = ((seen.low_deg <= true) & (true <= seen.high_deg))[known]
            width = np.median((seen.high_deg - seen.low_deg)[known])
            image = np.broadcast_to(matches.image[:, None], known.shape)[known]
            low, high = interval(inside, image)
            cells.append(f"{coverage:.2f}: {inside.mean():.3f} ({low:.3f} to {high:.3f}), median width {width:.0f} deg")
        yield f"  angles of {known.sum()} {joint}s within their intervals, {'; '.join(cells)}"


def main() -> None:
    """Fit, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="what is measured on")
    parser.add_argument("--kept", help="what is fitted on; without it, cross-fitted")
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--results", action="append", default=[], metavar="NAME=FILE[,KEPT_FILE]")
    parser.add_argument("--unscored", action="append", default=[], metavar="NAME=FILE[,KEPT_FILE]")
    options = parser.parse_args()
    sets = [find_data(data) for data in (options.data, options.kept) if data]
    jobs: list[tuple[str, list[Evaluation], bool]] = []
    for name in options.model:
        predictor = Predictor(name).with_calibration(Calibration())
        jobs.append((name, [evaluate_predictor(predictor, *data) for data in sets], True))
    for entries, scored in ((options.results, True), (options.unscored, False)):
        for entry in entries:
            name, _, files = entry.partition("=")
            both = zip(sets, files.split(","), strict=True)
            jobs.append((name, [Evaluation(read_ground_truth(data[0]), file) for data, file in both], scored))
    for name, evaluations, scored in jobs:
        test = evaluations[0].matches
        seen = visible(sets[0][0], evaluations[0])
        matched = test[test.person >= 0]
        if options.kept:
            fit = evaluations[1].matches
            (found, scores), (constant, _) = radii(fit, matched, scored), radii(fit, matched, False)
        else:
            (found, scores), (constant, _) = cross_fitted(matched, scored), cross_fitted(matched, False)
        how = "fitted on the images kept apart" if options.kept else "cross-fitted"
        for row in rows(f"{name}, {how}", matched, seen, found, scores, constant):
            print(row)
        for row in angle_rows(evaluations[0], test.person >= 0, found):
            print(row)


if __name__ == "__main__":
    main()
