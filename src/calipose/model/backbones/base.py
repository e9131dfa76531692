"""What every backbone gives, and the one function that builds a backbone from its name."""

import math

from torch import Tensor, nn

STRIDES = (4, 8, 16, 32)

# ImageNet's mean and standard deviation (RGB), in the units of an 8-bit image.
IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)


class Backbone(nn.Module):
    """A network that turns normalised images into four maps.

    Attributes:
        channels: channels of the maps at strides 4, 8, 16 and 32.
        mean, std: RGB, in units of 0..255: the network wants ``(rgb - mean) / std``.

    """

    channels: tuple[int, int, int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps of normalised images.

        Args:
            images: ``(b, 3, h, w)``, h and w multiples of 32, frame `inp`.

        Returns:
            Four maps ``(b, channels[i], h / STRIDES[i], w / STRIDES[i])``.

        """
        raise NotImplementedError

    def own_name(self, published: str) -> str:
        """The name here of what published weights call `published` (the same, but for timm's networks)."""
        return published


def initialise(network: nn.Module) -> None:
    """Start values for training from scratch: He et al. (2015), fan-out, and identity batch norms.

    HRNet's classification code does this too; its pose code (and DEKR's) draws from N(0, 0.001), which
    only serves layers that ImageNet weights will overwrite. Torch's own fan-out forgets that a grouped
    convolution feeds every output channel from 1 / groups of the inputs, so it is computed here.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
