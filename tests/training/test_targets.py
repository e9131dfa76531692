"""Targets: Omega, the OKS of predicted poses, and the labels of the score map, each against plain loops."""

import math

import numpy as np
import pytest
import torch
from pycocotools.cocoeval import COCOeval

from calipose import geometry
from calipose.config.settings import LossSettings
from calipose.skeleton import COCO_17
from calipose.training.targets import oks, oks_of_cells, people_centers, score_label
from ideal_maps import exact_displacements, spread_people, targets_of

SIGMAS = torch.tensor(COCO_17.sigmas, dtype=torch.float64)


def pycocotools_oks(predicted: np.ndarray, truth: np.ndarray, labelled: np.ndarray, area: float) -> float:
    evaluation = COCOeval(iouType="keypoints")
    keypoints = np.column_stack([truth, 2 * labelled]).ravel().tolist()
    evaluation._gts[1, 1] = [{"keypoints": keypoints, "bbox": [0, 0, 1, 1], "area": area}]
    keypoints = np.column_stack([predicted, np.ones(len(predicted))]).ravel().tolist()
    evaluation._dts[1, 1] = [{"keypoints": keypoints, "score": 1.0}]
    return float(evaluation.computeOks(1, 1)[0, 0])


@pytest.mark.parametrize("seed", range(5))
def test_oks_is_the_same_in_torch_numpy_and_pycocotools(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 300, (8, 17, 2))
    area = rng.uniform(400, 40000, 8)
    predicted = truth + rng.normal(0, 0.1, truth.shape) * np.sqrt(area)[:, None, None]
    labelled = rng.random((8, 17)) < 0.6
    labelled[0], labelled[1] = True, np.arange(17) == seed  # all joints; a single one
    labelled[:, seed] = True
    truth = np.where(labelled[..., None], truth, 0)  # as COCO writes them
    ours = oks(*map(torch.from_numpy, (predicted, truth, labelled, area)), SIGMAS).numpy()
    assert np.allclose(ours, geometry.oks(predicted, truth, labelled, area, COCO_17.sigmas), atol=1e-6, rtol=0)
    theirs = [pycocotools_oks(*person) for person in zip(predicted, truth, labelled, area, strict=True)]
    assert np.allclose(ours, theirs, atol=1e-6, rtol=0)
    assert 0.05 < ours.mean() < 0.95


@pytest.mark.parametrize(
    ("gamma", "center", "inside", "outside"),
    [
        (4.0, (8.0, 8.0), [(8, 8), (11, 8), (8, 5), (10, 11)], [(12, 8), (8, 4), (8, 12), (4, 8), (11, 11)]),
        (4.0, (8.5, 8.0), [(12, 8), (5, 8), (12, 9)], [(13, 8), (4, 8), (12, 10)]),
        (1.0, (8.0, 8.0), [(8, 8)], [(9, 8), (7, 8), (8, 9), (9, 9)]),
        (5.0, (0.0, 0.0), [(0, 0), (4, 0), (3, 3), (2, 4)], [(5, 0), (3, 4), (4, 3)]),
    ],
)
def test_omega_is_the_open_disc(
    gamma: float, center: tuple[float, float], inside: list[tuple[int, int]], outside: list[tuple[int, int]]
) -> None:
    everywhere = torch.tensor(center, dtype=torch.float64).expand(1, 1, 17, 2) * 4 + 1.5
    owner = targets_of(everywhere, settings=LossSettings(radius=gamma)).owner[0]
    assert [owner[y, x].item() for x, y in inside] == [0] * len(inside)
    assert [owner[y, x].item() for x, y in outside] == [-1] * len(outside)


