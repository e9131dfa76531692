"""What is installed of ONNX Runtime, and what to do where CUDA does not start (no torch).

The packages `onnxruntime` (CPU) and `onnxruntime-gpu` bring one module, `onnxruntime`. Where both are installed, the
files of the later one lie there, and removing either takes files of the other away.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from calipose.errors import InputError

CPU_PACKAGE, GPU_PACKAGE = "onnxruntime", "onnxruntime-gpu"
CUDA_PROVIDERS = ("CUDAExecutionProvider", "TensorrtExecutionProvider")
INSTALL_GPU = "pip install 'onnxruntime-gpu[cuda,cudnn]'"
FROM_CPU_TO_GPU = f"pip uninstall -y onnxruntime, then {INSTALL_GPU}"
FROM_BOTH_TO_GPU = f"pip uninstall -y onnxruntime onnxruntime-gpu, then {INSTALL_GPU}"


@dataclass(frozen=True)
class OnnxRuntime:
    """ONNX Runtime as it is installed here.

    Attributes:
        packages: versions of the installed packages, by name.
        version: of the module; empty where it cannot be used.
        providers: full names of those that it was built with; their libraries may still be missing.
    """

    packages: dict[str, str]
    version: str = ""
    providers: list[str] = field(default_factory=list)

    @property
    def both(self) -> bool:
        """The packages for CPU and for GPU are both installed."""
        return {CPU_PACKAGE, GPU_PACKAGE} <= self.packages.keys()

    @property
    def advice(self) -> str:
        """What is wrong with the installation itself, and what to do; empty where nothing is."""
        if not self.version:
            if self.packages:
                name = GPU_PACKAGE if GPU_PACKAGE in self.packages else CPU_PACKAGE
                return f"files of {name} are missing: pip install --force-reinstall --no-deps {name}"
            return f"neither {CPU_PACKAGE} nor {GPU_PACKAGE} is installed: pip install {CPU_PACKAGE}"
        if self.both:
            return (
                f"{CPU_PACKAGE} and {GPU_PACKAGE} are both installed, and the files of the later one lie over the "
                f"other's. For GPUs: {FROM_BOTH_TO_GPU}"
            )
        return ""

    @property
    def cuda_advice(self) -> str:
        """Why CUDA does not start here, and what to do."""
        if CUDA_PROVIDERS[0] in self.providers:
            return (
                "CUDA's or cuDNN's libraries, or the GPU's driver, are missing or of another version than this ONNX "
                f"Runtime needs. The libraries come with {FROM_BOTH_TO_GPU if self.both else INSTALL_GPU}; nvidia-smi "
                "shows whether the driver runs"
            )
        if self.advice:
            return self.advice
        if GPU_PACKAGE in self.packages:
            return f"{GPU_PACKAGE} has no CUDA on this system"
        return f"the package {CPU_PACKAGE} runs on the CPU only. For GPUs: {FROM_CPU_TO_GPU}"

    def __str__(self) -> str:
        """One line: packages, and the providers by their short names."""
        packages = ", ".join(f"{name} {version}" for name, version in self.packages.items()) or "not installed"
        return f"{packages}: {', '.join(map(short_name, self.providers)) or 'no providers'}"


def installed() -> OnnxRuntime:
    """Look at what is installed; nothing is raised."""
    packages = {}
    for name in (CPU_PACKAGE, GPU_PACKAGE):
        with contextlib.suppress(metadata.PackageNotFoundError):
            packages[name] = metadata.version(name)
    try:
        import onnxruntime

        return OnnxRuntime(packages, str(onnxruntime.__version__), list(onnxruntime.get_available_providers()))
    except (ImportError, AttributeError):  # AttributeError: Python imports a folder whose files are gone all the same
        return OnnxRuntime(packages)


def import_runtime(providers: list[str]) -> tuple[Any, list[str]]:
    """The module `onnxruntime`, ready for these providers, and their full names.

    Args:
        providers: by full or short name, such as "cuda".

    Raises:
        InputError: ONNX Runtime is not whole, or a provider is not there; the message says what to do.
    """
    runtime = installed()
    if not runtime.version:
        raise InputError(f"ONNX Runtime cannot be used: {runtime.advice}")
    import onnxruntime

    wanted = find_providers(providers, runtime)
    if CUDA_PROVIDERS[0] in wanted and hasattr(onnxruntime, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):  # what is missing comes as an error later
            onnxruntime.preload_dlls()  # finds the libraries of NVIDIA's Python packages
    return onnxruntime, wanted


def find_providers(wanted: list[str], runtime: OnnxRuntime) -> list[str]:
    """Full names of ONNX Runtime's providers.

    Raises:
        InputError: one of them is not there; the message says what to do for CUDA.
    """
    there = runtime.providers
    by_name = {name.lower(): name for name in there} | {short_name(name): name for name in there}
    for name in wanted:
        if name.lower() not in by_name:
            cuda = name.lower() in {known for full in CUDA_PROVIDERS for known in (full.lower(), short_name(full))}
            advice = f". {runtime.cuda_advice[0].upper()}{runtime.cuda_advice[1:]}" if cuda else ""
            raise InputError(f"ONNX Runtime has no provider '{name}' here; there are {', '.join(there)}{advice}")
    return [by_name[name.lower()] for name in wanted]


def not_started(provider: str) -> InputError:
    """The error of a provider that ONNX Runtime was built with, but that did not start."""
    advice = installed().cuda_advice if provider in CUDA_PROVIDERS else "are its libraries installed?"
    return InputError(f"ONNX Runtime could not start {provider}: {advice}")


def short_name(provider: str) -> str:
    """The name as options have it: cuda of CUDAExecutionProvider."""
    return provider.lower().removesuffix("executionprovider")
