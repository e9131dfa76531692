"""Parameters and multiply-adds, as the paper's Table 1 counts them.

A multiply-add counts once, though the table's column is called FLOPs. Only convolutions and linear layers count, not
normalisation, activation, sampling or upsampling, as in DEKR. 1 G is 1e9.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from calipose.config.method import Method
from calipose.geometry import STRIDE
from calipose.model.backbones.base import STRIDES, Backbone
from calipose.model.head import Head, Maps, SparseMaps
from calipose.model.network import Network
from calipose.model.sampling import Finest


@dataclass(frozen=True)
class Counts:
    """Parameters and multiply-adds of one network for one image of `size` x `size` input pixels.

    Attributes:
        size: side of the image in input pixels.
        parameters: parameters of backbone and head, without the running statistics of batch norms.
        backbone_parameters: parameters of the backbone alone.
        backbone_adds: multiply-adds of the backbone alone.
        dense_adds: multiply-adds of the whole network as the paper writes it (Table 1): every layer of the head at
            every cell.
        real_adds: multiply-adds of the whole network as it is computed here in prediction (see `calipose.model.head`).

    Example:
        >>> counts = count_network("hrnet-w32", 512)
        >>> round(counts.parameters / 1e6, 2), round(counts.dense_adds / 1e9, 2)
        (29.61, 46.22)
    """

    size: int
    parameters: int
    backbone_parameters: int
    backbone_adds: int
    dense_adds: int
    real_adds: int


def count_network(
    backbone: str, size: int, keypoints: int = 17, method: Method | None = None, peaks: int = 30
) -> Counts:
    """Count parameters and multiply-adds of a network for a square image, on meta tensors: nothing is computed.

    Args:
        backbone: name that `build_backbone` accepts.
        size: side of the image in input pixels, a multiple of 32.
        keypoints: number of keypoints.
        method: switches of the paper's tables; the full method by default.
        peaks: number of poses per image for which KQE runs in prediction.

    Raises:
        InputError: there is no such backbone.
    """
    with torch.device("meta"):
        network = Network(backbone, keypoints, method)
    adds = backbone_adds(network.backbone, size)
    cells = (size // STRIDE) ** 2
    return Counts(
        size=size,
        parameters=sum(p.numel() for p in network.parameters()),
        backbone_parameters=sum(p.numel() for p in network.backbone.parameters()),
        backbone_adds=adds,
        dense_adds=adds + dense_head_adds(network.head, cells),
        real_adds=adds + real_head_adds(network.head, network.backbone.channels, cells, peaks),
    )


def backbone_adds(backbone: Backbone, size: int) -> int:
    """Multiply-adds of a backbone on the meta device for an image of `size` x `size`."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        backbone.eval()(torch.empty(1, 3, size, size, device="meta"))
    return int(counter.get_total_flops()) // 2  # it counts a multiplication and an addition as two


def dense_head_adds(head: Head, cells: int) -> int:
    """Multiply-adds of the head as the paper writes it: 1x1 convolutions at every cell of stride 4."""
    return cells * sum(_weights(head).values())


def real_head_adds(head: Head, channels: tuple[int, int, int, int], cells: int, peaks: int) -> int:
    """Multiply-adds of the head, on the meta device, as it is computed here: maps, score, and KQE at the peaks.

    Args:
        head: the head; one with a presence map is counted in its sparse form.
        channels: channels of the backbone's maps.
        cells: number of cells at stride 4, of a square map.
        peaks: number of cells at which keypoints are computed.
    """
    side = math.isqrt(cells)
    shapes = [(channel, side * STRIDE // stride) for channel, stride in zip(channels, STRIDES, strict=True)]
    branches = [torch.empty(1, channel, length, length, device="meta") for channel, length in shapes]
    head.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        maps: Maps | SparseMaps = (
            head.sparse(branches, Finest(branches[0])) if head.method.sparse_cells else head(branches)
        )
        if isinstance(maps, SparseMaps):
            head.scores_at(maps, torch.empty(1, head.method.sparse_cells, 2, dtype=torch.int64, device="meta"))
        head.keypoints_at(maps, torch.empty(1, peaks, 2, dtype=torch.int64, device="meta"))
    return int(counter.get_total_flops()) // 2


def _weights(head: Head) -> dict[str, int]:
    """Number of weights of each 1x1 convolution, without biases: its multiply-adds at one cell."""
    return {name: layer.weight.numel() for name, layer in head.named_children() if isinstance(layer, nn.Conv2d)}