@pytest.mark.parametrize("seed", range(4))
def test_owner_distance_and_cells_cell_by_cell(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width, gamma = 12, 20, 3.5
    centers = rng.uniform((0, 0), (width, height), (2, 5, 2))  # crowded: every Omega overlaps another
    keypoints = torch.cat([spread_people(c.tolist(), seed) for c in centers])
    labelled = torch.ones(2, 5, 17, dtype=torch.bool)
    labelled[0, 2] = labelled[1, :4] = False  # padding owns no cell
    targets = targets_of(keypoints, labelled, size=(height, width), settings=LossSettings(radius=gamma))
    for b in range(2):
        expected = []
        for y in range(height):
            for x in range(width):
                apart = [math.dist((x, y), c) if labelled[b, p].any() else math.inf for p, c in enumerate(centers[b])]
                nearest = int(np.argmin(apart))
                owner = nearest if apart[nearest] < gamma else -1
                assert targets.owner[b, y, x] == owner
                assert abs(float(targets.distance[b, y, x]) - apart[nearest]) < 1e-9
                if owner >= 0:
                    expected.append([x, y])
        assert targets.cells[b][targets.inside[b]].tolist() == expected
        person = targets.person_of_cell()[b][targets.inside[b]]
        assert person.tolist() == [int(targets.owner[b, y, x]) for x, y in expected]


@pytest.mark.parametrize(
    ("kind", "labelled", "expected"),
    [
        ("keypoints", [0, 1, 2], (4.0, 2.0)),
        ("box", [0, 1, 2], (5.0, 3.0)),
        ("keypoints", [1], (2.0, 0.0)),
        ("box", [1], (2.0, 0.0)),
        ("box", [0, 2], (5.0, 3.0)),
        ("keypoints", [], (0.0, 0.0)),
        ("box", [], (0.0, 0.0)),
    ],
)
def test_centers_are_of_the_labelled_joints(kind: str, labelled: list[int], expected: tuple[float, float]) -> None:
    keypoints = torch.tensor([[0.0, 0.0], [2.0, 0.0], [10.0, 6.0], [99.0, -99.0]])[None, None]
    mask = torch.zeros(1, 1, 4, dtype=torch.bool)
    mask[..., labelled] = True
    assert people_centers(keypoints, mask, kind)[0, 0].tolist() == pytest.approx(expected)


def crowd(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Three people in each of two images, with unlabelled keypoints; one image has a person less."""
    generator = torch.Generator().manual_seed(seed)
    keypoints = torch.cat([spread_people([(6, 7), (11, 8), (24.3, 20.6)], seed + i) for i in range(2)])
    labelled = torch.rand(2, 3, 17, generator=generator) < 0.7
    labelled[0, 1] = torch.arange(17) == 4  # a person with a single labelled joint
    labelled[1, 2] = False
    area = torch.rand(2, 3, generator=generator, dtype=torch.float64) * 4000 + 500
    return keypoints, labelled, area


def test_labels_cell_by_cell() -> None:
    keypoints, labelled, area = crowd(3)
    targets = targets_of(keypoints, labelled, area)
    displacements = exact_displacements(targets)
    displacements = displacements + torch.randn(displacements.shape, dtype=torch.float64)
    x, y = targets.cells.unbind(-1)
    at_cells = torch.stack([displacements[b, :, :, y[b], x[b]] for b in range(2)]).transpose(2, 3).requires_grad_()
    cell_oks = oks_of_cells(targets, at_cells, SIGMAS)
    labels = {kind: score_label(targets, cell_oks, kind, 4.0) for kind in ("discrete", "gaussian", "cir")}
    assert not any(label.requires_grad for label in labels.values())
    for b in range(2):
        for row in range(32):
            for column in range(32):
                found = {kind: float(label[b, row, column]) for kind, label in labels.items()}
                person = int(targets.owner[b, row, column])
                if person < 0:
                    assert set(found.values()) == {0.0}
                    continue
                pose_cell = np.array([column, row]) + displacements[b, :, :, row, column].numpy()
                expected = geometry.oks(
                    pose_cell * 4 + 1.5, keypoints[b, person], labelled[b, person], area[b, person], COCO_17.sigmas
                )
                assert found["discrete"] == 1.0
                assert found["cir"] == pytest.approx(float(expected), abs=1e-6)
                center = ((keypoints[b, person][labelled[b, person]] - 1.5) / 4).mean(0)
                apart = math.dist((column, row), center.tolist())
                assert found["gaussian"] == pytest.approx(math.exp(-(apart**2) / (2 * 2.0**2)), abs=1e-6)


def test_an_annotated_person_s_cells_are_never_ignored() -> None:
    ignore = torch.zeros(1, 32, 32, dtype=torch.bool)
    ignore[:, :, :16] = True
    targets = targets_of(spread_people([(15.5, 10.0)]), ignore=ignore)
    omega = targets.owner >= 0
    assert omega[:, :, :16].any()
    assert torch.equal(targets.ignore, ignore & ~omega)


@pytest.mark.parametrize("kind", ["discrete", "gaussian", "cir"])
def test_nobody_has_a_label_of_zeros(kind: str) -> None:
    targets = targets_of(torch.zeros(2, 1, 17, 2), torch.zeros(2, 1, 17, dtype=torch.bool), 0.0)
    assert (targets.owner == -1).all()
    assert not targets.inside.any()
    assert targets.distance.isinf().all()
    cell_oks = oks_of_cells(targets, torch.randn(2, 17, targets.cells.shape[1], 2), SIGMAS.float())
    label = score_label(targets, cell_oks, kind, 4.0)
    assert not label.any()
