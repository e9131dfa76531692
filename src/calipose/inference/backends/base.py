"""What runs the network: a backend takes a batch of network inputs and gives candidate poses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from calipose.geometry import Floats
from calipose.skeleton import Skeleton


@dataclass(frozen=True, eq=False)
class BatchPoses:
    """Candidate poses of a batch of b images, n each, best first.

    Attributes:
        keypoints_inp: (b, n, k, 2).
        raw_scores: (b, n), the network's own, before calibration; -inf for padding.
        keypoint_scores: (b, n, k), calibrated where the model is; or None where the network gives none.
        queries_inp: (b, n, k, 2), the keypoint queries, or None where the backend has none.
    """

    keypoints_inp: Floats
    raw_scores: Floats
    keypoint_scores: Floats | None = None
    queries_inp: Floats | None = None


class Backend(Protocol):
    """Runs a network; knows its skeleton and the colour that pads its input.

    One that is calibrated has a `calibration`, too.
    """

    @property
    def skeleton(self) -> Skeleton:
        """Skeleton of the poses."""
        ...

    @property
    def pad_colour(self) -> tuple[int, int, int]:
        """RGB of what lies outside of an image."""
        ...

    def candidates(self, images: NDArray[np.uint8], most: int, flip: bool) -> BatchPoses:
        """Candidate poses of `images` (b, h, w, 3) RGB, at most `most` an image; `flip` averages with the mirrored
        images.
        """
        ...
