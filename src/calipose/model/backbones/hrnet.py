"""HRNet (Sun et al., CVPR 2019; Wang et al., TPAMI 2020), the part that DEKR uses: all four stage-4 maps.

The network and the names of its parameters are those of the official code (HRNet/DEKR and
HRNet/HRNet-Image-Classification), so that its weights load; `tests/model/backbones/test_hrnet.py` checks the values.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from calipose.model.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone, initialise

_EXPANSION = 4  # a bottleneck's output is four times as wide as its inside
_STEM = 64  # channels of the two strided convolutions before layer1


class Variant(NamedTuple):
    """Sizes of one variant of HRNet.

    Attributes:
        width: channels of the stride-4 branch; each further branch has twice as many.
        layer1: number of bottlenecks at stride 4, and the channels inside of them.
        modules: number of modules in the stages 2, 3 and 4.
        blocks: number of basic blocks in each branch of a module.
    """

    width: int
    layer1: tuple[int, int]
    modules: tuple[int, int, int]
    blocks: int


# Source: experiments/cls_hrnet_*.yaml of HRNet/HRNet-Image-Classification.
VARIANTS = {
    "hrnet-w18-small": Variant(16, (1, 32), (1, 1, 1), 2),  # called w18, but 16 wide: the file's "small_v1"
    "hrnet-w18-small-v2": Variant(18, (2, 64), (1, 3, 2), 2),
    "hrnet-w18": Variant(18, (4, 64), (1, 4, 3), 4),
    "hrnet-w32": Variant(32, (4, 64), (1, 4, 3), 4),
    "hrnet-w48": Variant(48, (4, 64), (1, 4, 3), 4),
}


def _conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, relu: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a residual connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(b, c, h, w)` to the same shape."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(y)) + x, inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with a residual connection, which is projected where the widths differ."""

    def __init__(self, inputs: int, planes: int) -> None:
        super().__init__()
        outputs = planes * _EXPANSION
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Identity() if inputs == outputs else _conv_bn(inputs, outputs, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(b, inputs, h, w)` to `(b, 4 planes, h, w)`."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x), inplace=True)


def _fuse_path(channels: Sequence[int], source: int, target: int) -> nn.Module:
    """The layers that bring branch `source` to the size and width of branch `target`."""
    if source == target:
        return nn.Identity()
    if source > target:
        projection = _conv_bn(channels[source], channels[target], kernel=1)
        return projection.append(nn.Upsample(scale_factor=2.0 ** (source - target), mode="nearest"))
    # The width changes, and the ReLU is left out, only in the last of the strided convolutions.
    steps = [_conv_bn(channels[source], channels[source], stride=2, relu=True) for _ in range(target - source - 1)]
    return nn.Sequential(*steps, _conv_bn(channels[source], channels[target], stride=2))


class HighResolutionModule(nn.Module):
    """Parallel branches of basic blocks, after which every branch receives the sum over all of them."""

    def __init__(self, channels: Sequence[int], blocks: int) -> None:
        super().__init__()
        indices = range(len(channels))
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(c) for _ in range(blocks))) for c in channels)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_fuse_path(channels, source, target) for source in indices) for target in indices
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Map the branches' features to new ones of the same shapes."""
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        fused = []
        for paths in self.fuse_layers:
            assert isinstance(paths, nn.ModuleList)
            first, *others = (path(x) for path, x in zip(paths, maps, strict=True))
            fused.append(F.relu(sum(others, start=first), inplace=True))
        return fused


def _transition(inputs: Sequence[int], outputs: Sequence[int]) -> nn.ModuleList:
    """Add a branch by a strided convolution of the last one; the others change their width where it differs."""
    kept = [
        nn.Identity() if old == new else _conv_bn(old, new, relu=True)
        for old, new in zip(inputs, outputs, strict=False)
    ]
    # Official weights name this one "1.0.0.weight": it could be a chain of several strided convolutions.
    return nn.ModuleList([*kept, nn.Sequential(_conv_bn(inputs[-1], outputs[-1], stride=2, relu=True))])


def _grow(transition: nn.ModuleList, maps: list[Tensor]) -> list[Tensor]:
    return [layer(x) for layer, x in zip(transition, [*maps, maps[-1]], strict=True)]


class HRNet(Backbone):
    """HRNet of a `Variant`; its maps have width x (1, 2, 4, 8) channels.

    Example:
        >>> HRNet(VARIANTS["hrnet-w32"]).channels
        (32, 64, 128, 256)
    """

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        width = variant.width
        self.channels = widths = (width, 2 * width, 4 * width, 8 * width)
        self.mean, self.std = IMAGENET_MEAN, IMAGENET_STD

        self.conv1 = nn.Conv2d(3, _STEM, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(_STEM)
        self.conv2 = nn.Conv2d(_STEM, _STEM, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(_STEM)

        count, planes = variant.layer1
        outputs = planes * _EXPANSION
        self.layer1 = nn.Sequential(Bottleneck(_STEM, planes), *(Bottleneck(outputs, planes) for _ in range(count - 1)))

        def stage(branches: int) -> nn.Sequential:
            modules = range(variant.modules[branches - 2])
            return nn.Sequential(*(HighResolutionModule(widths[:branches], variant.blocks) for _ in modules))

        self.transition1, self.stage2 = _transition([outputs], widths[:2]), stage(2)
        self.transition2, self.stage3 = _transition(widths[:2], widths[:3]), stage(3)
        self.transition3, self.stage4 = _transition(widths[:3], widths), stage(4)
        initialise(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """See `Backbone.forward`."""
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        maps = _grow(self.transition1, [self.layer1(x)])
        maps = _grow(self.transition2, self.stage2(maps))
        maps = _grow(self.transition3, self.stage3(maps))
        fused: list[Tensor] = self.stage4(maps)
        return fused
