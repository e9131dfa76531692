"""Fixtures shared by the tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from calipose.model.checkpoint import Checkpoint

# Two tests run at once on two cores; more threads in each would only fight.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with photographs, golden values and weights that lies beside the project."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"{folder.name}/ is not beside the project: photographs and golden values are read from there")
    return folder


@pytest.fixture(scope="session")
def tiny_checkpoint() -> Checkpoint:
    """A network of random weights, whose displacements are some cells and whose scores are within 0 and about 1."""
    import torch

    from calipose.config.recipe import Recipe
    from calipose.model.checkpoint import Checkpoint
    from calipose.model.network import Network
    from calipose.skeleton import COCO_17

    torch.manual_seed(0)
    recipe = Recipe.from_dict(
        {
            "name": "tiny",
            "backbone": {"name": "mobilenetv2-0.25"},
            "method": {"keypoint_width": 4, "instance_width": 8, "semantic_points": 3},
            "predict": {"short_side": 96},
        }
    )
    network = Network("mobilenetv2-0.25", 17, recipe.method)
    for name, parameter in network.head.named_parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
        if name.startswith("score."):
            parameter.data /= 4
        if name == "score.bias":
            parameter.data += 0.4
    return Checkpoint(recipe, COCO_17, network.state_dict())


@pytest.fixture(scope="session")
def tiny_onnx(tiny_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_checkpoint`, exported; half a minute to make."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    from calipose.export.onnx import export_onnx

    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    assert export_onnx(tiny_checkpoint, path).poses > 50
    return path
