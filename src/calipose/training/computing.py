"""How a network computes in training: compiled, or with gradient checkpointing; set in place, names stay.

With gradient checkpointing, only the inputs of the backbone's blocks are kept for the backward pass, which computes
each block again when it comes to it (Chen et al. 2016, arXiv:1604.06174). Batch norms must not take a batch into their
running statistics twice: while a block is computed again, they write to copies.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from calipose.config.settings import ComputeSettings
from calipose.errors import InputError
from calipose.model.network import Network

COMPILER = "inductor"  # torch.compile's backend

Forward = Callable[..., Any]


def set_computing(network: Network, settings: ComputeSettings) -> None:
    """Set how a network computes in training; its parameters, buffers and their names stay.

    With both settings each block is compiled by itself, the rest of the network is not.

    Args:
        network: the network, before it is wrapped for several processes.
        settings: what to set; `fused` is the optimiser's.

    Raises:
        InputError: it is to be compiled for a CPU, but there is no C++ compiler.
    """
    if settings.compile and not torch.cuda.is_available():
        _check_compiler()
    if settings.gradient_checkpointing:
        parts = blocks(network.backbone)
        if settings.compile:  # blocks of one class count as one function that is compiled again for each of them
            limits = torch._dynamo.config  # newer torch calls it recompile_limit, too
            limits.cache_size_limit = max(limits.cache_size_limit, 2 * len(parts))
        for block in parts:
            forward: Forward = _compiled(block.forward) if settings.compile else block.forward
            block.forward = partial(_checkpointed, block, forward)
    elif settings.compile:
        network.backbone.compile(backend=COMPILER)
        network.head.compile(backend=COMPILER)


def blocks(network: nn.Module) -> list[nn.Module]:
    """The blocks whose insides gradient checkpointing computes again, such as residual blocks or HRNet's modules.

    These are the outermost members of `nn.Sequential` that have two or more layers with weight matrices.
    """
    found: list[nn.Module] = []
    for child in network.children():
        layers = sum(isinstance(module, nn.Conv2d | nn.Linear) for module in child.modules())
        if isinstance(network, nn.Sequential) and layers > 1:
            found.append(child)
        else:
            found += blocks(child)
    return found


def _check_compiler() -> None:
    names = [os.environ["CXX"]] if "CXX" in os.environ else ["c++", "g++", "clang++", "cl"]
    if not any(shutil.which(name) for name in names):
        raise InputError(
            f"compute.compile needs a C++ compiler, and there is no {' or '.join(names)}: install one, name it in the "
            "variable CXX, or set compute.compile=false"
        )


def _compiled(forward: Forward) -> Forward:
    compiled: Forward = torch.compile(forward, backend=COMPILER)
    return compiled


def _checkpointed(block: nn.Module, forward: Forward, *inputs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs)

    def contexts() -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
        return contextlib.nullcontext(), _statistics_kept(block)

    return checkpoint(forward, *inputs, use_reentrant=False, context_fn=contexts)


@contextlib.contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """A block in which batch norms compute as always, but write their running statistics to copies."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm) and module.training]
    kept = [(norm, name, value) for norm in norms for name, value in norm.named_buffers(recurse=False)]
    for norm, name, value in kept:
        setattr(norm, name, value.clone())
    try:
        yield
    finally:
        for norm, name, value in kept:
            setattr(norm, name, value)
