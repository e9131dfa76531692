"""The interface of every backbone, and the initialisation that they share."""

import math

from torch import Tensor, nn

from calipose.model.sampling import Finest

STRIDES = (4, 8, 16, 32)

# ImageNet's mean and standard deviation (RGB), in the units of an 8-bit image.
IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)


class Backbone(nn.Module):
    """A network that turns normalised images into four feature maps.

    Attributes:
        channels: channels of the maps at strides 4, 8, 16 and 32; their sum is the paper's C.
        mean: RGB, 0 to 255; the input is `(rgb - mean) / std`.
        std: RGB, in the same units.

    Example:
        >>> backbone = build_backbone("hrnet-w32")
        >>> [tuple(features.shape) for features in backbone(torch.zeros(1, 3, 64, 64))]
        [(1, 32, 16, 16), (1, 64, 8, 8), (1, 128, 4, 4), (1, 256, 2, 2)]
    """

    channels: tuple[int, int, int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute the feature maps of normalised images.

        Args:
            images: `(b, 3, h, w)`, h and w multiples of 32, frame `inp`.

        Returns:
            Four maps `(b, channels[i], h / STRIDES[i], w / STRIDES[i])`.
        """
        raise NotImplementedError

    def forward_sparse(self, images: Tensor) -> tuple[list[Tensor], Finest]:
        """The maps of `forward`, and the first of them in the form that is cheapest to read at a few cells."""
        branches = self(images)
        return branches, Finest(branches[0])

    def own_name(self, published: str) -> str:
        """The name in this network of a tensor called `published` in published weights; it differs for timm only."""
        return published


def initialise(network: nn.Module) -> None:
    """Initialise a network for training from scratch: He et al. (2015), fan-out, and identity batch norms.

    HRNet's classification code does this, too. Its pose code (and DEKR's) samples N(0, 0.001), which is only good for
    layers that ImageNet weights will overwrite. Torch's own fan-out does not consider that a grouped convolution
    feeds every output channel from 1 / groups of the inputs, so it is computed here.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
