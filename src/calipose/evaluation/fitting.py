"""Fitting calibration maps to matched poses, and cross-fitting, which judges maps on images they have not seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from calipose.calibration.fit import assign_folds, fit_calibration_map
from calipose.calibration.fit_regions import fit_regions
from calipose.calibration.maps import Calibration, CalibrationMap, Setting
from calipose.calibration.precision import PrecisionTable
from calipose.calibration.regions import RegionMap
from calipose.errors import InputError
from calipose.evaluation.ground_truth import Flags
from calipose.evaluation.matching import Matches
from calipose.evaluation.results import ResultsSource, load_results, require_triples
from calipose.evaluation.scores import has_keypoint_scores
from calipose.geometry import Floats
from calipose.skeleton import Skeleton

FOLDS = 10  # of the images, in cross-fitting
MIN_IMAGES = 10  # with poses: fewer are no calibration
GOOD_IMAGES = 200  # from which isotonic maps usually win; fewer are said


def fit_maps(
    matches: Matches, people: int, setting: Setting | None = None, data: str = "", skeleton: Skeleton | None = None
) -> Calibration:
    """Calibration from poses whose `score` and `keypoint_scores` are the network's own.

    Keypoints count where they are labelled, in matched poses.

    Args:
        matches: the poses.
        people: that were to be found in all images.
        setting: of the prediction, which the maps keep.
        data: name of the data, likewise.
        skeleton: of the poses; without it no regions are fitted.

    Raises:
        InputError: too few images, or all poses have the same score.
    """
    require_enough(matches)
    keypoint = fit_keypoint_map(matches, setting, data)

    def fit(target: Floats) -> CalibrationMap:
        return fit_calibration_map(matches.score, target, matches.image, setting=setting, data=data)

    return Calibration(
        score=fit(matches.oks),
        oks50=fit((matches.oks >= 0.5).astype(float)),
        oks75=fit((matches.oks >= 0.75).astype(float)),
        keypoint=keypoint,
        precision=PrecisionTable.count(matches.score, matches.oks, matches.image, people),
        regions=RegionMap() if skeleton is None else fit_region_map(matches, keypoint, skeleton, data),
    )


def fit_region_map(matches: Matches, keypoint: CalibrationMap, skeleton: Skeleton, data: str = "") -> RegionMap:
    """Radii of keypoints, from matched poses whose `keypoint_scores` are the network's own.

    Args:
        matches: the poses.
        keypoint: the map of keypoint scores; the identity where there are none, and then the radii are constant by
            keypoint, in parts of the person's size.
        skeleton: of the poses.
        data: name of the data, which the map keeps.
    """
    scores = None if keypoint.is_identity else keypoint(matches.keypoint_scores).clip(0, 1)
    return fit_regions(matches.distance_img, matches.pose_size_img, matches.image, skeleton, scores, data)


def require_enough(matches: Matches) -> None:
    """Check that poses can be calibrated with.

    Raises:
        InputError: too few images, or all poses have the same score.
    """
    images = len(np.unique(matches.image))
    if images < MIN_IMAGES:
        raise InputError(
            f"calibration: poses in {images} images; at least {MIN_IMAGES} are needed, some hundred are good"
        )
    if np.ptp(matches.score) == 0:
        raise InputError(f"calibration: all {len(matches)} poses have the score {matches.score[0]:g}; it tells nothing")


def fit_keypoint_map(matches: Matches, setting: Setting | None = None, data: str = "") -> CalibrationMap:
    """The map of keypoint scores; the identity where the poses have none."""
    labelled = np.isfinite(matches.similarity)
    if not labelled.any() or not has_keypoint_scores(matches):
        return CalibrationMap()
    image = np.broadcast_to(matches.image[:, None], labelled.shape)[labelled]
    raw, similarity = matches.keypoint_scores[labelled], matches.similarity[labelled]
    return fit_calibration_map(raw, similarity, image, setting=setting, data=data)


def calibrated(matches: Matches, calibration: Calibration) -> Matches:
    """The same poses with calibrated scores, of keypoints too."""
    return replace(
        matches,
        score=calibration.score(matches.score),
        keypoint_scores=calibration.keypoint(matches.keypoint_scores),
    )


def calibrate_entries(
    results: ResultsSource, calibration: Calibration, matches: Matches | None = None
) -> list[dict[str, Any]]:
    """The entries of a results file with calibrated scores, of keypoints too; all else stays.

    Args:
        results: a COCO results file, or its entries.
        calibration: the maps.
        matches: of the same results, calibrated already; an entry that they hold takes its scores from there.

    Raises:
        InputError: as `load_results`.
    """
    loaded = load_results(results)
    require_triples(loaded)
    entries = [dict(entry) for entry in loaded.entries]
    row = {} if matches is None else {entry: i for i, entry in enumerate(matches.entry.tolist())}
    for number, (entry, record) in enumerate(zip(entries, loaded.records, strict=True)):
        triples = np.array(record.keypoints, np.float64).reshape(-1, 3)
        if matches is not None and number in row:
            entry["score"] = float(matches.score[row[number]])
            triples[:, 2] = matches.keypoint_scores[row[number]]
        else:
            entry["score"] = float(calibration.score(entry["score"]))
            triples[:, 2] = calibration.keypoint(triples[:, 2])
        entry["keypoints"] = triples.ravel().tolist()
    return entries


def with_radii(
    entries: list[dict[str, Any]], calibration: Calibration, skeleton: Skeleton, coverage: float
) -> list[dict[str, Any]]:
    """Calibrated entries with "coverage" and "keypoint_radii" (pixels, None where not known), as of `Poses.to_coco`.

    Args:
        entries: with calibrated keypoint scores, as `calibrate_entries` gives them.
        calibration: has the regions.
        skeleton: of the poses.
        coverage: from 0.5 to 0.99.

    Raises:
        InputError: the calibration has no regions, or its images do not support that coverage.
    """
    calibration.regions.require(coverage)
    triples = np.array([entry["keypoints"] for entry in entries], np.float64).reshape(-1, len(skeleton), 3)
    lost: Flags = np.asarray(np.isnan(triples[..., :2]).any(-1))
    points, scores = np.where(lost[..., None], np.nan, triples[..., :2]), np.nan_to_num(triples[..., 2], nan=0.0)
    radii = calibration.regions.radius_img(points, scores, skeleton.sigmas_array, coverage)
    for entry, row, missing in zip(entries, radii, lost, strict=True):
        known = [None if gone or np.isnan(radius) else float(radius) for radius, gone in zip(row, missing, strict=True)]
        entry.update(coverage=coverage, keypoint_radii=known)
    return entries


def cross_fit(matches: Matches, folds: int = FOLDS, seed: int = 0) -> Matches:
    """The same poses, each calibrated with maps that were fitted on the images of the other folds.

    So the figures of calibrated scores are those of images that the maps have not seen.

    Args:
        matches: the poses.
        folds: of the images.
        seed: of the split into folds.

    Raises:
        InputError: as `fit_maps`.
    """
    require_enough(matches)
    images, index = np.unique(matches.image, return_inverse=True)
    fold = assign_folds(len(images), min(folds, len(images)), seed)[index]
    score, keypoints = matches.score.copy(), matches.keypoint_scores.copy()
    for i in np.unique(fold):
        here, others = fold == i, matches[fold != i]
        score[here] = fit_calibration_map(others.score, others.oks, others.image)(score[here])
        keypoints[here] = fit_keypoint_map(others)(keypoints[here])
    return replace(matches, score=score, keypoint_scores=keypoints)
