"""The state of a training: moving average, schedule, and all that is needed to resume bit for bit."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from calipose.config.recipe import Recipe
from calipose.errors import InputError
from calipose.model.backbones.movenet import MoveNetPyramid
from calipose.model.checkpoint import fill, load_tensors, save_tensors


class MovingAverage:
    """Exponential moving average of a network's state; the decay grows to its value in the first steps.

    Args:
        network: the network at the start.
        decay: share of the old average that is kept at each step.

    Attributes:
        values: the averaged state by name.

    Example:
        >>> average = MovingAverage(network, decay=0.998)
        >>> average.update(network, step=1)  # after each optimiser step
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Add the network's weights after optimiser step number `step` (from 1)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        state = network.state_dict()
        floating = [name for name, value in self.values.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.values[n] for n in floating], [state[n] for n in floating], 1 - decay)
        for name in self.values.keys() - set(floating):
            self.values[name].copy_(state[name])


def learning_rate_factor(step: int, steps_per_epoch: int, recipe: Recipe) -> float:
    """Factor of the learning rate for optimiser step `step` (from 0)."""
    optim = recipe.optim
    if optim.schedule == "steps":
        passed = sum(step >= milestone * steps_per_epoch for milestone in optim.milestones)
        factor = float(0.1**passed)
    else:
        factor = 0.5 * (1 + math.cos(math.pi * step / max(1, recipe.epochs * steps_per_epoch)))
    return factor * min(1.0, (step + 1) / (optim.warmup_steps + 1))


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Make Adam or AdamW for all trained weights; the backbone has its own rate, norms and biases do not decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            factor = recipe.backbone.lr_factor if name.startswith("backbone.") else 1.0
            decay = recipe.optim.weight_decay if parameter.dim() > 1 else 0.0
            groups.setdefault((factor, decay), []).append(parameter)
    table = [
        {
            "params": parameters,
            "lr": recipe.optim.lr * factor,
            "initial_lr": recipe.optim.lr * factor,
            "weight_decay": d,
        }
        for (factor, d), parameters in groups.items()
    ]
    kind = torch.optim.AdamW if recipe.optim.name == "adamw" else torch.optim.Adam
    return kind(table, lr=recipe.optim.lr, fused=recipe.compute.fused or None)


def freeze_backbone(backbone: nn.Module, how: str) -> None:
    """Exclude the backbone, or a part of it, from training.

    Args:
        backbone: the network's backbone.
        how: which part, as `BackboneSettings.freeze` says.

    Raises:
        InputError: `how` is `body` or `early` and the backbone has no pyramid.
    """
    kept: set[nn.Module] = set()
    if how in {"body", "early"}:
        if not isinstance(backbone, MoveNetPyramid):
            raise InputError(f"backbone.freeze = '{how}' needs a backbone with a pyramid, such as movenet-1.5")
        for part in [backbone.body] if how == "body" else backbone.body.early():
            kept |= set(part.modules())
    for module in backbone.modules():
        norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
        if how == "all" or module in kept or (how != "none" and norm):
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)


def training_mode(network: nn.Module, backbone: nn.Module, how: str) -> None:
    """Put a network into training mode, except for frozen batch norms, which keep their statistics.

    Args:
        network: the network, perhaps wrapped for several processes.
        backbone: its backbone.
        how: which part of it is frozen, as `BackboneSettings.freeze` says.
    """
    network.train()
    for module in backbone.modules():
        if how != "none" and isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def save_state(
    path: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: MovingAverage | None,
    progress: dict[str, Any],
) -> None:
    """Write everything that a training needs to be resumed, atomically and without pickle.

    Args:
        path: the file.
        network: its weights are saved.
        optimizer: its state is saved.
        average: the moving average, if there is one.
        progress: further values, which JSON can hold.
    """
    tensors: dict[str, Tensor] = {f"network.{n}": v for n, v in network.state_dict().items()}
    for index, entries in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in entries.items()}
    if average is not None:
        tensors |= {f"average.{n}": v for n, v in average.values.items()}
    save_tensors(path, tensors, {"progress": progress})


