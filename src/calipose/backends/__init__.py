"""What runs the network: a backend takes a batch of network inputs and gives candidate poses."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from calipose.skeleton import Skeleton


class Backend(Protocol):
    """Runs a network; knows its skeleton and the colour that pads its input."""

    skeleton: Skeleton
    pad_colour: tuple[int, int, int]

    def candidates(
        self, images: NDArray[np.uint8], most: int, flip: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64] | None]:
        """Candidate poses of `images` (b, h, w, 3) RGB.

        Returns: keypoints_inp (b, n, k, 2); scores (b, n), best first, -inf for padding; keypoint queries_inp
        (b, n, k, 2), or None where the network has none.
        """
        ...
