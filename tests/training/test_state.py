"""Schedule, optimiser groups, moving average, freezing, and the state file, as tables."""

import math
from pathlib import Path

import pytest
import torch

from calipose.config.method import Method
from calipose.config.recipe import Recipe
from calipose.config.settings import BackboneSettings, OptimSettings
from calipose.errors import InputError
from calipose.model.checkpoint import Checkpoint, load_tensors, save_checkpoint, save_tensors
from calipose.model.network import Network
from calipose.skeleton import COCO_17
from calipose.training.state import (
    MovingAverage,
    check_same_training,
    freeze_backbone,
    learning_rate_factor,
    load_state,
    make_optimizer,
    save_state,
    training_mode,
)

METHOD = Method(keypoint_width=2, instance_width=4, semantic_points=1)


def recipe(epochs: int = 10, backbone: BackboneSettings | None = None, **optim: object) -> Recipe:
    return Recipe(
        name="test", epochs=epochs, method=METHOD, backbone=backbone or BackboneSettings(name="mobilenetv2-0.1"),
        optim=OptimSettings(**optim),
    )  # fmt: skip


def network() -> Network:
    torch.manual_seed(0)
    return Network("mobilenetv2-0.1", 17, METHOD)


STEPS = {"schedule": "steps", "milestones": (4, 8)}
COSINE = {"schedule": "cosine"}


@pytest.mark.parametrize(
    ("optim", "step", "factor"),
    [
        (STEPS, 0, 1.0), (STEPS, 19, 1.0), (STEPS, 20, 0.1), (STEPS, 39, 0.1), (STEPS, 40, 0.01), (STEPS, 49, 0.01),
        ({"schedule": "steps"}, 49, 1.0),
        (COSINE, 0, 1.0), (COSINE, 25, 0.5), (COSINE, 10, (1 + math.cos(math.pi / 5)) / 2), (COSINE, 50, 0.0),
        (STEPS | {"warmup_steps": 3}, 0, 0.25), (STEPS | {"warmup_steps": 3}, 2, 0.75),
        (STEPS | {"warmup_steps": 3}, 3, 1.0), (STEPS | {"warmup_steps": 3}, 40, 0.01),
        (COSINE | {"warmup_steps": 9}, 4, 0.5 * (1 + math.cos(math.pi * 4 / 50)) / 2),
    ],
)  # fmt: skip
def test_learning_rate(optim: dict, step: int, factor: float) -> None:
    assert learning_rate_factor(step, 5, recipe(**optim)) == pytest.approx(factor)


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_groups_of_the_optimiser(name: str, kind: type) -> None:
    net = network()
    backbone = BackboneSettings(name="mobilenetv2-0.1", lr_factor=0.2)
    optimizer = make_optimizer(net, recipe(backbone=backbone, name=name, lr=1e-2, weight_decay=0.03))
    assert type(optimizer) is kind
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    seen = []
    for group in optimizer.param_groups:
        assert group["lr"] == group["initial_lr"]
        for parameter in group["params"]:
            of = names[id(parameter)]
            seen.append(of)
            assert group["lr"] == pytest.approx(2e-3 if of.startswith("backbone.") else 1e-2), of
            assert group["weight_decay"] == (0.03 if parameter.dim() > 1 else 0.0), of
    assert sorted(seen) == sorted(names.values())
    assert {"head.score.bias", "head.keypoint_norm.weight", "head.score.weight"} <= set(seen)


