"""The network: shapes for every variant of the method, its normalisation, and its precision."""

import pytest
import torch

from calipose.config.method import Method, valid_methods
from calipose.model.network import Network

METHODS = [
    Method(label=m.label, quality_branch=m.quality_branch, kqe=m.kqe, semantic_points=m.semantic_points,
           pose_query=m.pose_query, keypoint_width=2, instance_width=3)
    for m in valid_methods((0, 2))
]  # fmt: skip


@pytest.fixture(scope="module")
def backbone() -> torch.nn.Module:
    torch.manual_seed(0)
    return Network("mobilenetv2-0.1").backbone


def name(method: Method) -> str:
    quality = "-quality" if method.quality_branch else ""
    return f"{method.label}{quality}-{'kqe' if method.kqe else 'direct'}{method.semantic_points}-{method.pose_query}"


@pytest.mark.parametrize("method", METHODS, ids=name)
def test_every_variant_gives_maps_displacements_and_gradients(method: Method, backbone: torch.nn.Module) -> None:
    network = Network(backbone, 5, method)
    images = torch.randint(0, 255, (2, 64, 96, 3), dtype=torch.uint8)
    output = network(images, torch.tensor([[[0, 0], [23, 15], [7, 3]]]).expand(2, -1, -1))
    assert output.displacements.shape == (2, 5, 3, 2)
    assert output.maps.score.shape == (2, 16, 24)
    assert (output.maps.quality is not None) == method.quality_branch
    total = output.displacements.square().sum() + output.maps.score.square().sum()
    if output.maps.quality is not None:
        assert output.maps.quality.shape == (2, 16, 24)
        total = total + output.maps.quality.square().sum()
    total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.head.parameters())


def test_input_is_rgb_of_0_to_255_normalised_once(backbone: torch.nn.Module) -> None:
    network = Network(backbone, 5, METHODS[0]).eval()
    seen = []
    hook = network.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.randint(0, 255, (1, 32, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        maps = [network.encode(images), network.encode(images.float())]
    hook.remove()
    assert torch.equal(maps[0].score, maps[1].score)
    assert seen[0].shape == (1, 3, 32, 64)
    for c in range(3):
        expected = (images[..., c].float() - network.backbone.mean[c]) / network.backbone.std[c]
        assert (seen[0][:, c] - expected).abs().max() < 1e-5
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


def test_positions_and_score_are_fp32_under_mixed_precision(backbone: torch.nn.Module) -> None:
    network = Network(backbone, 5, Method(keypoint_width=2, instance_width=3)).eval()
    images = torch.randint(0, 255, (1, 64, 64, 3), dtype=torch.uint8)
    cells = torch.tensor([[[3, 4], [9, 9]]])
    with torch.no_grad():
        full = network(images, cells)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = network(images, cells)
    assert mixed.maps.score.dtype == mixed.displacements.dtype == torch.float32
    assert (mixed.displacements - full.displacements).abs().max() < 0.05
    assert (mixed.maps.score - full.maps.score).abs().max() < 0.05


def test_normalisation_is_not_saved(backbone: torch.nn.Module) -> None:
    assert not {"mean", "std"} & set(Network(backbone, 5, METHODS[0]).state_dict())
