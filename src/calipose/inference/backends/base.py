"""What runs the network: a backend takes a batch of network inputs and gives candidate poses with raw scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from calipose.calibration.maps import Calibration
from calipose.config.settings import PredictSettings
from calipose.geometry import Floats
from calipose.io.images import Image
from calipose.skeleton import Skeleton


@dataclass(frozen=True, eq=False)
class BatchCandidates:
    """Candidate poses of a batch of b images, n each, best first; all scores are the network's own.

    Attributes:
        keypoints_inp: (b, n, k, 2).
        raw_scores: (b, n), before calibration; -inf for padding.
        raw_keypoint_scores: (b, n, k), before calibration and clipping; None where the network gives none.
        queries_inp: (b, n, k, 2), the keypoint queries; None where the backend has none.
    """

    keypoints_inp: Floats
    raw_scores: Floats
    raw_keypoint_scores: Floats | None = None
    queries_inp: Floats | None = None


class Backend(Protocol):
    """Runs a network and says what its model knows of itself; `Predictor` does all the rest.

    A backend gives raw scores: no calibration map is applied in it. Its `candidates` may be called from several
    threads at once.

    Example:
        A backend for tests, which finds nobody::

            class Nobody:
                skeleton, pad_colour = COCO_17, (0, 0, 0)
                settings, calibration = PredictSettings(), Calibration()

                def candidates(self, images, max_poses, flip):
                    return BatchCandidates(np.zeros((len(images), 1, 17, 2)), np.full((len(images), 1), -np.inf))
    """

    @property
    def skeleton(self) -> Skeleton:
        """Skeleton of the poses."""
        ...

    @property
    def pad_colour(self) -> tuple[int, int, int]:
        """RGB of what lies outside of an image."""
        ...

    @property
    def settings(self) -> PredictSettings:
        """The model's own settings of prediction."""
        ...

    @property
    def calibration(self) -> Calibration:
        """What the model's raw scores mean; the identity where it was never calibrated."""
        ...

    def candidates(self, images: NDArray[np.uint8], max_poses: int, flip: bool) -> BatchCandidates:
        """Candidate poses of a batch of network inputs.

        Args:
            images: (b, h, w, 3) RGB.
            max_poses: candidates of an image, at most.
            flip: average with the mirrored images.
        """
        ...


@runtime_checkable
class OwnInput(Protocol):
    """A backend that prepares images in its own way, as another project's model needs; others take the padded image."""

    def network_input(self, image: Image, short_side: int) -> tuple[Image, Floats]:
        """The network's input of an image.

        Args:
            image: (h, w, 3) RGB.
            short_side: of the input, in pixels.

        Returns:
            The input (H, W, 3) uint8, and the affine `(2, 3)` from the image to the coordinates of the candidates.
        """
        ...
