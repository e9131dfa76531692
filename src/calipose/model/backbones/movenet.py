"""MobileNetV2 with the feature pyramid of MoveNet MultiPose (Google, Apache-2.0), up to stride 4.

The pyramid adds the coarser map, upsampled bilinearly, to a projection of the finer one, three times, and smooths each
sum by a separable convolution. What MoveNet's own four heads compute before their last layers (a separable convolution
with ReLU each: person's centre, keypoint heat maps, displacements to the keypoints, offsets) is this network's finest
map, so that everything its authors trained is at hand for a linear layer. `tools/default_start.py` reads the
weights from the published .tflite file.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calipose.model.backbones.base import Backbone, initialise
from calipose.model.backbones.mobilenet import MobileNetV2
from calipose.model.sampling import Finest

TOP = 1280  # channels of MobileNetV2's last layer, whatever its width
PYRAMID = (64, 32, 24)  # channels of the sums at strides 16, 8 and 4
FINEST = 24
LATERAL_STAGES = (1, 2, 3, 6)  # at stride 16 it is the earlier of MobileNetV2's two stages
HIDDEN = 96
HEADS = ("center", "heatmap", "displacement", "offset")


class SeparableReLU(nn.Sequential):
    """Depthwise 3x3 and 1x1 convolution, ReLU at the end only."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False),
            nn.Conv2d(inputs, outputs, 1),
            nn.ReLU(inplace=True),
        )


class MoveNetPyramid(Backbone):
    """MobileNetV2 x `width` and MoveNet's pyramid: 384, 32, 64 and 64 channels at strides 4, 8, 16 and 32.

    The map at stride 4 holds the hidden layers of MoveNet's heads, 96 channels each in the order of `HEADS`; those at 8
    and 16 are sums of the pyramid; the one at 32 is its top.

    Args:
        width: factor of MobileNetV2's channels; MoveNet MultiPose has 1.5.

    Example:
        >>> MoveNetPyramid(1.5).channels
        (384, 32, 64, 64)
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        self.body = MobileNetV2(width, LATERAL_STAGES)
        self.mean, self.std = self.body.mean, self.body.std
        c4, c8, c16, c32 = self.body.channels
        self.top = nn.Sequential(nn.Conv2d(c32, TOP, 1), nn.ReLU6(inplace=True), nn.Conv2d(TOP, PYRAMID[0], 1))
        self.laterals = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 1) for inputs, outputs in zip((c16, c8, c4), PYRAMID, strict=True)
        )
        self.smooths = nn.ModuleList(
            SeparableReLU(inputs, outputs) for inputs, outputs in zip(PYRAMID, (*PYRAMID[1:], FINEST), strict=True)
        )
        self.heads = nn.ModuleDict({name: SeparableReLU(FINEST, HIDDEN) for name in HEADS})
        self.channels = (HIDDEN * len(HEADS), PYRAMID[1], PYRAMID[0], PYRAMID[0])
        initialise(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """See `Backbone.forward`."""
        return self.forward_sparse(images)[0]

    def forward_sparse(self, images: Tensor) -> tuple[list[Tensor], Finest]:
        """See `Backbone.forward_sparse`: the four heads' depthwise maps have a quarter of the channels."""
        *fine, c32 = self.body(images)
        top: Tensor = self.top(c32)
        sums = []
        x = top
        for lateral, smooth, finer in zip(self.laterals, self.smooths, reversed(fine), strict=True):
            summed = lateral(finer) + F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            sums.append(summed)
            x = smooth(summed)
        depthwise, heads = [], []
        for head in self.heads.values():
            depthwise.append(head[0](x))  # type: ignore[index]
            heads.append(head[2](head[1](depthwise[-1])))  # type: ignore[index]
        layers = tuple((head[1].weight.flatten(1), head[1].bias) for head in self.heads.values())  # type: ignore[index]
        finest = torch.cat(heads, 1)
        return [finest, sums[1], sums[0], top], Finest(torch.cat(depthwise, 1), layers)
