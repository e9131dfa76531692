"""MobileNetV2 (Sandler et al., CVPR 2018) of any width, with timm's parameter names and TensorFlow's padding.

Strided convolutions pad as TensorFlow's "same" does: on even sizes one row below and one column at the right,
none above or at the left. Weights trained with this padding (MoveNet's backbone) give the same values here. Weights
trained with symmetric padding (timm's for ImageNet) can be loaded, too, but they sample one pixel further at each
stride, and they expect ImageNet's mean and deviation: they are only a start for fine-tuning. Their own network is
"timm:mobilenetv2_100".
"""

import math
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from calipose.errors import InputError
from calipose.model.backbones.base import Backbone, initialise


class _Stage(NamedTuple):
    expansion: int
    channels: int  # at width 1
    blocks: int
    stride: int


# Table 2 of the paper. The names of timm count these stages: blocks.0 ... blocks.6.
_STAGES = (
    _Stage(1, 16, 1, 1),
    _Stage(6, 24, 2, 2),
    _Stage(6, 32, 3, 2),
    _Stage(6, 64, 4, 2),
    _Stage(6, 96, 3, 1),
    _Stage(6, 160, 3, 2),
    _Stage(6, 320, 1, 1),
)
_STEM = 32
# The last stages of strides 4, 8, 16 and 32, as in timm's `features_only`; the 1280-wide layer for
# classification is left out.
_OUTPUTS = (1, 2, 4, 6)


def parse_width(text: str) -> float:
    """Parse the width of "mobilenetv2-WIDTH".

    Raises:
        InputError: the width is not a positive number.
    """
    try:
        width = float(text)
    except ValueError:
        width = math.nan
    if not 0 < width < math.inf:
        raise InputError(f"'mobilenetv2-{text}': the width must be a positive number, as in 'mobilenetv2-1.5'")
    return width


def _scaled(channels: int, width: float) -> int:
    """Nearest multiple of 8, at least 8, not below nine tenths of the exact product (as the paper's code)."""
    exact = channels * width
    rounded = max(8, int(exact + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * exact else rounded


def _pad_even(x: Tensor) -> Tensor:
    """TensorFlow's "same" padding of a 3x3 convolution of stride 2 on even sizes."""
    return F.pad(x, (0, 1, 0, 1))


class _Depthwise(nn.Conv2d):
    def __init__(self, channels: int, stride: int) -> None:
        padding = 1 if stride == 1 else 0
        super().__init__(channels, channels, 3, stride, padding, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if self.stride == (1, 1) else _pad_even(x))


class SeparableConv(nn.Module):
    """Depthwise 3x3 and linear 1x1 convolution: the first stage, which has no expansion."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv_dw = _Depthwise(inputs, 1)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv_pw = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(b, inputs, h, w)` to `(b, outputs, h, w)`."""
        y: Tensor = self.bn2(self.conv_pw(F.relu6(self.bn1(self.conv_dw(x)))))
        return y


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise 3x3, linear 1x1; with a residual connection where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        inside = inputs * expansion
        self.conv_pw = nn.Conv2d(inputs, inside, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv_dw = _Depthwise(inside, stride)
        self.bn2 = nn.BatchNorm2d(inside)
        self.conv_pwl = nn.Conv2d(inside, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map `(b, inputs, h, w)` to `(b, outputs, h / stride, w / stride)`."""
        inside = F.relu6(self.bn1(self.conv_pw(x)))
        inside = F.relu6(self.bn2(self.conv_dw(inside)))
        y: Tensor = self.bn3(self.conv_pwl(inside))
        return x + y if self.residual else y


class MobileNetV2(Backbone):
    """MobileNetV2 whose channels are `width` times the paper's.

    Args:
        width: factor of the channels.
        outputs: indices of the stages whose maps are given, one for each stride; by default blocks.1, blocks.2,
            blocks.4 and blocks.6 (40, 48, 144 and 480 channels for width 1.5).

    Example:
        >>> MobileNetV2(1.5).channels
        (40, 48, 144, 480)
    """

    def __init__(self, width: float, outputs: tuple[int, int, int, int] = _OUTPUTS) -> None:
        super().__init__()
        self.mean = self.std = (127.5, 127.5, 127.5)

        inputs = _scaled(_STEM, width)
        self.conv_stem = nn.Conv2d(3, inputs, 3, stride=2, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.blocks = nn.ModuleList()
        widths = [_scaled(stage.channels, width) for stage in _STAGES]
        for stage, channels in zip(_STAGES, widths, strict=True):
            blocks = nn.Sequential()
            for i in range(stage.blocks):
                stride = stage.stride if i == 0 else 1
                if stage.expansion == 1:
                    blocks.append(SeparableConv(inputs, channels))
                else:
                    blocks.append(InvertedResidual(inputs, channels, stage.expansion, stride))
                inputs = channels
            self.blocks.append(blocks)
        self.outputs = outputs
        c4, c8, c16, c32 = (widths[i] for i in outputs)
        self.channels = (c4, c8, c16, c32)
        initialise(self)

    def early(self) -> list[nn.Module]:
        """The parts that compute maps of strides 2 to 8."""
        return [self.conv_stem, self.bn1, *self.blocks[: self.outputs[1] + 1]]

    def forward(self, images: Tensor) -> list[Tensor]:
        """See `Backbone.forward`."""
        x = F.relu6(self.bn1(self.conv_stem(_pad_even(images))))
        maps = []
        for i, blocks in enumerate(self.blocks):
            x = blocks(x)
            if i in self.outputs:
                maps.append(x)
        return maps
