"""Backbones by name, and HRNet against the official code's golden values."""

import runpy
import sys
import types
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from calipose.errors import InputError
from calipose.model.backbones.base import STRIDES, initialise
from calipose.model.backbones.build import build_backbone
from calipose.model.backbones.hrnet import VARIANTS
from calipose.model.weights import load_weights

# Trainable parameters of the official code without its heads; w18's and w18-small's agree with timm 1.0.31.
HRNET_PARAMETERS = {
    "hrnet-w18-small": 1_477_920,
    "hrnet-w18-small-v2": 3_860_720,
    "hrnet-w18": 9_562_260,
    "hrnet-w32": 29_305_536,
    "hrnet-w48": 65_325_120,
}


def test_every_variant_is_counted() -> None:
    assert HRNET_PARAMETERS.keys() == VARIANTS.keys()


@pytest.mark.parametrize(("name", "count"), HRNET_PARAMETERS.items())
def test_parameters(name: str, count: int) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name)
    assert sum(p.numel() for p in backbone.parameters()) == count


@pytest.mark.parametrize("name", [*HRNET_PARAMETERS, "mobilenetv2-0.35", "mobilenetv2-1.5"])
def test_maps(name: str) -> None:
    """Shapes; on the meta device, so that no variant costs anything."""
    with torch.device("meta"):
        backbone = build_backbone(name)
        maps = backbone(torch.empty(2, 3, 64, 96))
    shapes = [(2, c, 64 // s, 96 // s) for c, s in zip(backbone.channels, STRIDES, strict=True)]
    assert [tuple(x.shape) for x in maps] == shapes
    assert len(backbone.mean) == len(backbone.std) == 3


@pytest.mark.parametrize("name", ["hrnet-w18-small", "mobilenetv2-0.35"])
def test_trains(name: str) -> None:
    """Fresh weights keep the size of the signal, and every parameter has a gradient."""
    torch.manual_seed(0)
    backbone = build_backbone(name)
    maps = backbone(torch.randn(2, 3, 64, 64))
    assert all(0.1 < x.detach().std().item() < 10 for x in maps)
    torch.autograd.backward([x.square().mean() for x in maps])
    assert [n for n, p in backbone.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_initialise_counts_groups() -> None:
    torch.manual_seed(0)
    depthwise = nn.Conv2d(512, 512, 3, groups=512)
    initialise(depthwise)
    assert depthwise.weight.detach().std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.05)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("hrnet_w32", "'hrnet-w32'"),
        ("HRNet-W48", "'hrnet-w48'"),
        ("mobilenet-1.5", "'mobilenetv2-1.5'"),
        ("mobilenetv2-wide", "positive number"),
        ("mobilenetv2-0", "positive number"),
        ("mobilenetv2-inf", "positive number"),
    ],
)
def test_unknown_name(name: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        build_backbone(name)


def test_timm_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"pip install 'timm"):
        build_backbone("timm:resnet18")


