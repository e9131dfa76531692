"""The sparse form: the score at few cells, R_k only where it is read."""

import msgspec
import pytest
import torch

from calipose.config.method import Method, valid_methods
from calipose.model.decode import find_candidates, presence_cells, scatter_scores
from calipose.model.network import Network
from calipose.model.sampling import Finest, SparseRows, sample_rows

EVERY_CELL = 400  # more than the images here have
FLIP = [1, 0, 2, 4, 3]


def network_of(backbone: str, method: Method, cells: int = EVERY_CELL) -> Network:
    torch.manual_seed(0)
    method = msgspec.structs.replace(
        method, sparse_cells=cells, keypoint_scores=True, keypoint_width=6, instance_width=8
    )
    network = Network(backbone, 5, method).double().eval()
    for parameter in network.head.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return network


def same_poses(network: Network, flip: list[int] | None = None) -> float:
    """Largest difference of the two forms' candidates."""
    images = torch.randint(0, 256, (2, 64, 96, 3), dtype=torch.uint8)
    dense = find_candidates(network, images, 10, flip, sparse=False)
    sparse = find_candidates(network, images, 10, flip, sparse=True)
    gaps = [0.0]
    for name in ("keypoints_inp", "scores", "queries_inp", "keypoint_scores"):
        a, b = getattr(dense, name), getattr(sparse, name)
        assert (a is None) == (b is None)
        if a is not None:
            real = a > -torch.inf
            assert torch.equal(real, b > -torch.inf)
            gaps.append(float((a - b)[real].abs().max() / a[real].abs().max()))
    return max(gaps)


@pytest.mark.parametrize("method", valid_methods(), ids=str)
def test_every_switch_gives_the_dense_poses(method: Method) -> None:
    assert same_poses(network_of("movenet-0.25", method)) < 1e-11


@pytest.mark.parametrize("backbone", ["hrnet-w18-small", "mobilenetv2-0.25", "movenet-0.25"])
@pytest.mark.parametrize("flip", [None, FLIP], ids=["once", "flip"])
def test_every_backbone_gives_the_dense_poses(backbone: str, flip: list[int] | None) -> None:
    assert same_poses(network_of(backbone, Method(semantic_points=3)), flip) < 1e-11


def test_semantic_points_read_at_the_centre() -> None:
    assert same_poses(network_of("movenet-0.25", Method(semantic_points=2, semantic_at="center"))) < 1e-11


def test_a_peak_among_the_cells_is_found_with_its_score() -> None:
    network = network_of("movenet-0.25", Method(semantic_points=2), cells=40)
    images = torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8)
    with torch.no_grad():
        maps = network.encode(images)
    assert maps.presence is not None
    cells, _ = presence_cells(maps.presence, 40)
    among = {tuple(cell) for cell in cells[0].tolist()}
    dense, sparse = (find_candidates(network, images, 384, sparse=form) for form in (False, True))
    found = {
        round(value, 9): keypoints
        for value, keypoints in zip(sparse.scores[0].tolist(), sparse.keypoints_inp[0], strict=True)
    }
    expected = 0
    for value, keypoints in zip(dense.scores[0].tolist(), dense.keypoints_inp[0], strict=True):
        if value == -torch.inf:
            break
        y, x = (maps.score[0] == value).nonzero()[0].tolist()
        if (x, y) in among:
            assert torch.allclose(found[round(value, 9)], keypoints)
            expected += 1
    assert expected > 0


def test_the_smallest_image_has_fewer_cells_than_wished() -> None:
    network = network_of("movenet-0.25", Method(semantic_points=2))
    candidates = find_candidates(network, torch.zeros(1, 32, 32, 3, dtype=torch.uint8), 10)
    assert candidates.scores.shape == (1, 10)


def test_the_cells_of_highest_presence() -> None:
    presence = torch.tensor([[[0.1, 0.9], [0.5, 0.3]]])
    cells, real = presence_cells(presence, 3)
    assert cells[0].tolist() == [[1, 0], [0, 1], [1, 1]]
    assert real.all()
    cells, real = presence_cells(presence, 6)
    assert real[0].tolist() == [True] * 4 + [False] * 2


def test_scores_go_to_their_cells() -> None:
    presence = torch.zeros(1, 2, 2)
    cells, real = torch.tensor([[[1, 0], [0, 1], [1, 1]]]), torch.tensor([[True, True, False]])
    placed = scatter_scores(torch.tensor([[0.7, 0.2, 9.0]]), cells, real, presence)
    assert placed[0].tolist() == [[-torch.inf, pytest.approx(0.7)], [pytest.approx(0.2), -torch.inf]]


def test_rows_are_those_of_the_map() -> None:
    """R_k where it is read is R_k of the whole map, read there."""
    torch.manual_seed(1)
    branches = [torch.randn(2, c, 16 // 2**i, 24 // 2**i, dtype=torch.float64) for i, c in enumerate((3, 4, 5, 6))]
    weight, bias = torch.randn(6, 18, 1, 1, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    upsampled = [torch.nn.functional.interpolate(b, (16, 24), mode="bilinear") for b in branches]
    whole = torch.relu(torch.nn.functional.conv2d(torch.cat(upsampled, 1), weight, bias))
    rows = SparseRows.of(Finest(branches[0]), branches[1:], weight, bias, keypoints=2)
    positions = torch.rand(2, 2, 50, 2, dtype=torch.float64) * 30 - 3  # some beyond the map
    assert torch.allclose(rows.at_positions(positions), sample_rows(whole, positions))
    cells = torch.tensor([[[0, 0], [23, 15], [7, 3]], [[1, 2], [22, 0], [5, 9]]])
    assert torch.allclose(rows.at_cells(cells), sample_rows(whole, cells.double().unsqueeze(1).expand(-1, 2, -1, -1)))
