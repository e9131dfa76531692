"""All numbers of a report, computed once; what the charts, tables and the gallery show is read from here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from calipose.errors import InputError
from calipose.evaluation.ap import AveragePrecision, MatchTable, evaluate_results
from calipose.evaluation.calibrate import cross_fit, has_keypoint_scores
from calipose.evaluation.coco_files import Flags, Found, GroundTruth, Integers, ResultsSource, read_ground_truth
from calipose.evaluation.coco_files import read_results as read_found
from calipose.evaluation.matching import Matches, match_poses
from calipose.evaluation.scores import ScoreFigures, populations, score_figures, slices
from calipose.geometry import Floats
from calipose.report.errors import Repair, keypoint_error_kinds, repairs
from calipose.skeleton import COCO_17, Skeleton

POPULATIONS = {"score": "Poses with score ≥ 0.05", "best": "Best 20 poses of each image"}


@dataclass(frozen=True)
class BeforeAfter:
    """Figures of the scores as given, and after cross-fitted calibration (None where that was not possible)."""

    before: ScoreFigures
    after: ScoreFigures | None


@dataclass(frozen=True)
class Analysis:
    """One set of results on one data set.

    Attributes:
        truth: the annotations; `names`, the images' files in the same order; `found`, the results.
        precision: AP and its companions.
        matches: all poses with their OKS; `keypoints_img` (n, k, 2), theirs.
        fitted: the same poses with scores of maps fitted on the other folds' images, or None; then
            `not_fitted` says why.
        shown: (n,) bool, the population that charts show: score >= 0.05.
        kinds: (n, k) error kinds of the joints (`keypoint_error_kinds`); `repairs`, what each costs.
        bootstrap: resamples of the images for intervals.
    """

    truth: GroundTruth
    names: tuple[str, ...]
    found: Sequence[Found]
    precision: AveragePrecision
    matches: Matches
    keypoints_img: Floats
    fitted: Matches | None
    not_fitted: str
    kinds: Integers
    repairs: list[Repair]
    bootstrap: int

    @property
    def skeleton(self) -> Skeleton:
        """Of the poses."""
        return self.truth.skeleton

    @cached_property
    def shown(self) -> Flags:
        """The population of the charts."""
        return populations(self.matches)["score"]

    @cached_property
    def populations(self) -> dict[str, BeforeAfter]:
        """Score figures of both populations; both times of the poses that the given scores choose."""
        return {name: self._figures(mask) for name, mask in populations(self.matches).items()}

    @cached_property
    def slices(self) -> dict[str, dict[str, BeforeAfter]]:
        """Score figures of the parts of the shown population."""
        return {
            by: {part: self._figures(mask & self.shown) for part, mask in parts.items()}
            for by, parts in slices(self.matches).items()
        }

    @cached_property
    def table(self) -> MatchTable:
        """Hits and false poses at each OKS threshold, for precision and recall."""
        return MatchTable.of(self.truth, list(self.found))

    @property
    def scores_keypoints(self) -> bool:
        """The third numbers of the results are scores of joints, and no flags."""
        return has_keypoint_scores(self.matches)

    def joints(self, matches: Matches) -> tuple[Floats, Floats]:
        """Score and similarity `(m,)` of all labelled keypoints of the shown poses that are of a person."""
        chosen = self.shown[:, None] & np.isfinite(matches.similarity)
        return matches.keypoint_scores[chosen], matches.similarity[chosen]

    @cached_property
    def keypoint_means(self) -> BeforeAfter:
        """Score figures of the shown poses where each pose's score is the mean of its joints' scores."""
        return self._figures(self.shown, by_keypoints=True)

    def people_found(self) -> tuple[int, int]:
        """People whom a pose has with OKS 0.5 or more, and all people."""
        return int((self.matches.oks >= 0.5).sum()), int(self.truth.wanted.sum())

    def _figures(self, mask: Flags, by_keypoints: bool = False) -> BeforeAfter:
        def of(matches: Matches) -> ScoreFigures:
            chosen = matches[mask]
            if by_keypoints:
                chosen = replace(chosen, score=chosen.keypoint_scores.mean(1))
            return score_figures(chosen, self.bootstrap)

        return BeforeAfter(of(self.matches), None if self.fitted is None else of(self.fitted))


def analyse(
    annotations: Path,
    results: ResultsSource,
    skeleton: Skeleton = COCO_17,
    setting: Mapping[str, Any] | None = None,
    bootstrap: int = 1000,
) -> Analysis:
    """Read, match and compute.

    Raises:
        InputError: as `read_ground_truth` and `read_results`, or an image without a file name.
    """
    if not isinstance(results, str | Path):
        results = list(results)
    truth = read_ground_truth(annotations, skeleton)
    found = read_found(results, truth)
    precision = evaluate_results(annotations, results, skeleton, bootstrap, setting=setting)
    matches = match_poses(annotations, results, skeleton)
    keypoints_img = _by_entry(found, len(skeleton))[matches.entry]
    fitted, why = None, ""
    try:
        fitted = cross_fit(matches)
    except InputError as error:
        why = str(error)
    kinds = keypoint_error_kinds(truth, matches, keypoints_img)
    return Analysis(
        truth=truth,
        names=_file_names(annotations, truth),
        found=found,
        precision=precision,
        matches=matches,
        keypoints_img=keypoints_img,
        fitted=fitted,
        not_fitted=why,
        kinds=kinds,
        repairs=repairs(truth, found, matches, keypoints_img, kinds),
        bootstrap=bootstrap,
    )


def _by_entry(found: Sequence[Found], k: int) -> Floats:
    """Keypoints `(entries, k, 2)` in the order of the results."""
    points = np.zeros((sum(len(image.entries) for image in found), k, 2))
    for image in found:
        points[image.entries] = image.keypoints_img
    return points


def _file_names(annotations: Path, truth: GroundTruth) -> tuple[str, ...]:
    """The images' files in the order of their ids."""
    images = json.loads(annotations.read_text(encoding="utf-8"))["images"]
    names = {image["id"]: image.get("file_name") for image in images}
    for image_id in truth.image_ids:
        if not isinstance(names[image_id], str):
            raise InputError(f"{annotations}: image {image_id} has no 'file_name'; the report shows images")
    return tuple(str(names[image_id]) for image_id in truth.image_ids)
