"""The network that is exported: images in, poses out, with decoding, pose NMS and calibration inside (needs torch)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from calipose.calibration.maps import Calibration, CalibrationMap
from calipose.model.decode import find_candidates, pose_nms_mask
from calipose.model.network import Network


class CalibrationMapLayer(nn.Module):
    """A `CalibrationMap` as a sum of clipped slopes."""

    def __init__(self, calibration_map: CalibrationMap) -> None:
        super().__init__()
        self.is_identity = calibration_map.is_identity
        self.tie_slope = 0.0 if self.is_identity else calibration_map.tie_slope
        x, y = (torch.tensor(values, dtype=torch.float64) for values in (calibration_map.x, calibration_map.y))
        for name, values in {"x": x, "y": y, "slope": y.diff() / x.diff()}.items():
            self.register_buffer(name, values.float())
        self.x: Tensor
        self.y: Tensor
        self.slope: Tensor

    def forward(self, raw: Tensor) -> Tensor:
        """Scores of raw scores, any shape."""
        if self.is_identity:
            return raw
        beyond = (raw - self.x[0]).clamp(max=0) + (raw - self.x[-1]).clamp(min=0)
        steps = torch.minimum((raw.unsqueeze(-1) - self.x[:-1]).clamp(min=0), self.x.diff())
        mapped: Tensor = self.y[0] + (steps * self.slope).sum(-1) + self.tie_slope * beyond
        return mapped


class DecodedNetwork(nn.Module):
    """Network, decoding, pose NMS and calibration as one graph.

    Input: `images` (b, h, w, 3) uint8 RGB, sides multiples of 32. Outputs, best candidates first:

    - `keypoints` (b, n, k, 2), in input pixels.
    - `scores` (b, n), calibrated; 0 where not valid.
    - `raw_scores` (b, n), the network's own; -inf for padding.
    - `valid` (b, n), False for padding and for poses that the NMS drops.
    - `keypoint_scores` (b, n, k), calibrated, in [0, 1]; only where the network gives keypoint scores.
    - `raw_keypoint_scores` (b, n, k), the network's own; only where the network gives keypoint scores.

    Args:
        network: in evaluation mode.
        sigmas: of the skeleton's OKS.
        max_poses: candidates of an image.
        nms_threshold: of the pose NMS.
        calibration: its maps of pose and keypoint scores go into the graph; by default none.
    """

    def __init__(
        self,
        network: Network,
        sigmas: tuple[float, ...],
        max_poses: int,
        nms_threshold: float,
        calibration: Calibration | None = None,
    ) -> None:
        super().__init__()
        self.network, self.max_poses, self.nms_threshold = network, max_poses, nms_threshold
        self.register_buffer("sigmas", torch.tensor(sigmas))
        self.sigmas: Tensor
        self.calibration = calibration or Calibration()
        self.pose_calibration = CalibrationMapLayer(self.calibration.score)
        self.keypoint_calibration = CalibrationMapLayer(self.calibration.keypoint)

    @property
    def outputs(self) -> list[str]:
        """Names of what `forward` returns, in its order."""
        keypoints = ["keypoint_scores", "raw_keypoint_scores"] if self.network.head.method.keypoint_scores else []
        return ["keypoints", "scores", "raw_scores", "valid", *keypoints]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        found = find_candidates(self.network, images, self.max_poses)
        valid = pose_nms_mask(found.keypoints_inp, found.scores, self.sigmas, self.nms_threshold)
        scores = torch.where(valid, self.pose_calibration(found.scores), 0.0)
        poses = found.keypoints_inp, scores, found.scores, valid
        if found.keypoint_scores is None:
            return poses
        # As `Calibration.calibrate_keypoints`: clipped before and after the map.
        calibrated = self.keypoint_calibration(found.keypoint_scores.clamp(0, 1)).clamp(0, 1)
        return *poses, calibrated, found.keypoint_scores