class _Pyramid(nn.Module):
    """What timm's `features_only` networks look like from outside."""

    def __init__(self, strides: list[int], output_fmt: str) -> None:
        super().__init__()
        self.strides, self.output_fmt = strides, output_fmt
        self.stem_0 = nn.Conv2d(3, 4, 1)
        self.feature_info = types.SimpleNamespace(
            reduction=lambda: strides, channels=lambda: [10 * i + 1 for i in range(len(strides))]
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = [
            F.avg_pool2d(images[:, :1], stride).repeat(1, 10 * i + 1, 1, 1) for i, stride in enumerate(self.strides)
        ]
        return [x.permute(0, 2, 3, 1) for x in maps] if self.output_fmt == "NHWC" else maps


def _fake_timm(monkeypatch: pytest.MonkeyPatch, strides: list[int], output_fmt: str) -> None:
    def create_model(name: str, **options: Any) -> nn.Module:
        assert options == {"features_only": True, "pretrained": False}
        if name != "net":
            raise RuntimeError(f"Unknown model ({name})")
        return _Pyramid(strides, output_fmt)

    fake: Any = types.ModuleType("timm")
    fake.create_model = create_model
    fake.data = types.SimpleNamespace(
        resolve_model_data_config=lambda network: {"mean": (0.5, 0.4, 0.3), "std": (0.1, 0.2, 0.2)}
    )
    monkeypatch.setitem(sys.modules, "timm", fake)


@pytest.mark.parametrize("output_fmt", ["NCHW", "NHWC"])
def test_timm_adapter(monkeypatch: pytest.MonkeyPatch, output_fmt: str) -> None:
    _fake_timm(monkeypatch, [2, 4, 8, 16, 16, 32], output_fmt)
    backbone = build_backbone("timm:net")
    assert backbone.channels == (11, 21, 41, 51)
    assert backbone.mean == pytest.approx((127.5, 102, 76.5))
    assert backbone.std == pytest.approx((25.5, 51, 51))
    maps = backbone(torch.zeros(1, 3, 64, 96))
    assert [tuple(x.shape) for x in maps] == [(1, 11, 16, 24), (1, 21, 8, 12), (1, 41, 4, 6), (1, 51, 2, 3)]


def test_timm_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A whole network's file fits its feature network, although timm took the outer containers apart."""
    _fake_timm(monkeypatch, [4, 8, 16, 32], "NCHW")
    backbone = build_backbone("timm:net")
    file = {
        "stem.0.weight": torch.ones(4, 3, 1, 1),
        "stem.0.bias": torch.ones(4),
        "head.fc.bias": torch.ones(9),
    }
    save_file(file, tmp_path / "model.safetensors")
    report = load_weights(backbone, str(tmp_path / "model.safetensors"))
    assert report.loaded == ("network.stem_0.weight", "network.stem_0.bias")
    assert report.skipped == ("head.fc.bias",)
    assert bool((backbone.get_parameter("network.stem_0.bias") == 1).all())


@pytest.mark.parametrize(("name", "says"), [("net", r"none at \[4, 8, 32\]"), ("nte", "Unknown model")])
def test_timm_refused(monkeypatch: pytest.MonkeyPatch, name: str, says: str) -> None:
    _fake_timm(monkeypatch, [16, 16, 16], "NCHW")
    with pytest.raises(InputError, match=says):
        build_backbone(f"timm:{name}")


# --- golden values ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rule(shared: Path) -> Any:
    """The rule by which the golden parameters follow from their names."""
    return types.SimpleNamespace(**runpy.run_path(str(shared / "golden" / "rule.py")))


def _assert_near(value: np.ndarray, golden: np.ndarray, scale: float, what: str) -> None:
    assert value.shape == golden.shape, what
    assert np.abs(value - golden).max() <= 2e-5 * scale, what


@pytest.mark.parametrize("name", ["hrnet-w32", "hrnet-w18-small-v2"])
def test_golden(shared: Path, rule: Any, name: str) -> None:
    golden = np.load(shared / "golden" / f"{name.replace('-', '_')}.npz")
    with torch.device("meta"):
        backbone = build_backbone(name)
    state = backbone.state_dict()
    names = sorted(n for n in state if not n.endswith("num_batches_tracked"))
    assert sum(p.numel() for p in backbone.parameters()) == golden["n_params"]
    assert len(names) == golden["n_names"]
    assert zlib.crc32("\n".join(names).encode()) == golden["names_crc32"]

    values = {n: torch.from_numpy(rule.value(n, t.shape)) for n, t in state.items()}
    backbone.load_state_dict(values, assign=True)
    backbone.eval()

    seen: dict[str, list[np.ndarray]] = {}

    def record(point: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            maps = output if isinstance(output, list) else [output]
            seen[point] = [x[0].double().numpy().copy() for x in maps]  # a ReLU in place follows

        return hook

    for point in ("bn1", "layer1", "stage2", "stage3", "stage4"):
        backbone.get_submodule(point).register_forward_hook(record(point))
    with torch.inference_mode():
        maps = backbone(torch.from_numpy(rule.image()))

    # In the order of the network, so that the first failure tells where a deviation begins.
    for point, outputs in seen.items():
        for i, x in enumerate(outputs):
            for statistic, value in (("mean", x.mean((1, 2))), ("std", x.std((1, 2)))):
                what = f"{point}.{i}.{statistic}"
                _assert_near(value, golden[what], float(np.abs(x).max()), what)
    for i, x in enumerate(maps):
        whole = x[0].numpy()
        _assert_near(whole[rule.channels(len(whole))], golden[f"branch{i}"], float(np.abs(whole).max()), f"branch{i}")
    size = maps[0].shape[-2:]
    concat = torch.cat([F.interpolate(x, size, mode="bilinear", align_corners=False) for x in maps], 1)[0].numpy()
    scale = float(np.abs(concat).max())
    _assert_near(concat[::15, ::3, ::3], golden["concat"], scale, "concat")
    _assert_near(concat.astype(np.float64).mean((1, 2)), golden["concat.mean"], scale, "concat.mean")
