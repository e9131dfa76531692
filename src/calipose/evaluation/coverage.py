"""Regions of keypoints: the share of annotated keypoints inside them, against the coverage that was asked for.

It is of the labelled keypoints of matched poses, on images that the regions were not fitted on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from calipose.calibration.fit import assign_folds
from calipose.calibration.maps import CalibrationMap
from calipose.calibration.regions import RegionMap
from calipose.evaluation.fitting import FOLDS, MIN_IMAGES, fit_keypoint_map, fit_region_map
from calipose.evaluation.ground_truth import Flags
from calipose.evaluation.matching import Matches
from calipose.evaluation.scores import has_keypoint_scores, slices
from calipose.geometry import Floats
from calipose.skeleton import Skeleton

ALL = "all"  # the group of all keypoints
COVERAGES = (0.5, 0.8, 0.9)
MIN_KEYPOINTS = 100  # of a group that is shown


@dataclass(frozen=True)
class Coverage:
    """How many keypoints of a group lie in their regions.

    Attributes:
        group: in words, such as "large people"; "all" for all keypoints.
        asked: share that was asked for.
        got: share of the annotated keypoints that lie in their region, on images that fitted nothing.
        keypoints: of how many.
        interval: of `got`, 95 %, over images; None where it is not known.
        by: what the groups differ in, such as "size"; a chart is drawn for each.
    """

    group: str
    asked: float
    got: float
    keypoints: int = 0
    interval: tuple[float, float] | None = None
    by: str = ""


@dataclass(frozen=True)
class Radii:
    """The regions of n poses.

    Attributes:
        coverages: (c,) that were asked for.
        radius_img: (c, n, k) pixels; nan where nothing is known of a keypoint.
        scores: (n, k) of the keypoints, calibrated.
        own: they are the model's own regions, and not cross-fitted.
    """

    coverages: tuple[float, ...]
    radius_img: Floats
    scores: Floats
    own: bool = False


def radii_of(
    regions: RegionMap, keypoint: CalibrationMap, matches: Matches, skeleton: Skeleton, asked: Sequence[float]
) -> Radii:
    """Radii as a calibration gives them, for the coverages that its images support.

    Args:
        regions: of the calibration.
        keypoint: its map of keypoint scores; the identity where those of `matches` went through it already.
        matches: the poses.
        skeleton: of the poses.
        asked: coverages.

    Raises:
        InputError: the regions are of another number of keypoints.
    """
    coverages = tuple(coverage for coverage in asked if coverage <= regions.max_coverage + 1e-9)
    scores = keypoint(matches.keypoint_scores).clip(0, 1)
    radius = np.zeros((0, *scores.shape))
    if coverages:
        sizes, sigmas = matches.pose_size_img, skeleton.sigmas_array
        radius = np.stack([regions.radius_of_size_img(sizes, scores, sigmas, coverage) for coverage in coverages])
    return Radii(coverages, radius, scores, own=True)


def fitted_radii(
    fit: Matches, test: Matches, skeleton: Skeleton, asked: Sequence[float] = COVERAGES, *, scored: bool = True
) -> Radii:
    """Radii of poses by regions that are fitted on others.

    Args:
        fit: poses to fit on, with the scores of the network.
        test: poses with such scores.
        skeleton: of both.
        asked: coverages.
        scored: by keypoint scores where there are any; else a radius is constant by keypoint, times the size.
    """
    keypoint = fit_keypoint_map(fit) if scored else CalibrationMap()
    return radii_of(fit_region_map(fit, keypoint, skeleton), keypoint, test, skeleton, asked)


def cross_fitted_radii(
    matches: Matches, skeleton: Skeleton, asked: Sequence[float] = COVERAGES, *, scored: bool = True
) -> Radii:
    """`fitted_radii` of each image by maps and regions of the images of the other folds.

    Args:
        matches: matched poses, with the scores of the network.
        skeleton: of the poses.
        asked: coverages; those that the images support in each fold are kept.
        scored: as there.
    """
    images, index = np.unique(matches.image, return_inverse=True)
    empty = Radii((), np.zeros((0, *matches.similarity.shape)), matches.keypoint_scores)
    if len(images) < MIN_IMAGES:
        return empty
    fold = assign_folds(len(images), min(FOLDS, len(images)))[index]
    parts = {i: fitted_radii(matches[fold != i], matches[fold == i], skeleton, asked, scored=scored) for i in set(fold)}
    kept = min(len(part.coverages) for part in parts.values())
    radius, scores = np.full((kept, *matches.similarity.shape), np.nan), np.zeros(matches.similarity.shape)
    for i, part in parts.items():
        radius[:, fold == i], scores[fold == i] = part.radius_img[:kept], part.scores
    return Radii(tuple(sorted(asked))[:kept], radius, scores)


def keypoint_groups(matches: Matches, scores: Floats) -> dict[str, dict[str, Flags]]:
    """Labelled keypoints (n, k) by score, size, visibility and crowding: way of grouping -> group -> keypoints.

    Args:
        matches: matched poses.
        scores: (n, k) of their keypoints, calibrated; thirds of them make groups where they are scores, and no flags.
    """
    labelled: Flags = np.isfinite(matches.distance_img)
    people = slices(matches)
    groups: dict[str, dict[str, Flags]] = {}
    if labelled.any() and has_keypoint_scores(matches):
        low, high = np.quantile(scores[labelled], [1 / 3, 2 / 3])
        middle = (scores >= low) & (scores < high)
        groups["score"] = {"low score": scores < low, "middle score": middle, "high score": scores >= high}
    groups["size"] = {f"{size} people": mask[:, None] for size, mask in people["size"].items()}
    groups["visibility"] = {"visible": matches.visible, "occluded": ~matches.visible}
    groups["crowding"] = {crowding: mask[:, None] for crowding, mask in people["crowding"].items()}
    return {
        by: {name: np.broadcast_to(mask, labelled.shape) & labelled for name, mask in parts.items()}
        for by, parts in groups.items()
    }


def coverage_rows(
    matches: Matches, radii: Radii, groups: Mapping[str, Mapping[str, Flags]], bootstrap: int = 0, seed: int = 0
) -> list[Coverage]:
    """Coverage asked and got: of all keypoints, and of each group that has 100 and more.

    Args:
        matches: matched poses.
        radii: of them.
        groups: as `keypoint_groups` gives them.
        bootstrap: resamples of the images for the 95 % intervals, 0 for none.
        seed: of the resamples.
    """
    known: Flags = np.isfinite(matches.distance_img) & np.isfinite(radii.radius_img).all(0)
    chosen = [("", ALL, known)] + [
        (by, name, mask & known) for by, parts in groups.items() for name, mask in parts.items()
    ]
    chosen = [row for row in chosen if row[2].sum() >= (MIN_KEYPOINTS if row[0] else 1)]
    index = np.unique(matches.image, return_inverse=True)[1]
    images = int(index.max(initial=-1)) + 1
    labels, hits, counts = [], [], []
    for by, name, mask in chosen:
        for asked, radius in zip(radii.coverages, radii.radius_img, strict=True):
            labels.append((by, name, asked))
            hits.append(np.bincount(index, (mask & (matches.distance_img <= radius)).sum(1), images))
            counts.append(np.bincount(index, mask.sum(1), images))
    if not labels:
        return []
    inside, of = np.array(hits), np.array(counts)
    got = inside.sum(1) / of.sum(1)
    intervals: list[tuple[float, float] | None] = [None] * len(labels)
    if bootstrap:
        rng, samples = np.random.default_rng(seed), []
        for _ in range(bootstrap):
            weight = np.bincount(rng.integers(0, images, images), minlength=images)
            with np.errstate(invalid="ignore"):  # a resample may hold nothing of a small group
                samples.append((inside @ weight) / (of @ weight))
        intervals = [(float(low), float(high)) for low, high in np.nanpercentile(samples, [2.5, 97.5], axis=0).T]
    return [
        Coverage(name, asked, float(share), int(count), interval, by)
        for (by, name, asked), share, count, interval in zip(labels, got, of.sum(1), intervals, strict=True)
    ]


def coverage_grid(rows: Sequence[Coverage]) -> tuple[list[float], dict[str, list[Coverage | None]]]:
    """Rows as a table: the coverages asked for, and of each group its row at each of them, None where there is none."""
    asked = sorted({row.asked for row in rows})
    groups: dict[str, list[Coverage | None]] = {row.group: [None] * len(asked) for row in rows}
    for row in rows:
        groups[row.group][asked.index(row.asked)] = row
    return asked, groups
