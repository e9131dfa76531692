"""Choosing the device that a network runs on."""

from __future__ import annotations

import torch

from calipose.errors import InputError


def choose_device(name: str) -> str:
    """Check a device's name; an empty name chooses a GPU where there is one.

    Raises:
        InputError: there is no such device.
    """
    if not name:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError):  # torch without CUDA asserts
        raise InputError(f"device '{name}' cannot be used: name cpu, or cuda where torch finds a GPU") from None
    return name
