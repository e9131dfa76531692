"""Building a backbone from its name."""

from __future__ import annotations

import difflib

from calipose.errors import InputError
from calipose.model.backbones import hrnet, mobilenet, movenet, timm
from calipose.model.backbones.base import Backbone


def build_backbone(name: str) -> Backbone:
    """Build a backbone with fresh weights.

    Args:
        name: "hrnet-w32" (or another key of `hrnet.VARIANTS`), "mobilenetv2-WIDTH" (any width, such as 1.5),
            "movenet-WIDTH" (the same with MoveNet's feature pyramid) or "timm:NAME" (needs the package timm).

    Raises:
        InputError: there is no backbone of that name (the message suggests the most similar), or timm is not
            installed.
    """
    family, _, rest = name.partition("-")
    if name in hrnet.VARIANTS:
        return hrnet.HRNet(hrnet.VARIANTS[name])
    if family == "mobilenetv2":
        return mobilenet.MobileNetV2(mobilenet.parse_width(rest))
    if family == "movenet":
        return movenet.MoveNetPyramid(mobilenet.parse_width(rest))
    if name.startswith("timm:"):
        return timm.TimmBackbone(name.removeprefix("timm:"))
    known = [*hrnet.VARIANTS, "mobilenetv2-1.0", "mobilenetv2-1.5", "movenet-1.5", "timm:NAME"]
    nearest = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.0)[0]
    raise InputError(f"there is no backbone {name!r}: did you mean {nearest!r}? The backbones are {', '.join(known)}")
