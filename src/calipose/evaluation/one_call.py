"""What Python users begin with: evaluating results, and fitting a calibration, in one call each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calipose.calibration.maps import Calibration
from calipose.evaluation.evaluation import Evaluation
from calipose.evaluation.ground_truth import GroundTruthSource
from calipose.evaluation.results import ResultsSource
from calipose.skeleton import COCO_17, Skeleton


def evaluate(
    ground_truth: GroundTruthSource,
    results: ResultsSource,
    skeleton: Skeleton = COCO_17,
    *,
    bootstrap: int = 0,
    setting: Mapping[str, Any] | None = None,
    only_labelled: bool = False,
) -> Evaluation:
    """Evaluate COCO keypoint results of any model: what `calipose evaluate` and `calipose report` show.

    Args:
        ground_truth: a COCO keypoint file, its content, or what `read_ground_truth` gave.
        results: a COCO keypoint results file, or its entries.
        skeleton: of both.
        bootstrap: resamples of the images for the 95 % intervals, 0 for none.
        setting: what the figures hold for, shown beside them.
        only_labelled: leave out results of images that the ground truth does not have, instead of refusing them.

    Returns:
        An object that computes each figure when it is first asked for.

    Raises:
        InputError: an entry of a file is wrong.

    Example:
        >>> evaluation = calipose.evaluate("annotations.json", "results.json", bootstrap=1000)
        >>> print(evaluation.ap)
    """
    return Evaluation(
        ground_truth, results, skeleton, bootstrap=bootstrap, setting=setting, only_labelled=only_labelled
    )


def fit_calibration(
    ground_truth: GroundTruthSource, results: ResultsSource, skeleton: Skeleton = COCO_17, data: str = ""
) -> Calibration:
    """Fit the maps from raw scores to expected OKS, as `calipose calibrate` does.

    Args:
        ground_truth: a COCO keypoint file, its content, or what `read_ground_truth` gave.
        results: a COCO keypoint results file, or its entries, of images that the model was not trained on.
        skeleton: of both.
        data: name of the data, which the maps keep.

    Returns:
        The maps of poses and of keypoints, the counts for target precisions, and the regions.

    Raises:
        InputError: an entry of a file is wrong; poses in fewer than ten images, or all of the same score.

    Example:
        >>> calibration = calipose.fit_calibration("annotations.json", "results.json")
        >>> calibration.score([0.5, 0.9])  # the expected OKS
    """
    return Evaluation(ground_truth, results, skeleton).fit_calibration(data=data)
