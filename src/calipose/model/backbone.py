"""What every backbone gives, and the one function that builds a backbone from its name."""

import difflib
import math

from torch import Tensor, nn

from calipose.errors import InputError

STRIDES = (4, 8, 16, 32)

# ImageNet's mean and standard deviation (RGB), in the units of an 8-bit picture.
IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)


class Backbone(nn.Module):
    """A network that turns normalised pictures into four maps.

    Attributes:
        channels: channels of the maps at strides 4, 8, 16 and 32.
        mean, std: RGB, in units of 0..255: the network wants ``(rgb - mean) / std``.

    """

    channels: tuple[int, int, int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps of normalised pictures.

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


def build_backbone(name: str) -> Backbone:
    """A backbone with fresh weights.

    Args:
        name: "hrnet-w32" (or another key of `hrnet.VARIANTS`), "mobilenetv2-WIDTH" (any width, e.g. 1.5),
            "movenet-WIDTH" (the same with MoveNet's feature pyramid) or "timm:NAME" (needs the package timm).

    Raises:
        InputError: there is no backbone of that name (the message names the nearest), or timm is missing.

    """
    # The families import `Backbone` from here.
    from calipose.model import hrnet, mobilenet, movenet, timm_adapter

    family, _, rest = name.partition("-")
    if name in hrnet.VARIANTS:
        return hrnet.HRNet(hrnet.VARIANTS[name])
    if family == "mobilenetv2":
        return mobilenet.MobileNetV2(mobilenet.parse_width(rest))
    if family == "movenet":
        return movenet.MoveNetPyramid(mobilenet.parse_width(rest))
    if name.startswith("timm:"):
        return timm_adapter.TimmBackbone(name.removeprefix("timm:"))
    known = [*hrnet.VARIANTS, "mobilenetv2-1.0", "mobilenetv2-1.5", "movenet-1.5", "timm:NAME"]
    nearest = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.0)[0]
    raise InputError(f"there is no backbone {name!r}: did you mean {nearest!r}? The backbones are {', '.join(known)}")
