"""The first weights of a training that starts from a checkpoint, with the same skeleton or another.

Most weights of a network are shared by all keypoints. The others form one block per keypoint (`keypoint_axis`), so a
keypoint of the same name, or that is said to be the same, takes its block, whatever its index. A keypoint that the
checkpoint does not have starts from the mean of the checkpoint's blocks: what they have in common, such as where people
are (docs/finetune.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from calipose.config.method import Method
from calipose.config.recipe import Recipe
from calipose.errors import InputError
from calipose.model.checkpoint import Checkpoint, fill, load_checkpoint
from calipose.model.network import Network
from calipose.model.weights import load_weights
from calipose.skeleton import Skeleton


def first_weights(
    network: Network,
    recipe: Recipe,
    skeleton: Skeleton,
    initial: str | Path | None,
    same_as: Mapping[str, str] | None,
) -> list[str]:
    """Load the weights that a training starts from: `initial`, else the recipe's backbone weights or its `init`.

    Args:
        network: the network of the training.
        recipe: its recipe.
        skeleton: its skeleton.
        initial: a checkpoint, a run folder, "default", or None.
        same_as: as for `start_from`.

    Returns:
        A sentence about each source; none where all weights are fresh.

    Raises:
        InputError: the weights are missing, damaged, or of another network.
    """
    if recipe.backbone.weights and not initial:
        return [str(load_weights(network.backbone, recipe.backbone.weights))]
    source = initial or recipe.init
    return [start_from(network, source, recipe, skeleton, same_as)] if source else []


def start_from(
    network: Network,
    initial: str | Path,
    recipe: Recipe,
    skeleton: Skeleton,
    same_as: Mapping[str, str] | None = None,
) -> str:
    """Load a checkpoint into a network for `skeleton`.

    Args:
        network: the network of the training.
        initial: the checkpoint, as `load_checkpoint` takes it; "default" is the model in the package.
        recipe: the recipe of the training.
        skeleton: the skeleton of the training.
        same_as: keypoints of `skeleton` -> keypoints of the checkpoint whose weights they take, beside those of equal
            names.

    Returns:
        One line that says which weights were taken.

    Raises:
        InputError: there is no such checkpoint, its backbone or head are not the recipe's, or `same_as` names a
            keypoint that is not there.
    """
    checkpoint = load_checkpoint(initial)
    theirs = checkpoint.skeleton
    names = _sources(skeleton, theirs, same_as or {})
    try:
        fill(network, weights_for(checkpoint, skeleton, same_as), str(initial))
    except InputError as error:
        raise InputError(f"{error}{_advice(checkpoint.recipe, recipe)}") from None
    if theirs.keypoints == skeleton.keypoints and not same_as:
        return f"{initial}: all its weights"
    new = [name for name, source in zip(skeleton.keypoints, names, strict=True) if source is None]
    taken = f"{initial}: backbone, instance features and {len(skeleton) - len(new)} of {len(skeleton)} keypoints"
    return taken + (f"; new, from the mean of all: {', '.join(new)}" if new else ", by their names")


def weights_for(
    checkpoint: Checkpoint, skeleton: Skeleton, same_as: Mapping[str, str] | None = None
) -> dict[str, Tensor]:
    """The checkpoint's weights, rearranged for the keypoints of `skeleton`; new keypoints get the mean.

    Args:
        checkpoint: where the weights come from.
        skeleton: whose network they are for.
        same_as: as of `start_from`.
    """
    theirs = checkpoint.skeleton.keypoints
    if theirs == skeleton.keypoints and not same_as:
        return checkpoint.weights
    sources = _sources(skeleton, checkpoint.skeleton, same_as or {})
    indices = [None if name is None else theirs.index(name) for name in sources]
    weights = {}
    for name, value in checkpoint.weights.items():
        axis = keypoint_axis(name, checkpoint.recipe.method)
        if axis is None:
            weights[name] = value
            continue
        blocks = torch.unflatten(value.float(), axis, (len(theirs), -1))
        mean = blocks.mean(axis)
        chosen = torch.stack([mean if index is None else blocks.select(axis, index) for index in indices], axis)
        if axis == 1:  # the score sums over the keypoints: with more of them, or fewer, it keeps its level
            chosen = chosen * (len(theirs) / len(skeleton))
        weights[name] = chosen.flatten(axis, axis + 1)
    return weights


def _sources(skeleton: Skeleton, theirs: Skeleton, same_as: Mapping[str, str]) -> list[str | None]:
    """For each keypoint of `skeleton`, the keypoint of the checkpoint whose weights it takes; None: it is new.

    Raises:
        InputError: `same_as` names a keypoint that is not there.
    """
    for name, source in same_as.items():
        for keypoint, there in ((name, skeleton), (source, theirs)):
            if keypoint not in there.keypoints:
                raise InputError(
                    f"--map {name}={source}: skeleton '{there.name}' has no keypoint '{keypoint}', but "
                    f"{', '.join(there.keypoints)}"
                )
    wanted = [same_as.get(name, name) for name in skeleton.keypoints]
    return [name if name in theirs.keypoints else None for name in wanted]


def keypoint_axis(name: str, method: Method) -> int | None:
    """The axis of a network's tensor along which each keypoint has its block, in order; None: it has no blocks.

    Args:
        name: the tensor's name in the network's state.
        method: the network's switches.
    """
    part, _, rest = name.partition(".")
    layer, _, entry = rest.partition(".")
    if part != "head" or layer.startswith(("instance_", "presence")) or entry == "num_batches_tracked":
        return None
    if layer in {"score", "quality"}:
        return 1 if entry == "weight" and method.pose_query != "none" else None
    return 0


def _advice(theirs: Recipe, recipe: Recipe) -> str:
    """Say which settings make the recipe's backbone and method those of the checkpoint."""
    old, new = ({"backbone.name": r.backbone.name} | _method(r) for r in (theirs, recipe))
    differ = [key for key in old if old[key] != new[key]]
    if not differ:
        return ""
    there = ", ".join(f"{key} {new[key]} (there {old[key]})" for key in differ)
    return f". The recipe has {there}: add " + " ".join(f"--set {key}={old[key]}" for key in differ)


def _method(recipe: Recipe) -> dict[str, str]:
    return {f"method.{key}": str(value).lower() for key, value in recipe.to_dict()["method"].items()}
