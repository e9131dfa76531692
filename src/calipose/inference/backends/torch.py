"""The backend that runs a network in PyTorch."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calipose.calibration.maps import Calibration
from calipose.geometry import Floats
from calipose.inference.backends.base import BatchPoses
from calipose.model.decode import find_candidates
from calipose.model.network import Network
from calipose.skeleton import Skeleton


class TorchBackend:
    """A `Network` on one device; `precision` as in recipes; `calibration` gives its scores their meaning."""

    def __init__(
        self,
        network: Network,
        skeleton: Skeleton,
        device: str | torch.device = "cpu",
        precision: str = "fp32",
        calibration: Calibration | None = None,
    ) -> None:
        self.network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.skeleton = skeleton
        r, g, b = (round(float(m)) for m in network.mean.flatten())
        self.pad_colour = (r, g, b)
        self.device = torch.device(device)
        self.precision = precision
        self.calibration = calibration or Calibration()

    def candidates(self, images: NDArray[np.uint8], most: int, flip: bool) -> BatchPoses:
        """See `Backend.candidates`."""
        was_training = self.network.training
        self.network.eval()
        try:
            batch = torch.from_numpy(np.ascontiguousarray(images)).to(self.device)
            index = self.skeleton.flip_index.tolist() if flip else None
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
                found = find_candidates(self.network, batch, most, index)
        finally:
            self.network.train(was_training)
        raw, keypoints = _floats(found.scores), found.keypoint_scores
        return BatchPoses(
            _floats(found.keypoints_inp),
            raw,
            None if keypoints is None else self.calibration.keypoint(_floats(keypoints).clip(0, 1)),
            None if found.queries_inp is None else _floats(found.queries_inp),
        )


def _floats(values: Tensor) -> Floats:
    array: Floats = values.double().cpu().numpy()
    return array
