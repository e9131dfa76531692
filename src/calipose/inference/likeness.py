"""Whether the images of a run are like those of the model's calibration."""

from __future__ import annotations

import random

from calipose.calibration.shift import (
    MAX_RUN_IMAGES,
    ImageSummaries,
    Shift,
    colour_of,
    compare_images,
    pose_sizes_img,
)
from calipose.geometry import Floats
from calipose.inference.predictor import Predictor
from calipose.inference.stream import ImageResult


class LikenessOfImages:
    """Collects what is found in the still images of a run, of many a random sample, and compares it.

    Frames of a video are no independent images; do not add them.

    Example:
        >>> likeness = LikenessOfImages(predictor, min_score=0.3)
        >>> for result in predict_images(predictor, sources, PredictOptions(), print):
        ...     likeness.add(result)
        >>> print(likeness.shift)

    Args:
        predictor: of the run.
        min_score: poses below are not kept in the run.
    """

    def __init__(self, predictor: Predictor, min_score: float) -> None:
        calibration = predictor.calibration
        fitted = calibration.score.setting
        self._known = calibration.images if fitted in {None, predictor.setting} else ImageSummaries()
        self._min_raw = float(calibration.score.inverse(min_score))
        self._found: list[tuple[Floats, Floats, float]] = []  # raw scores, sizes, colour
        self._images, self._random = 0, random.Random(0)

    def add(self, result: ImageResult) -> None:
        """Add a still image."""
        poses = result.poses
        if not len(self._known) or poses.raw_scores is None:
            return
        self._images += 1
        place = len(self._found) if len(self._found) < MAX_RUN_IMAGES else self._random.randrange(self._images)
        if place < MAX_RUN_IMAGES:
            found = poses.raw_scores, pose_sizes_img(poses.keypoints_img), colour_of(result.frame.image)
            self._found[place : place + 1] = [found]

    @property
    def shift(self) -> Shift | None:
        """How the images differ; None where the model or the run has nothing to compare."""
        if not self._found:
            return None
        found = [(raw, size) for raw, size, _ in self._found]
        run = ImageSummaries.of(found, MAX_RUN_IMAGES, colour=[colour for *_, colour in self._found])
        return compare_images(self._known, run, self._min_raw)
