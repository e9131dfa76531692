"""Backbone and head as one network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from calipose.config.method import Method
from calipose.model.backbones.base import Backbone
from calipose.model.backbones.build import build_backbone
from calipose.model.head import Head, Maps, SparseMaps


@dataclass(frozen=True)
class Output:
    """Maps of a batch, and keypoints at chosen cells.

    Attributes:
        maps: the head's maps.
        displacements: `(b, k, m, 2)`, from each chosen cell to its pose's keypoints, in cells.
        keypoint_scores: `(b, k, m)`; None where the network has none.
    """

    maps: Maps
    displacements: Tensor
    keypoint_scores: Tensor | None


class Network(nn.Module):
    """The paper's network, backbone and head; it knows nothing of files, thresholds or people.

    Args:
        backbone: a backbone, or a name that `build_backbone` accepts.
        keypoints: number of keypoints.
        method: switches of the paper's tables; the full method by default.

    Example:
        >>> network = Network("hrnet-w32").eval()
        >>> network.encode(torch.zeros(1, 64, 96, 3)).score.shape
        torch.Size([1, 16, 24])
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
        """Compute the maps of images.

        Args:
            images: `(b, h, w, 3)` RGB, 0 to 255, uint8 or float; h and w are multiples of 32.
        """
        maps: Maps = self.head(self.backbone(self._normalise(images)))
        return maps

    def encode_sparse(self, images: Tensor) -> SparseMaps:
        """Compute what the sparse form needs of images; the head has a presence map.

        Args:
            images: as for `encode`.
        """
        return self.head.sparse(*self.backbone.forward_sparse(self._normalise(images)))

    def _normalise(self, images: Tensor) -> Tensor:
        # The images' own order (rows, columns, channels) is the channels-last layout the convolutions like best.
        return (images.permute(0, 3, 1, 2).to(self.mean.dtype) - self.mean) / self.std

    def forward(self, images: Tensor, cells: Tensor) -> Output:
        """Compute the maps of images, and the keypoints at chosen cells.

        Args:
            images: as for `encode`.
            cells: `(b, m, 2)` int64, x and y.
        """
        maps = self.encode(images)
        return Output(maps, *self.head.keypoints_at(maps, cells))