@pytest.mark.parametrize(("how", "learns"), [("none", "all"), ("norm", "but norms"), ("all", "head")])
def test_freezing(how: str, learns: str) -> None:
    net = network()
    freeze_backbone(net.backbone, how)
    norms = {id(p) for m in net.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d) for p in m.parameters()}
    assert norms
    for name, parameter in net.named_parameters():
        fixed = name.startswith("backbone.") and (
            learns == "head" or (learns == "but norms" and id(parameter) in norms)
        )
        assert parameter.requires_grad != fixed, name
    count = sum(len(group["params"]) for group in make_optimizer(net, recipe()).param_groups)
    assert count == sum(p.requires_grad for p in net.parameters())
    training_mode(net, net.backbone, how)
    modes = {m.training for m in net.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert modes == {how == "none"}
    assert net.head.keypoint_norm.training


@pytest.mark.parametrize("how", ["early", "body"])
def test_freezing_what_lies_before_the_pyramid(how: str) -> None:
    net = Network("movenet-0.1", 17, METHOD)
    freeze_backbone(net.backbone, how)
    for name, parameter in net.named_parameters():
        body = name.removeprefix("backbone.body.")
        late = body.startswith(("blocks.3", "blocks.4", "blocks.5", "blocks.6")) and ".bn" not in body
        assert parameter.requires_grad == (body == name or (how == "early" and late)), name
    with pytest.raises(InputError, match=f"freeze = '{how}' needs a backbone with a pyramid"):
        freeze_backbone(network().backbone, how)


def test_moving_average_step_by_step() -> None:
    net = torch.nn.BatchNorm1d(2)
    average, expected = MovingAverage(net, 0.9), 1.0
    for step in range(1, 200):
        net.weight.data.fill_(1.0 + 0.1 * step)
        net.num_batches_tracked.fill_(step)
        average.update(net, step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * (1.0 + 0.1 * step)
    assert average.values["weight"].tolist() == pytest.approx([expected] * 2, rel=1e-5)
    assert average.values["num_batches_tracked"] == 199  # a count is no average
    assert average.values["bias"].tolist() == [0.0, 0.0]
    assert average.values["weight"].data_ptr() != net.weight.data_ptr()


def learn(net: Network, optimizer: torch.optim.Optimizer, average: MovingAverage, steps: range) -> None:
    for step in steps:
        torch.manual_seed(step)
        output = net(torch.randint(0, 255, (2, 32, 32, 3)), torch.randint(0, 8, (2, 5, 2)))
        (output.maps.score.square().mean() + output.displacements.square().mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
        average.update(net, step + 1)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_a_restored_state_goes_on_bit_for_bit(tmp_path: Path, name: str) -> None:
    settings = recipe(name=name, weight_decay=0.01)
    net = network()
    optimizer, average = make_optimizer(net, settings), MovingAverage(net, 0.9)
    learn(net, optimizer, average, range(3))
    save_state(tmp_path / "state", net, optimizer, average, {"step": 3, "best": 1 / 3})
    learn(net, optimizer, average, range(3, 6))

    torch.manual_seed(99)
    other = Network("mobilenetv2-0.1", 17, METHOD)
    second, other_average = make_optimizer(other, settings), MovingAverage(other, 0.9)
    assert load_state(tmp_path / "state", other, second, other_average) == {"step": 3, "best": 1 / 3}
    learn(other, second, other_average, range(3, 6))
    for key, value in net.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key
        assert torch.equal(average.values[key], other_average.values[key]), key


def test_files_that_are_no_state_of_this_network(tmp_path: Path) -> None:
    net = network()
    optimizer = make_optimizer(net, recipe())
    path = tmp_path / "state.safetensors"
    with pytest.raises(InputError, match=r"state\.safetensors: no such"):
        load_state(path, net, optimizer, None)
    save_checkpoint(path, Checkpoint(recipe(), COCO_17, net.state_dict()))
    with pytest.raises(InputError, match=r"state\.safetensors is a checkpoint, not a training state"):
        load_state(path, net, optimizer, None)
    other = Network("mobilenetv2-0.1", 5, METHOD)
    save_state(path, other, make_optimizer(other, recipe()), None, {})
    with pytest.raises(InputError, match=r"state\.safetensors: weights of another network"):
        load_state(path, net, optimizer, None)
    save_tensors(path, {}, {"progress": {}})
    with pytest.raises(InputError, match=r"state\.safetensors: weights of another network"):
        load_state(path, net, optimizer, None)
    save_state(path, net, optimizer, None, {})
    with pytest.raises(InputError, match=r"state\.safetensors: .*moving average"):
        load_state(path, net, optimizer, MovingAverage(net, 0.9))


@pytest.mark.parametrize(
    "name", ["other.x", "optimizer.x.step", "optimizer.-1.step", "optimizer.9999.step", "average.x"]
)
def test_a_state_with_tensors_of_nothing(tmp_path: Path, name: str) -> None:
    net = network()
    optimizer, average = make_optimizer(net, recipe()), MovingAverage(net, 0.9)
    path = tmp_path / "state.safetensors"
    save_state(path, net, optimizer, average, {})
    tensors, _ = load_tensors(path)
    save_tensors(path, {**tensors, name: torch.zeros(1)}, {"progress": {}})
    with pytest.raises(InputError, match=rf"state\.safetensors: holds '{name}'"):
        load_state(path, net, optimizer, average)


@pytest.mark.parametrize("stored", [{}, {"recipe": None}, {"recipe": {"data": 3}}])
def test_a_state_that_does_not_say_of_what(stored: dict[str, object]) -> None:
    with pytest.raises(InputError, match="state: what it says of its training is damaged"):
        check_same_training(Path("state"), stored, {"recipe": recipe().to_dict()})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({}, None),
        ({"epochs": 9}, None),
        ({"predict": {"short_side": 640}}, None),
        ({"data": {"workers": 0}}, None),
        ({"batch_size": 8}, "batch_size was 16, is 8"),
        ({"data": {"repeat": [2.0]}}, "data.repeat"),
        ({"loss": {"radius": 3.0}}, "loss"),
    ],
)
def test_only_what_does_not_change_the_steps_may_differ_on_resuming(
    change: dict[str, object], named: str | None, tmp_path: Path
) -> None:
    def training(**changes: object) -> dict[str, object]:
        recipe = Recipe.from_dict({"name": "r", **changes})
        return {"recipe": recipe.to_dict(), "images": 5, "processes": 1}

    if named is None:
        check_same_training(tmp_path, training(), training(**change))
    else:
        with pytest.raises(InputError, match=named):
            check_same_training(tmp_path, training(), training(**change))


def test_other_data_cannot_be_resumed(tmp_path: Path) -> None:
    stored = {"recipe": Recipe(name="r").to_dict(), "images": 5, "processes": 1}
    with pytest.raises(InputError, match="images was 5, is 6"):
        check_same_training(tmp_path, stored, {**stored, "images": 6})
