"""Batch norms folded into the convolutions before them: the same network in evaluation mode, with fewer layers."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from calipose.model.head import fold
from calipose.model.network import Network


@torch.no_grad()
def folded(network: Network) -> Network:
    """A copy of the network, for evaluation, in which no batch norm changes anything but by its bias."""
    network = copy.deepcopy(network).eval()
    _fold_pairs(network.backbone)
    head = network.head
    for convolution, norm in (
        (head.keypoint_features, head.keypoint_norm),
        (head.instance_features, head.instance_norm),
    ):
        weight, bias = fold(convolution.weight, norm)
        convolution.weight.copy_(weight)
        norm.reset_parameters()
        norm.running_var.fill_(1 - norm.eps)  # type: ignore[union-attr]
        norm.bias.copy_(bias)
    return network


def _fold_pairs(module: nn.Module) -> None:
    """Fold each batch norm that directly follows its convolution among a module's parts."""
    parts = list(module.named_children())
    for (_, convolution), (name, norm) in pairwise(parts):
        if not (isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)):
            continue
        if convolution.out_channels == norm.num_features:
            fused = fuse_conv_bn_eval(convolution, norm)
            # In place: some convolutions here are subclasses that pad on their own.
            convolution.weight, convolution.bias = fused.weight, fused.bias
            setattr(module, name, nn.Identity())
    for _, part in parts:
        _fold_pairs(part)
