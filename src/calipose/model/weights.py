"""Loading weights of backbones from .pth files (official code), .safetensors files (timm), or from the hub."""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from calipose.errors import InputError, install_hint
from calipose.model.backbones.base import Backbone

_HUB = "hf-hub:"
_NESTS = ("state_dict", "model")  # where training scripts put the weights beside their own state
_COUNTER = "num_batches_tracked"  # batch norm counts in it, but nothing reads the count; old files lack it


@dataclass(frozen=True)
class LoadReport:
    """What `load_weights` did; names are those of the network, except for `skipped`.

    Attributes:
        source: the path or hub name.
        loaded: tensors that were loaded from the file.
        skipped: tensors of the file that the network does not have (a classifier's, for example).
        missing: tensors of the network that the file does not have; they keep their values.
        mismatched: tensors of both whose shapes differ, as "name: (file's shape) for (network's shape)"; they keep
            their values, too.

    Example:
        >>> print(load_weights(build_backbone("hrnet-w32"), "hf-hub:timm/hrnet_w32.ms_in1k"))
    """

    source: str
    loaded: tuple[str, ...]
    skipped: tuple[str, ...]
    missing: tuple[str, ...]
    mismatched: tuple[str, ...]

    def __str__(self) -> str:
        total = len(self.loaded) + len(self.missing) + len(self.mismatched)
        lines = [f"{self.source}: {len(self.loaded)} of {total} tensors loaded"]
        for what, names in (("skipped", self.skipped), ("missing", self.missing)):
            if names:
                parts = dict.fromkeys(name.partition(".")[0] for name in names)
                lines.append(f"{what}: {len(names)} ({_few(list(parts))})")
        if self.mismatched:
            lines.append(f"other shape: {len(self.mismatched)} ({_few(self.mismatched)})")
        return "\n".join(lines)


def load_weights(backbone: Backbone, source: str) -> LoadReport:
    """Load all tensors of `source` that fit into the backbone, in place, converted to the network's precision.

    Names in the file may have a prefix ("module.", "backbone."), and may be in a dictionary under "state_dict".

    Args:
        backbone: the network.
        source: a path (.pth, .pt: plain tensors, read with `weights_only=True`; .safetensors), or
            "hf-hub:OWNER/NAME", whose model.safetensors is downloaded once and cached by huggingface_hub.

    Returns:
        The names of what was loaded and what was not.

    Raises:
        InputError: the file cannot be downloaded or read, or nothing in it fits this network.
    """
    path = _fetch(source.removeprefix(_HUB)) if source.startswith(_HUB) else Path(source)
    own = backbone.state_dict()
    found = {backbone.own_name(name): tensor for name, tensor in _read(path).items()}
    prefix = _prefix(found, own)
    theirs = {name.removeprefix(prefix): t for name, t in found.items() if name.startswith(prefix)}

    shared = own.keys() & theirs.keys()
    fitting = {name: theirs[name].to(own[name].dtype) for name in own if _fits(name, own, theirs)}
    loaded = tuple(name for name in fitting if not name.endswith(_COUNTER))
    if not loaded:
        raise InputError(
            f"{source}: nothing in it fits this backbone. The file has {_few(list(found))}; "
            f"the backbone has {_few(list(own))}. Is it the file of another network?"
        )
    backbone.load_state_dict(fitting, strict=False)
    return LoadReport(
        source=source,
        loaded=loaded,
        skipped=tuple(n for n in found if not n.startswith(prefix) or n.removeprefix(prefix) not in own),
        missing=tuple(n for n in own if n not in theirs and not n.endswith(_COUNTER)),
        mismatched=tuple(
            f"{n}: {tuple(theirs[n].shape)} for {tuple(own[n].shape)}" for n in own if n in shared and n not in fitting
        ),
    )


def _few(names: list[str] | tuple[str, ...], max_names: int = 5) -> str:
    return ", ".join(names[:max_names]) + (", ..." if len(names) > max_names else "")


def _fits(name: str, own: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> bool:
    return name in theirs and theirs[name].shape == own[name].shape


def _prefix(found: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """The prefix of the file's names: of those that the network's first name allows, the one that fits most tensors."""
    first = next(iter(own))
    candidates = {""} | {name.removesuffix(first) for name in found if name.endswith("." + first)}

    def fitting(prefix: str) -> int:
        return sum(prefix + n in found and found[prefix + n].shape == own[n].shape for n in own)

    return max(sorted(candidates), key=fitting)


def _fetch(repository: str) -> Path:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise InputError(f"'{_HUB}{repository}' needs huggingface_hub: {install_hint('hub')}") from error
    try:
        return Path(hf_hub_download(repository, "model.safetensors"))
    except (OSError, ValueError) as error:  # no such repository or file, no network; a malformed name
        raise InputError(f"'{_HUB}{repository}': model.safetensors cannot be downloaded: {error}") from error


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"{path}: no such file. Weights are a path or {_HUB}OWNER/NAME")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return dict(load_file(path))
        except SafetensorError as error:
            raise InputError(f"{path}: not a whole safetensors file: {error}") from error
    if path.suffix not in {".pth", ".pt"}:
        raise InputError(f"{path}: weights are read from .pth, .pt and .safetensors, not from {path.suffix!r}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise InputError(
            f"{path} is not a file of plain tensors: it is damaged, or holds other objects, which are not read, as "
            "they could run code. If you trust it, load it yourself and save torch.save(model.state_dict(), ...)"
        ) from error
    for nest in _NESTS:
        if isinstance(content, dict) and isinstance(content.get(nest), dict):
            content = content[nest]
    tensors = {n: t for n, t in content.items() if isinstance(t, Tensor)} if isinstance(content, dict) else {}
    if not tensors:
        raise InputError(f"{path}: holds no dictionary of tensors, neither itself nor under {' or '.join(_NESTS)}")
    return tensors
