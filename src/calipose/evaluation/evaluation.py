"""`Evaluation`: everything that is measured of one results file, from one reading and one matching."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from calipose.calibration.maps import Calibration, CalibrationMap, Setting
from calipose.calibration.regions import RegionMap
from calipose.calibration.shift import ImageSummaries, chosen_images, pose_sizes_img
from calipose.errors import InputError
from calipose.evaluation.ap import AveragePrecision, MatchTable, evaluate_found
from calipose.evaluation.carried_radii import CarriedRadii
from calipose.evaluation.cautions import cautions
from calipose.evaluation.coverage import (
    COVERAGES,
    Coverage,
    coverage_rows,
    cross_fitted_radii,
    keypoint_groups,
    radii_of,
)
from calipose.evaluation.fitting import calibrate_entries, cross_fit, fit_maps
from calipose.evaluation.ground_truth import Flags, GroundTruthSource, Integers, read_ground_truth
from calipose.evaluation.keypoint_errors import Repair, keypoint_error_kinds, repairs
from calipose.evaluation.matching import Matches, match_found, oks_matrices
from calipose.evaluation.plain import plain
from calipose.evaluation.results import ResultsSource, load_results, read_results
from calipose.evaluation.scores import (
    BeforeAfter,
    KeypointFigures,
    ScoreFigures,
    best_poses,
    has_keypoint_scores,
    keypoint_figures,
    keypoint_parts,
    populations,
    score_figures,
    slices,
)
from calipose.geometry import Floats
from calipose.skeleton import COCO_17, Skeleton


class Evaluation:
    """The results of a model on labelled images: AP, what the scores are worth, and what is wrong with the poses.

    The two files are read when it is made; each figure is computed when it is first asked for, and kept.

    Args:
        ground_truth: a COCO keypoint file, its content, or what `read_ground_truth` gave.
        results: a COCO keypoint results file, or its entries.
        skeleton: of both; of a ground truth that was read already, its own.
        bootstrap: resamples of the images for the 95 % intervals, 0 for none.
        setting: what the figures hold for (flip, scales, short side), shown beside them.
        only_labelled: leave out results of images that the ground truth does not have, instead of refusing them.
        regions: of the model, whose scores the results hold; `coverage` is then of them.
        colour: `colour_of` each image, by its id, where they were at hand; a calibration keeps it.

    Attributes:
        truth: the annotated people.
        entries: of the results, with all that they hold.
        found: the poses of each image, best first.
        bootstrap: as given.
        setting: as given.
        assumptions: what was assumed in reading files that are not as COCO writes them, and what was left out.

    Raises:
        InputError: an entry of a file is wrong (see `read_ground_truth` and `read_results`).

    Example:
        >>> evaluation = calipose.Evaluation("annotations.json", "results.json", bootstrap=200)
        >>> evaluation.ap.ap, evaluation.scores["score"]["ece"]
        >>> better = evaluation.calibrated_entries(evaluation.fit_calibration())
    """

    def __init__(
        self,
        ground_truth: GroundTruthSource,
        results: ResultsSource,
        skeleton: Skeleton = COCO_17,
        *,
        bootstrap: int = 0,
        setting: Mapping[str, Any] | None = None,
        only_labelled: bool = False,
        regions: RegionMap | None = None,
        colour: Mapping[int, float] | None = None,
    ) -> None:
        self.truth = read_ground_truth(ground_truth, skeleton)
        self._results = load_results(results)
        self.assumptions = list(self.truth.assumptions)
        self.found = read_results(self._results, self.truth, only_labelled=only_labelled, assumptions=self.assumptions)
        self.entries = self._results.entries
        self.bootstrap = bootstrap
        self.setting = dict(setting or {})
        self._regions = regions or RegionMap()
        self._colour = dict(colour or {})
        self._carried = CarriedRadii(self.entries, len(self.truth.skeleton))

    @property
    def skeleton(self) -> Skeleton:
        """Of the poses."""
        return self.truth.skeleton

    @cached_property
    def oks(self) -> list[Floats]:
        """`(p, g)` of each image: the OKS of its poses with its people."""
        return oks_matrices(self.truth, self.found)

    @cached_property
    def table(self) -> MatchTable:
        """Matched poses and false positives at each OKS threshold of AP."""
        return MatchTable.match(self.truth, self.found, self.oks)

    @cached_property
    def ap(self) -> AveragePrecision:
        """COCO's figures."""
        table = self.table if self.bootstrap else None
        return evaluate_found(self.truth, self.found, self.bootstrap, setting=self.setting, table=table)

    @cached_property
    def matches(self) -> Matches:
        """All poses with the people that they are matched with."""
        return match_found(self.truth, self.found, self.oks)

    @cached_property
    def keypoints_img(self) -> Floats:
        """`(n, k, 2)`: the keypoints of `matches`."""
        points = np.zeros((len(self.entries), len(self.skeleton), 2))
        for image in self.found:
            points[image.entries] = image.keypoints_img
        return points[self.matches.entry]

    @cached_property
    def _cross_fit(self) -> tuple[Matches | None, str]:
        try:
            return cross_fit(self.matches), ""
        except InputError as error:
            return None, str(error)

    @property
    def cross_fitted(self) -> Matches | None:
        """`matches` with cross-fitted scores: each image calibrated by maps of the others; None where not possible."""
        return self._cross_fit[0]

    @property
    def not_calibrated(self) -> str:
        """Why there are no cross-fitted scores; empty where there are."""
        return self._cross_fit[1]

    @cached_property
    def populations(self) -> dict[str, Flags]:
        """`(n,)` of `matches`: the poses of each population, which the given scores choose.

        Beside those of `populations` there is "people", the poses of highest score, as many as there are people to
        find. It does not depend on what scores mean, so it is the same before and after a calibration.
        """
        return populations(self.matches) | {"people": best_poses(self.matches, int(self.truth.wanted.sum()))}

    @property
    def shown(self) -> Flags:
        """`(n,)` of `matches`: the poses of score 0.05 or more, which parts, keypoint figures and charts are of."""
        return self.populations["score"]

    @cached_property
    def scores(self) -> dict[str, ScoreFigures]:
        """What the scores are worth as given, by population."""
        return {name: score_figures(self.matches[mask], self.bootstrap) for name, mask in self.populations.items()}

    @cached_property
    def calibrated(self) -> dict[str, ScoreFigures]:
        """The same poses after cross-fitted calibration; empty where that is not possible."""
        after = self.cross_fitted
        if after is None:
            return {}
        return {name: score_figures(after[mask], self.bootstrap) for name, mask in self.populations.items()}

    @cached_property
    def slices(self) -> dict[str, dict[str, BeforeAfter]]:
        """What the scores of parts of the shown poses are worth: slicing -> part -> figures."""
        return {
            slicing: {part: self.figures(mask & self.shown) for part, mask in parts.items()}
            for slicing, parts in slices(self.matches).items()
        }

    @cached_property
    def keypoints(self) -> KeypointFigures | None:
        """What the keypoint scores of the shown poses are worth; None where there are none."""
        return keypoint_figures(self.matches[self.shown], self.bootstrap)

    @cached_property
    def calibrated_keypoints(self) -> KeypointFigures | None:
        """The same after cross-fitted calibration."""
        return None if self.cross_fitted is None else keypoint_figures(self.cross_fitted[self.shown], self.bootstrap)

    @cached_property
    def keypoint_parts(self) -> dict[str, tuple[KeypointFigures, KeypointFigures | None]]:
        """What the scores of visible and of occluded keypoints are worth, before and after calibration."""
        before = keypoint_parts(self.matches[self.shown], self.bootstrap)
        fitted = self.cross_fitted
        after = {} if fitted is None else keypoint_parts(fitted[self.shown], self.bootstrap)
        return {part: (figures, after.get(part)) for part, figures in before.items()}

    @property
    def has_regions(self) -> bool:
        """Whether `coverage` is of the model's own regions."""
        return not self._regions.is_empty

    @property
    def carries_regions(self) -> bool:
        """Whether `coverage` is of the radii that the results carry; else, without a model's, it is cross-fitted."""
        return not self.has_regions and self._carried.coverage is not None

    @cached_property
    def coverage(self) -> list[Coverage]:
        """The share of labelled keypoints of matched poses in their regions; empty where too few images have any."""
        matched = self.matches[self.matches.person >= 0]
        if self.has_regions:
            radii = radii_of(self._regions, CalibrationMap(), matched, self.skeleton, COVERAGES)
        elif self.carries_regions:
            radii = self._carried.of(matched)
        else:
            radii = cross_fitted_radii(matched, self.skeleton)
        return coverage_rows(matched, radii, keypoint_groups(matched, radii.scores), self.bootstrap)

    @cached_property
    def has_keypoint_scores(self) -> bool:
        """Whether the third numbers of the results are keypoint scores, and no flags."""
        return has_keypoint_scores(self.matches)

    @cached_property
    def keypoint_means(self) -> BeforeAfter:
        """Score figures of the shown poses, where the score of a pose is the mean of its keypoint scores."""
        return self.figures(self.shown, by_keypoints=True)

    @cached_property
    def first_person(self) -> list[int]:
        """Of each image, how many people are annotated in the images before: `Matches.person` counts from there."""
        counts = [len(people.area) for people in self.truth.people]
        return [0, *np.cumsum(counts).tolist()][:-1]

    @cached_property
    def error_kinds(self) -> Integers:
        """`(n, k)`: the kind of error of each keypoint (`keypoint_error_kinds`)."""
        return keypoint_error_kinds(self.truth, self.matches, self.keypoints_img)

    @cached_property
    def repairs(self) -> list[Repair]:
        """What each kind of error costs."""
        return repairs(self.truth, self.found, self.matches, self.keypoints_img, self.error_kinds, self.oks)

    @cached_property
    def cautions(self) -> list[str]:
        """What a reader of the figures must know of the file: `assumptions`, few images, odd scores, ties."""
        return self.assumptions + cautions(self.truth, self.found, self.matches, self.oks)

    @property
    def warnings(self) -> list[str]:
        """`cautions`, and before them why there are no calibrated figures."""
        return ([f"not calibrated: {self.not_calibrated}"] if self.not_calibrated else []) + self.cautions

    def population(self, name: str) -> BeforeAfter:
        """Score figures of a population.

        Args:
            name: a key of `populations`, such as "score" or "best".

        Returns:
            Its figures before and after cross-fitted calibration.
        """
        return BeforeAfter(self.scores[name], self.calibrated.get(name))

    def keypoint_pairs(self, matches: Matches) -> tuple[Floats, Floats]:
        """Scores and similarities of all labelled keypoints of the shown poses that are matched.

        Args:
            matches: `matches` or `cross_fitted`.

        Returns:
            The keypoint scores `(m,)`, and the similarities `(m,)`.
        """
        chosen = self.shown[:, None] & np.isfinite(matches.similarity)
        return matches.keypoint_scores[chosen], matches.similarity[chosen]

    def file_name(self, image: int) -> str:
        """The file name of an image.

        Args:
            image: its index in the order of the image ids.

        Returns:
            Its name in the ground truth.
        """
        return self.truth.files[self.truth.image_ids[image]]

    def figures(self, mask: Flags, by_keypoints: bool = False) -> BeforeAfter:
        """Score figures of some poses.

        Args:
            mask: (n,) of `matches`.
            by_keypoints: take the mean of a pose's keypoint scores for its score.

        Returns:
            The figures of these poses before and after cross-fitted calibration.
        """

        def measured(matches: Matches) -> ScoreFigures:
            chosen = matches[mask]
            if by_keypoints:
                chosen = replace(chosen, score=chosen.keypoint_scores.mean(1))
            return score_figures(chosen, self.bootstrap)

        return BeforeAfter(measured(self.matches), None if self.cross_fitted is None else measured(self.cross_fitted))

    def image_summaries(self) -> ImageSummaries:
        """What was found in the images, whoever is annotated there: with it later images are compared.

        Returns:
            For each image with poses: their raw scores and sizes, and the image's colour where it was read.
        """
        chosen = chosen_images(len(self.found)).tolist()
        colour = [self._colour.get(self.truth.image_ids[i]) for i in chosen]
        known = [value for value in colour if value is not None]
        found = [(self.found[i].scores, pose_sizes_img(self.found[i].keypoints_img)) for i in chosen]
        return ImageSummaries.of(found, colour=known if len(known) == len(colour) else ())

    def fit_calibration(self, setting: Setting | None = None, data: str = "") -> Calibration:
        """Fit a calibration to all images.

        Args:
            setting: with which the poses were predicted; the maps keep it.
            data: name of the data; likewise.

        Returns:
            The maps, the counts for target precisions, the regions, and what was found in the images.

        Raises:
            InputError: poses in fewer than ten images, or all of the same score.
        """
        calibration = fit_maps(self.matches, int(self.truth.wanted.sum()), setting, data, self.skeleton)
        return msgspec.structs.replace(calibration, images=self.image_summaries())

    def calibrated_entries(self, calibration: Calibration | None = None) -> list[dict[str, Any]]:
        """The results with calibrated scores, of keypoints too; all else stays.

        Args:
            calibration: the maps; by default each image is calibrated by maps of the others (cross-fitted).

        Returns:
            Entries of a COCO keypoint results file, in the order of the given ones.

        Raises:
            InputError: cross-fitting is not possible.
        """
        if calibration is not None:
            return calibrate_entries(self._results, calibration)
        if self.cross_fitted is None:
            raise InputError(self.not_calibrated)
        return calibrate_entries(self._results, self.fit_calibration(), self.cross_fitted)

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain data.

        Returns:
            A dictionary of numbers, lists and strings, fit for JSON; nan becomes None.
        """
        figures: dict[str, Any] = plain(
            {
                "ap": self.ap,
                "scores": self.scores,
                "calibrated": self.calibrated,
                "slices": self.slices,
                "keypoints": self.keypoints,
                "keypoint_parts": self.keypoint_parts,
                "calibrated_keypoints": self.calibrated_keypoints,
                "regions": {
                    "of_the_model": self.has_regions,
                    "of_the_results": self.carries_regions,
                    "coverage": self.coverage,
                },
                "warnings": self.warnings,
            }
        )
        return figures
