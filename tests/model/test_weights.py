"""Loading weights: forms of files, prefixes, what the report says, and what is refused."""

import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from calipose.errors import InputError
from calipose.model.backbones.base import Backbone
from calipose.model.backbones.build import build_backbone
from calipose.model.weights import load_weights

NAMES = ["hrnet-w18-small", "mobilenetv2-0.35"]
State = dict[str, Tensor]


def _other(name: str) -> State:
    """Weights that differ from any fresh ones."""
    torch.manual_seed(1)
    return {n: t + 0.25 if t.is_floating_point() else t for n, t in build_backbone(name).state_dict().items()}


def _assert_loaded(backbone: Backbone, state: State) -> None:
    for name, value in backbone.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=0, atol=0)


def _prefixed(prefix: str) -> Callable[[State], Any]:
    return lambda state: {prefix + n: t for n, t in state.items()}


FORMS: dict[str, tuple[str, Callable[[State], Any]]] = {
    "plain": ("w.pth", lambda state: state),
    "pt": ("w.pt", lambda state: state),
    "nested": ("w.pth", lambda state: {"epoch": 3, "state_dict": state, "best": 0.7}),
    "model": ("w.pth", lambda state: {"model": state}),
    "module": ("w.pth", _prefixed("module.")),
    "nested with prefix": ("w.pth", lambda state: {"state_dict": _prefixed("module.backbone.")(state)}),
    "safetensors": ("w.safetensors", lambda state: state),
    "safetensors with prefix": ("w.safetensors", _prefixed("backbone.")),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_round_trip(tmp_path: Path, name: str, form: str) -> None:
    state = _other(name)
    file, wrap = FORMS[form]
    if file.endswith(".safetensors"):
        save_file(wrap(state), tmp_path / file)
    else:
        torch.save(wrap(state), tmp_path / file)
    backbone = build_backbone(name)
    report = load_weights(backbone, str(tmp_path / file))
    _assert_loaded(backbone, state)
    assert report.source == str(tmp_path / file)
    assert set(report.loaded) == {n for n in state if not n.endswith("num_batches_tracked")}
    assert (report.skipped, report.missing, report.mismatched) == ((), (), ())


def test_half_precision(tmp_path: Path) -> None:
    state = {n: t.half() if t.is_floating_point() else t for n, t in _other("mobilenetv2-0.35").items()}
    save_file(state, tmp_path / "half.safetensors")
    backbone = build_backbone("mobilenetv2-0.35")
    load_weights(backbone, str(tmp_path / "half.safetensors"))
    assert {p.dtype for p in backbone.parameters()} == {torch.float32}
    _assert_loaded(backbone, {n: t.float() if t.is_floating_point() else t for n, t in state.items()})


def test_report(tmp_path: Path) -> None:
    """Other names are skipped, holes and other shapes keep their values, and the report tells it all."""
    state = _other("hrnet-w18-small")
    gone = [n for n in state if n.startswith("stage4.") or n.endswith("num_batches_tracked")]
    for name in gone:
        del state[name]
    state["conv2.weight"] = torch.zeros(64, 64, 5, 5)
    state |= {"classifier.weight": torch.zeros(9, 9), "incre_modules.0.0.conv1.weight": torch.zeros(1)}
    torch.save(state, tmp_path / "w.pth")

    backbone = build_backbone("hrnet-w18-small")
    before = {n: t.clone() for n, t in backbone.state_dict().items()}
    report = load_weights(backbone, str(tmp_path / "w.pth"))
    assert report.skipped == ("classifier.weight", "incre_modules.0.0.conv1.weight")
    assert set(report.missing) == {n for n in gone if not n.endswith("num_batches_tracked")}
    assert report.mismatched == ("conv2.weight: (64, 64, 5, 5) for (64, 64, 3, 3)",)
    for name, value in backbone.state_dict().items():
        torch.testing.assert_close(value, state[name] if name in report.loaded else before[name])

    loaded, missing = len(report.loaded), len(report.missing)
    assert str(report).splitlines() == [
        f"{tmp_path / 'w.pth'}: {loaded} of {loaded + missing + 1} tensors loaded",
        "skipped: 2 (classifier, incre_modules)",
        f"missing: {missing} (stage4)",
        "other shape: 1 (conv2.weight: (64, 64, 5, 5) for (64, 64, 3, 3))",
    ]


class _Code:
    """Something that a pickle could run."""


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("absent.pth", None, "no such file"),
        ("w.onnx", b"x", r"not from '\.onnx'"),
        ("w.safetensors", b"\x00\x01", "not a whole safetensors file"),
        ("w.pth", b"cut", "plain tensors"),
        ("w.pth", pickle.dumps(_Code(), protocol=2), "plain tensors"),
        ("w.pth", {"model": _Code()}, "plain tensors"),
        ("w.pth", {"epoch": 3}, "no dictionary of tensors"),
        ("w.pth", [1, 2], "no dictionary of tensors"),
        (
            "w.pth",
            {"fc.weight": torch.zeros(1)},
            r"has fc\.weight; the backbone has conv_stem\.weight, bn1\.weight",
        ),
        ("w.pth", {"conv_stem.weight": torch.zeros(1)}, "file of another network"),
        ("w.pth", {"bn1.num_batches_tracked": torch.tensor(3)}, "file of another network"),
    ],
)
def test_refused(tmp_path: Path, file: str, content: Any, says: str) -> None:
    path = tmp_path / file
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(InputError, match=says) as caught:
        load_weights(build_backbone("mobilenetv2-0.35"), str(path))
    assert str(path) in str(caught.value)


# --- the hub, without a network ---------------------------------------------------------------------------


def _hub(monkeypatch: pytest.MonkeyPatch, download: Callable[[str, str], str]) -> None:
    fake: Any = types.ModuleType("huggingface_hub")
    fake.hf_hub_download = download
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)


def test_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = _other("hrnet-w18-small")
    save_file(state, tmp_path / "model.safetensors")

    def download(repository: str, file: str) -> str:
        assert (repository, file) == ("timm/hrnet_w18_small.ms_in1k", "model.safetensors")
        return str(tmp_path / file)

    _hub(monkeypatch, download)
    backbone = build_backbone("hrnet-w18-small")
    report = load_weights(backbone, "hf-hub:timm/hrnet_w18_small.ms_in1k")
    _assert_loaded(backbone, state)
    assert report.source == "hf-hub:timm/hrnet_w18_small.ms_in1k"
    assert report.missing == ()


@pytest.mark.parametrize("error", [OSError("no route to host"), ValueError("malformed name")])
def test_hub_fails(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def download(repository: str, file: str) -> str:
        raise error

    _hub(monkeypatch, download)
    with pytest.raises(InputError, match=rf"'hf-hub:a/b': model\.safetensors cannot be downloaded: {error}"):
        load_weights(build_backbone("mobilenetv2-0.35"), "hf-hub:a/b")


def test_hub_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"pip install 'huggingface-hub"):
        load_weights(build_backbone("mobilenetv2-0.35"), "hf-hub:a/b")
