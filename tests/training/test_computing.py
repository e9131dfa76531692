"""Compiling, the fused optimiser and gradient checkpointing: time and memory change, the training does not."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest
import torch
from torch import Tensor, nn

from calipose.config.method import Method
from calipose.config.recipe import Recipe, load_recipe
from calipose.config.settings import BackboneSettings, ComputeSettings, DataSettings, OptimSettings, PredictSettings
from calipose.data.coco import read_coco
from calipose.data.store import KeypointData
from calipose.data.synthetic.scene import EASY, write_synthetic_data
from calipose.errors import InputError
from calipose.model.checkpoint import load_tensors
from calipose.model.network import Network
from calipose.training import computing
from calipose.training.computing import blocks, set_computing
from calipose.training.loop import Stopped, Trainer

METHOD = Method(keypoint_width=4, instance_width=8, semantic_points=2)
RECIPE = Recipe(
    name="tiny", size=64, batch_size=2, epochs=2,
    backbone=BackboneSettings(name="mobilenetv2-0.1"),
    method=METHOD,
    optim=OptimSettings(name="adamw", lr=1e-3, weight_decay=0.01, accumulate=2, ema=0.9, clip_norm=1),
    data=DataSettings(in_memory=True, workers=0),
    predict=PredictSettings(short_side=64, score_threshold=-1),
)  # fmt: skip
CHECKPOINTING = ComputeSettings(gradient_checkpointing=True)
SETTINGS = {
    "checkpointing": CHECKPOINTING,
    "compile": ComputeSettings(compile=True),
    "both": ComputeSettings(compile=True, gradient_checkpointing=True),
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler's graphs without its machine code, which takes a minute; no scalars (they are slow)."""
    monkeypatch.setattr(computing, "COMPILER", "aot_eager")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> KeypointData:
    """Eight synthetic images: two steps an epoch."""
    annotations = write_synthetic_data(tmp_path_factory.mktemp("drawn") / "data", 8, EASY, (80, 64), seed=3)
    return read_coco(annotations, annotations.parent / "images")


def backward(settings: ComputeSettings, backbone: str) -> tuple[dict[str, Tensor], dict[str, Tensor], int]:
    """Gradients and state of a network after one backward pass, and how often its first block's layer computed."""
    torch.manual_seed(0)
    network = Network(backbone, 5, METHOD).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    set_computing(network, settings)
    calls: list[nn.Module] = []
    first = next(m for m in blocks(network.backbone)[0].modules() if isinstance(m, nn.BatchNorm2d))
    if not settings.compile:
        first.register_forward_hook(lambda module, *_: calls.append(module))
    images = torch.randint(0, 255, (2, 64, 64, 3), dtype=torch.uint8)
    output = network(images, torch.randint(0, 16, (2, 9, 2)))
    ((output.maps.score**2).sum() + (output.displacements**2).mean()).backward()
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    return gradients, network.state_dict(), len(calls)


@pytest.mark.parametrize(
    ("kind", "backbone"),
    [
        ("checkpointing", "mobilenetv2-0.1"),
        ("checkpointing", "hrnet-w18-small"),
        ("checkpointing", "movenet-0.35"),
        ("compile", "mobilenetv2-0.1"),
        ("both", "mobilenetv2-0.1"),
    ],
)
def test_gradients_and_statistics_are_the_plain_ones(kind: str, backbone: str) -> None:
    plain, plain_state, once = backward(ComputeSettings(), backbone)
    gradients, state, times = backward(SETTINGS[kind], backbone)
    assert (once, times) == (1, 2 if kind == "checkpointing" else 0)  # the insides were computed again
    assert gradients.keys() == plain.keys()
    scale = max(float(value.abs().max()) for value in plain.values())
    for name, value in plain.items():
        assert float((gradients[name] - value).abs().max()) <= 1e-6 * scale, name
    assert list(state) == list(plain_state)  # the names of the network that is saved
    for name, value in plain_state.items():
        torch.testing.assert_close(state[name], value, rtol=1e-5, atol=1e-6, msg=name)
        assert "tracked" not in name or int(state[name]) == 1, name


def test_statistics_would_be_wrong_without_care(monkeypatch: pytest.MonkeyPatch) -> None:
    """That the test above can fail: computing a block again counts its batch twice."""
    monkeypatch.setattr(computing, "_statistics_kept", lambda _: computing.contextlib.nullcontext())
    _, state, _ = backward(CHECKPOINTING, "mobilenetv2-0.1")
    assert {int(value) for name, value in state.items() if "tracked" in name} == {1, 2}


def test_every_block_may_be_compiled() -> None:
    """Torch compiles a function, and so the blocks of one class together, 8 times; then it computes as without."""
    with torch._dynamo.config.patch(recompile_limit=8):
        network = Network("mobilenetv2-0.1", 5, METHOD)
        set_computing(network, SETTINGS["both"])
        assert torch._dynamo.config.recompile_limit > len(blocks(network.backbone)) > 8


@pytest.mark.parametrize(
    ("backbone", "kinds"),
    [
        ("hrnet-w32", ["Bottleneck"] * 4 + ["HighResolutionModule"] * 8),
        ("mobilenetv2-1", ["SeparableConv"] + ["InvertedResidual"] * 16),
    ],
)
def test_blocks(backbone: str, kinds: list[str]) -> None:
    assert [type(block).__name__ for block in blocks(Network(backbone).backbone)] == kinds


def train(data: KeypointData, out: Path, stop: bool = False, resume: bool = False, **settings: bool) -> list[dict]:
    """Losses of each step."""
    losses: list[dict] = []
    recipe = msgspec.structs.replace(RECIPE, compute=ComputeSettings(**settings))
    trainer = Trainer(recipe, data, out, resume=resume, progress=lambda now, _, values: losses.append(values))
    if stop:
        trainer._agree = lambda _: trainer.step == 1
        with pytest.raises(Stopped):
            trainer.run()
    else:
        trainer.run()
    return losses


@pytest.mark.parametrize("name", ["fused", "gradient_checkpointing", "compile"])
def test_a_training_is_the_plain_one_and_resumes(data: KeypointData, tmp_path: Path, name: str) -> None:
    plain = train(data, tmp_path / "plain")
    losses = train(data, tmp_path / "straight", **{name: True})
    assert len(losses) == 4
    assert losses[0] == pytest.approx(plain[0], rel=1e-5)
    assert losses[-1]["total"] == pytest.approx(plain[-1]["total"], rel=1e-2)
    first = train(data, tmp_path / "resumed", stop=True, **{name: True})
    assert first + train(data, tmp_path / "resumed", resume=True, **{name: True}) == losses
    one, other = (load_tensors(tmp_path / run / "last.safetensors")[0] for run in ("straight", "resumed"))
    assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_a_training_may_go_on_computing_otherwise(data: KeypointData, tmp_path: Path) -> None:
    plain = train(data, tmp_path / "plain")
    train(data, tmp_path / "changed", stop=True)
    rest = train(data, tmp_path / "changed", resume=True, gradient_checkpointing=True)
    assert rest == plain[1:]


def test_the_fused_optimiser_is_used(data: KeypointData, tmp_path: Path) -> None:
    recipe = msgspec.structs.replace(RECIPE, compute=ComputeSettings(fused=True))
    assert Trainer(recipe, data, tmp_path / "fused").optimizer.defaults["fused"] is True
    assert load_recipe("onepass", ["compute.fused=true"]).compute == ComputeSettings(fused=True)


def test_without_a_compiler_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match="no-such-compiler"):
        set_computing(Network("mobilenetv2-0.1", 5, METHOD), ComputeSettings(compile=True))
