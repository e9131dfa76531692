"""Choosing the device that a network runs on."""

from __future__ import annotations

from pathlib import Path

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


CPU_FLAGS = ("amx_bf16", "avx512_bf16", "bf16")  # of Linux's /proc/cpuinfo: x86 with AMX, with AVX-512, ARM
CPU_INFO = Path("/proc/cpuinfo")


def choose_precision(name: str, device: str) -> tuple[str, str]:
    """Which precision "auto" means on a device.

    Args:
        name: "fp32", "bf16" or "auto".
        device: "cpu", "cuda", ...

    Returns:
        "fp32" or "bf16", and why; the reason is empty unless `name` is "auto".
    """
    if name != "auto":
        return name, ""
    if device.startswith("cuda"):
        has = torch.cuda.is_bf16_supported(including_emulation=False)
        return ("bf16", "this GPU computes in it") if has else ("fp32", "this GPU has no bf16")
    if device != "cpu":
        return "fp32", f"it is not known whether device '{device}' computes in bf16"
    try:
        words = set(CPU_INFO.read_text(errors="replace").split())
    except OSError:
        return "fp32", "it is not known whether this CPU computes in bf16"
    found = next((flag for flag in CPU_FLAGS if flag in words), "")
    return ("bf16", f"this CPU has {found}") if found else ("fp32", "this CPU has no bf16")