PROGRESS = {
    "training": dict, "step": int, "epoch": int, "running": list, "best": float | int | None, "seconds": float | int,
    "lines": int,
}  # fmt: skip


def check_progress(path: Path, progress: object) -> None:
    """Check that a saved state says how far its training had come.

    Raises:
        InputError: an entry of `PROGRESS` is missing, or of another type.
    """
    for key, kind in PROGRESS.items():
        if not isinstance(progress, dict) or not isinstance(progress.get(key), kind):
            raise InputError(f"{path}: what it says of the training's progress lacks '{key}'")


MAY_CHANGE = (
    "name",
    "description",
    "epochs",
    "evaluate_every",
    "compute",
    "data",
    "predict",
)  # of a recipe, on resuming


def check_same_training(path: Path, stored: dict[str, Any], current: dict[str, Any]) -> None:
    """Check that a training is resumed with the recipe and the data that its state was saved with.

    Args:
        path: the file of the state, for the message.
        stored: recipe, number of images and of processes of the saved state.
        current: the same of the training that is to be resumed.

    Raises:
        InputError: they differ in more than `MAY_CHANGE`; the message names what.
    """

    def essence(training: dict[str, Any]) -> dict[str, Any]:
        # What a recipe of an older Calipose does not have is as it was then: the default.
        training = {**training, "recipe": Recipe.from_dict(training["recipe"], str(path)).to_dict()}
        recipe = {key: value for key, value in training["recipe"].items() if key not in MAY_CHANGE}
        repeat = training["recipe"]["data"]["repeat"]
        return {**training, "data.repeat": list(repeat), "recipe": None, **recipe}

    try:
        old, new = json.loads(json.dumps([essence(stored), essence(current)]))
    except (KeyError, TypeError, AttributeError, InputError) as error:
        raise InputError(f"{path}: what it says of its training is damaged ({error!r})") from None
    differ = [f"{key} was {old.get(key)}, is {new.get(key)}" for key in new if old.get(key) != new.get(key)]
    if differ:
        raise InputError(f"{path}: saved by another training, so it cannot be resumed: " + "; ".join(differ))


def load_state(
    path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, average: MovingAverage | None
) -> dict[str, Any]:
    """Restore what `save_state` wrote.

    Args:
        path: the file.
        network: gets the saved weights.
        optimizer: gets the saved state.
        average: gets the saved average, if there is one.

    Returns:
        The saved `progress`.

    Raises:
        InputError: the file is missing, damaged, or of another network.
    """
    tensors, header = load_tensors(path)
    if "progress" not in header:
        raise InputError(f"{path} is a checkpoint, not a training state")
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "optimizer": {}, "average": {}}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        if part not in parts:
            raise InputError(f"{path}: holds '{name}', which no training state has")
        parts[part][rest] = value
    fill(network, parts["network"], str(path))
    if bool(parts["average"]) != (average is not None):
        saved, current = ("with", "without") if parts["average"] else ("without", "with")
        raise InputError(
            f"{path}: a training saved {saved} a moving average cannot go on {current} one; set optim.ema as it was"
        )
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in parts["optimizer"].items():
        index, _, entry = name.partition(".")
        if not (index.isdecimal() and int(index) < len(parameters)):
            raise InputError(f"{path}: holds 'optimizer.{name}', of a weight that this training has not")
        like = parameters[int(index)]
        if value.shape == like.shape:  # in the weights' memory layout, which the fast optimisers need
            value = torch.empty_like(like, dtype=value.dtype).copy_(value)  # noqa: PLW2901
        state.setdefault(int(index), {})[entry] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    if average is not None:
        for name, value in parts["average"].items():
            if name not in average.values or average.values[name].shape != value.shape:
                raise InputError(f"{path}: holds 'average.{name}', of a weight that this training has not")
            average.values[name].copy_(value)
    progress: dict[str, Any] = header["progress"]
    return progress
