"""The network that is exported: images in, poses out, with decoding, pose NMS and calibration inside (needs torch)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from calipose.calibration.maps import Calibration, CalibrationMap
from calipose.model.decode import find_candidates, pose_nms_mask
from calipose.model.network import Network


class MapLayer(nn.Module):
    """A `CalibrationMap` as a sum of clipped slopes."""

    def __init__(self, score_map: CalibrationMap) -> None:
        super().__init__()
        self.changes, self.tie_slope = not score_map.is_identity, score_map.tie_slope if score_map.x else 0.0
        x, y = (torch.tensor(values, dtype=torch.float64) for values in (score_map.x, score_map.y))
        for name, values in {"x": x, "y": y, "slope": y.diff() / x.diff()}.items():
            self.register_buffer(name, values.float())
        self.x: Tensor
        self.y: Tensor
        self.slope: Tensor

    def forward(self, raw: Tensor) -> Tensor:
        """Scores of raw scores, any shape."""
        if not self.changes:
            return raw
        beyond = (raw - self.x[0]).clamp(max=0) + (raw - self.x[-1]).clamp(min=0)
        steps = torch.minimum((raw.unsqueeze(-1) - self.x[:-1]).clamp(min=0), self.x.diff())
        mapped: Tensor = self.y[0] + (steps * self.slope).sum(-1) + self.tie_slope * beyond
        return mapped


class DecodedNetwork(nn.Module):
    """Network, decoding, pose NMS and calibration as one graph.

    Input: `images` (b, h, w, 3) uint8 RGB, sides multiples of 32. Outputs: `keypoints` (b, n, k, 2) in input pixels,
    best first; `scores` (b, n), calibrated, 0 where not valid; `raw_scores` (b, n), -inf for padding; `valid` (b, n):
    False for padding and for poses that the NMS drops; with joint scores `keypoint_scores` (b, n, k), calibrated.
    """

    def __init__(
        self,
        network: Network,
        sigmas: tuple[float, ...],
        most: int,
        nms_threshold: float,
        calibration: Calibration | None = None,
    ) -> None:
        super().__init__()
        self.network, self.most, self.nms_threshold = network, most, nms_threshold
        self.register_buffer("sigmas", torch.tensor(sigmas))
        self.sigmas: Tensor
        self.calibration = calibration or Calibration()
        self.score_map = MapLayer(self.calibration.score)
        self.keypoint_map = MapLayer(self.calibration.keypoint)

    @property
    def outputs(self) -> list[str]:
        """Names of what `forward` returns, in its order."""
        keypoints = ["keypoint_scores"] if self.network.head.method.keypoint_scores else []
        return ["keypoints", "scores", "raw_scores", "valid", *keypoints]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        found = find_candidates(self.network, images, self.most)
        valid = pose_nms_mask(found.keypoints_inp, found.scores, self.sigmas, self.nms_threshold)
        scores = torch.where(valid, self.score_map(found.scores), 0.0)
        keypoints = () if found.keypoint_scores is None else (self.keypoint_map(found.keypoint_scores),)
        return found.keypoints_inp, scores, found.scores, valid, *keypoints
