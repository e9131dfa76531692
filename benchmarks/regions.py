"""Do the regions of keypoints hold what they promise? Coverage asked and got, and how large they are.

    python benchmarks/regions.py --data DATA --model onepass --model accurate --results MoveNet=movenet.json
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
from collections.abc import Iterable

import numpy as np

from calipose.angles import LIMBS, RADII_COVERAGE, angles_of
from calipose.calibration.maps import Calibration
from calipose.data.locate import find_data
from calipose.evaluation.coverage import (
    ALL,
    COVERAGES,
    Radii,
    coverage_grid,
    coverage_rows,
    cross_fitted_radii,
    fitted_radii,
    keypoint_groups,
)
from calipose.evaluation.evaluation import Evaluation
from calipose.evaluation.ground_truth import read_ground_truth
from calipose.evaluation.matching import Matches
from calipose.evaluation.run import evaluate_predictor
from calipose.inference.predictor import Predictor
from calipose.skeleton import COCO_17

OVERALL, EACH = 0.03, 0.05  # how far coverage may be off
RESAMPLES = 2000


def groups_of(matches: Matches, scores: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Those of the evaluation, and each kind of keypoint."""
    labelled = np.isfinite(matches.distance_img)
    names = [name.removeprefix("left_").removeprefix("right_") for name in COCO_17.keypoints]
    kinds = {name: labelled & np.array([other == name for other in names]) for name in dict.fromkeys(names)}
    return keypoint_groups(matches, scores) | {"keypoint": kinds}


def interval(inside: np.ndarray, image: np.ndarray) -> tuple[float, float]:
    """95 % of the share inside, (m,) of keypoints in these images."""
    index = np.unique(image, return_inverse=True)[1]
    count, hits = np.bincount(index), np.bincount(index, inside)
    chosen = np.random.default_rng(0).integers(0, len(count), (RESAMPLES, len(count)))
    low, high = np.percentile(hits[chosen].sum(1) / count[chosen].sum(1), [2.5, 97.5])
    return float(low), float(high)


def rows(name: str, matches: Matches, radii: Radii, constant: Radii) -> Iterable[str]:
    """The table of one model."""
    labelled = np.isfinite(matches.distance_img) & np.isfinite(radii.radius_img).all(0)
    image = np.broadcast_to(matches.image[:, None], labelled.shape)[labelled]
    sizes = np.broadcast_to(matches.pose_size_img[:, None], labelled.shape)[labelled]
    distance = matches.distance_img[labelled]
    found = coverage_rows(matches, radii, groups_of(matches, radii.scores), RESAMPLES)
    asked, groups = coverage_grid(found)
    yield f"\n{name}: {labelled.sum()} keypoints of {len(np.unique(image))} images"
    yield "  asked  got (95 %)             an image  mean radius, constant: saved   median radius, constant: saved"
    for i, (coverage, row) in enumerate(zip(asked, groups[ALL], strict=True)):
        assert row is not None
        assert row.interval is not None
        radius, plain = radii.radius_img[i][labelled], constant.radius_img[i][labelled]
        inside = distance <= radius
        share = np.bincount(image, inside) / np.maximum(np.bincount(image), 1)
        known = np.isfinite(plain)
        plain = plain * np.quantile((distance / plain)[known], inside[known].mean())
        sides = [(average(radius / sizes), average((plain / sizes)[known])) for average in (np.mean, np.median)]
        cells = "   ".join(f"{own:.3f}  {other:.3f}  {100 * (1 - own / other):+3.0f} %      " for own, other in sides)
        off = "" if abs(row.got - coverage) <= OVERALL else "  OFF"
        low, high = row.interval
        per_image = share[np.unique(image)].mean()
        yield f"  {coverage:.2f}   {row.got:.3f} ({low:.3f} to {high:.3f})  {per_image:.3f}     {cells}{off}"
    yield f"  group            keypoints  got at {', '.join(f'{coverage:.2f}' for coverage in asked)}"
    for group, cells_of in groups.items():
        known_rows = [row for row in cells_of if row is not None]
        cells = "  ".join(f"{row.got:.3f}{'*' if abs(row.got - row.asked) > EACH else ' '}" for row in known_rows)
        yield f"  {group:16} {known_rows[0].keypoints:8}  {cells}"


def angle_rows(evaluation: Evaluation, matched: np.ndarray, radii: Radii) -> Iterable[str]:
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
            seen = angles_of(points, COCO_17, triples, radii.radius_img[COVERAGES.index(RADII_COVERAGE)], coverage)
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
        matched = test[test.person >= 0]
        if options.kept:
            fit = evaluations[1].matches
            radii, constant = (fitted_radii(fit, matched, COCO_17, scored=by_score) for by_score in (scored, False))
        else:
            radii, constant = (cross_fitted_radii(matched, COCO_17, scored=by_score) for by_score in (scored, False))
        how = "fitted on the images kept apart" if options.kept else "cross-fitted"
        for row in rows(f"{name}, {how}", matched, radii, constant):
            print(row)
        for row in angle_rows(evaluations[0], test.person >= 0, radii):
            print(row)


if __name__ == "__main__":
    main()
