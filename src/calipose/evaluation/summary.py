"""Everything that is measured of one results file: AP, what its scores are worth before and after calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from calipose.errors import InputError
from calipose.evaluation.ap import AveragePrecision, evaluate_results
from calipose.evaluation.calibrate import GOOD_IMAGES, MIN_IMAGES, cross_fit, has_keypoint_scores
from calipose.evaluation.coco_files import GroundTruthSource, ResultsSource, load_results
from calipose.evaluation.matching import Matches, match_poses
from calipose.evaluation.scores import (
    ScoreFigures,
    ece,
    keypoint_auc,
    populations,
    rank_correlation,
    score_figures,
    score_quality,
    slices,
)
from calipose.skeleton import COCO_17, Skeleton

TIES_SAID = 0.2  # share of poses that share their score from which it is said
RIGHT_KEYPOINT = 0.5  # similarity from which a joint is right, in the AUC
SHARE_MARGIN = 0.25  # by which a score may leave [0, 1] without being said


@dataclass(frozen=True)
class KeypointFigures:
    """What joints' scores are worth, over the labelled keypoints of poses of score 0.05 or more that are of somebody.

    Attributes: `auc`, the chance that a right joint (similarity of 0.5 or more) scores higher than a wrong one;
    `pose_spearman`, `pose_ece`: of the mean of a pose's joints' scores as a score of the pose, poses of people only.
    """

    joints: int
    mean_score: float
    mean_similarity: float
    ece: float
    spearman: float
    auc: float
    pose_spearman: float
    pose_ece: float


@dataclass(frozen=True)
class Summary:
    """All figures of one results file.

    Attributes:
        ap: COCO's figures.
        scores: of both populations, as the file has them.
        calibrated: the same after cross-fitted calibration; empty where that is not possible.
        sliced: of the population "score": slicing -> part -> figures before, and after calibration or None.
        joints, calibrated_keypoints: None where joints have no scores of their own.
        warnings: what a reader must know of the file.
    """

    ap: AveragePrecision
    scores: dict[str, ScoreFigures]
    calibrated: dict[str, ScoreFigures]
    sliced: dict[str, dict[str, tuple[ScoreFigures, ScoreFigures | None]]]
    joints: KeypointFigures | None
    calibrated_keypoints: KeypointFigures | None
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and strings, fit for JSON; nan becomes None."""
        entries = {name: value for name, value in asdict(self).items() if name != "ap"}
        plain: dict[str, Any] = _without_nan({"ap": self.ap.to_dict(), **entries})
        return plain


def summarise(
    ground_truth: GroundTruthSource,
    results: ResultsSource,
    skeleton: Skeleton = COCO_17,
    bootstrap: int = 0,
    setting: Mapping[str, Any] | None = None,
) -> Summary:
    """All figures of a results file; `bootstrap` resamples of the images give intervals, 0 none.

    Raises:
        InputError: as `read_ground_truth` and `read_results`.
    """
    ap = evaluate_results(ground_truth, results, skeleton, bootstrap, setting=setting)
    matches = match_poses(ground_truth, results, skeleton)
    warnings = []
    try:
        after: Matches | None = cross_fit(matches)
    except InputError as error:
        after = None
        warnings.append(f"not calibrated: {error}")
    warnings += cautions(ground_truth, results, matches, skeleton)
    masks = populations(matches)  # the same poses before and after
    sliced: dict[str, dict[str, tuple[ScoreFigures, ScoreFigures | None]]] = {}
    for name, parts in slices(matches).items():
        chosen = {part: mask & masks["score"] for part, mask in parts.items()}
        sliced[name] = {
            part: (score_figures(matches[mask], bootstrap), score_figures(after[mask], bootstrap) if after else None)
            for part, mask in chosen.items()
        }
    return Summary(
        ap=ap,
        scores=score_quality(matches, bootstrap),
        calibrated={name: score_figures(after[mask], bootstrap) for name, mask in masks.items()} if after else {},
        sliced=sliced,
        joints=keypoint_figures(matches[masks["score"]]),
        calibrated_keypoints=keypoint_figures(after[masks["score"]]) if after else None,
        warnings=warnings,
    )


def keypoint_figures(matches: Matches) -> KeypointFigures | None:
    """What the joints' scores are worth; None where there are none."""
    labelled = np.isfinite(matches.similarity)
    score, similarity = matches.keypoint_scores[labelled], matches.similarity[labelled]
    if not len(score) or not has_keypoint_scores(matches):
        return None
    people = matches[matches.labelled > 0]
    mean = people.keypoint_scores.mean(1)
    return KeypointFigures(
        joints=len(score),
        mean_score=float(score.mean()),
        mean_similarity=float(similarity.mean()),
        ece=ece(score, similarity),
        spearman=rank_correlation(score, similarity),
        auc=keypoint_auc(score, similarity >= RIGHT_KEYPOINT),
        pose_spearman=rank_correlation(mean, people.oks),
        pose_ece=ece(mean, people.oks),
    )


def cautions(
    ground_truth: GroundTruthSource, results: ResultsSource, matches: Matches, skeleton: Skeleton = COCO_17
) -> list[str]:
    """What a reader must know of the figures of a file, in words: few images, odd scores, ties."""
    warnings = []
    images, score = len(np.unique(matches.image)), matches.score
    if MIN_IMAGES <= images < GOOD_IMAGES:
        warnings.append(
            f"calibrated by poses in {images} images only: with less than {GOOD_IMAGES} chance plays a part, and"
            " the maps of the folds differ, which changes the order between images"
        )
    if len(score) and not (score.min() > -SHARE_MARGIN and score.max() < 1 + SHARE_MARGIN):
        warnings.append(
            f"scores go from {score.min():.3g} to {score.max():.3g}: they are no expected OKS, so the figures as given"
            " say little of them"
        )
    return warnings + ties(ground_truth, results, matches, skeleton)


def ties(
    ground_truth: GroundTruthSource, results: ResultsSource, matches: Matches, skeleton: Skeleton = COCO_17
) -> list[str]:
    """What it costs that poses share their scores, in words; nothing where few do."""
    score = matches.score
    if len(score) < 2:
        return []
    values, group, count = np.unique(score, return_inverse=True, return_counts=True)
    if len(values) == 1:
        return [f"all {len(score)} poses have the score {score[0]:g}: nothing says which of them are good"]
    shared = int((count[group] > 1).sum())
    if shared < TIES_SAID * len(score):
        return []
    entries = load_results(results)
    rank = np.unique([entry["score"] for entry in entries], return_inverse=True)[1].astype(np.float64)
    nudge = np.zeros(len(entries))
    nudge[matches.entry] = matches.oks / 4  # less than what parts two ranks
    worst, best = (
        evaluate_results(
            ground_truth,
            [entry | {"score": score} for entry, score in zip(entries, (rank + sign * nudge).tolist(), strict=True)],
            skeleton,
        ).ap
        for sign in (-1, 1)
    )
    return [
        f"{shared} of {len(score)} poses share their score with others, as if scores were rounded: depending on the"
        f" order of equals AP lies between {worst:.3f} and {best:.3f}; write scores that are not rounded"
    ]


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
