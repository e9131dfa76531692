"""Backbone and head as one network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from calipose.config.method import Method
from calipose.model.backbones.base import Backbone
from calipose.model.backbones.build import build_backbone
from calipose.model.head import Head, Maps


@dataclass(frozen=True)
class Output:
    """Maps of a batch, and at the cells that were asked for the displacements (b, k, m, 2) and, where the network has
    them, the joints' scores (b, k, m).
    """

    maps: Maps
    displacements: Tensor
    keypoint_scores: Tensor | None


class Network(nn.Module):
    """The paper's network; it knows nothing of files, thresholds or people.

    Args: `backbone` as `build_backbone` names it; `keypoints` of the skeleton; `method`, the paper's switches.
    """

    def __init__(self, backbone: str | Backbone, keypoints: int = 17, method: Method | None = None) -> None:
        super().__init__()
        self.backbone = build_backbone(backbone) if isinstance(backbone, str) else backbone
        self.head = Head(self.backbone.channels, keypoints, method or Method())
        self.register_buffer("mean", torch.tensor(self.backbone.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(self.backbone.std).view(1, 3, 1, 1), persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def encode(self, images: Tensor) -> Maps:
        """Maps of `images` (b, h, w, 3), RGB of 0 to 255, uint8 or float; sides are multiples of 32."""
        # The images' own order (rows, columns, channels) is the channels-last layout the convolutions like best.
        channels_first = images.permute(0, 3, 1, 2).to(self.mean.dtype)
        maps: Maps = self.head(self.backbone((channels_first - self.mean) / self.std))
        return maps

    def forward(self, images: Tensor, cells: Tensor) -> Output:
        """Maps of `images` (see `encode`) and the displacements at `cells` (b, m, 2) int64."""
        maps = self.encode(images)
        return Output(maps, *self.head.keypoints_at(maps, cells))
