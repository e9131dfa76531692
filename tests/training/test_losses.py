"""Losses: Eq. 3 and Eq. 6 against plain loops, every divisor, and a defined value for every batch."""

import math

import pytest
import torch

from calipose.config.method import Method
from calipose.config.settings import LossSettings
from calipose.model.network import Network, Output
from calipose.skeleton import COCO_17
from calipose.training.losses import all_losses, offset_loss
from calipose.training.targets import Targets, make_targets, oks_of_cells
from ideal_maps import exact_displacements, ideal_maps, plain_maps, spread_people, targets_of

SIGMAS = torch.tensor(COCO_17.sigmas, dtype=torch.float64)


def scene(settings: LossSettings, quality: bool = False) -> tuple[Output, Targets]:
    """Two images with two people and one, an ignored corner, and a network that errs."""
    torch.manual_seed(0)
    keypoints = torch.cat([spread_people([(6, 7), (10, 20)], 1), spread_people([(9, 24), (0, 0)], 2)])
    labelled = torch.rand(2, 2, 17) < 0.7
    labelled[1, 1] = False
    ignore = torch.zeros(2, 32, 32, dtype=torch.bool)
    ignore[:, 20:, :12] = True
    area = torch.tensor([[900.0, 3000.0], [1700.0, 0.0]], dtype=torch.float64)
    targets = targets_of(keypoints, labelled, area, ignore=ignore, settings=settings)
    displacement = exact_displacements(targets)
    displacement = displacement + 1.5 * torch.randn_like(displacement)
    x, y = targets.cells.unbind(-1)
    at_cells = torch.stack([displacement[b, :, :, y[b], x[b]] for b in range(2)]).transpose(2, 3)
    score = torch.randn(2, 32, 32, dtype=torch.float64).requires_grad_()
    branch = torch.randn(2, 32, 32, dtype=torch.float64).requires_grad_() if quality else None
    return Output(plain_maps(score, displacement, branch), at_cells.detach().requires_grad_(), None), targets


@pytest.mark.parametrize("background", [0.1, 1.0, 0.0])
@pytest.mark.parametrize("divisor", ["weights", "people", "cells"])
def test_score_loss_cell_by_cell(divisor: str, background: float) -> None:
    settings = LossSettings(score_divisor=divisor, background_weight=background)
    output, targets = scene(settings)
    loss = all_losses(output, targets, Method(), settings, SIGMAS).score
    cell_oks = oks_of_cells(targets, output.displacements, SIGMAS)
    label = {
        (b, *cell): float(cell_oks[b, i].detach())
        for b in range(2)
        for i, cell in enumerate(map(tuple, targets.cells[b].tolist()))
        if targets.inside[b, i]
    }
    total = weights = cells = 0.0
    for b in range(2):
        for y in range(32):
            for x in range(32):
                omega = (b, x, y) in label
                weight = 1.0 if omega else background * (not (y >= 20 and x < 12))
                total += weight * (float(output.maps.score[b, y, x].detach()) - label.get((b, x, y), 0.0)) ** 2
                weights += weight
                cells += omega or not (y >= 20 and x < 12)
    expected = total / {"weights": weights, "people": 3, "cells": cells}[divisor]
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("unit", ["cells", "sqrt_area"])
@pytest.mark.parametrize("beta", [1.0, 1 / 9])
def test_offset_loss_joint_by_joint(unit: str, beta: float) -> None:
    settings = LossSettings(offset_unit=unit, offset_beta=beta)
    output, targets = scene(settings)
    loss = all_losses(output, targets, Method(), settings, SIGMAS).offset
    total, number = 0.0, 0
    for b in range(2):
        for i, (x, y) in enumerate(targets.cells[b].tolist()):
            person = int(targets.owner[b, y, x])
            if not targets.inside[b, i]:
                continue
            unit_cell = 1.0 if unit == "cells" else math.sqrt(float(targets.area[b, person]))
            for k in range(17):
                if not targets.labelled[b, person, k]:
                    continue
                truth = targets.keypoints[b, person, k] - torch.tensor([x, y])
                for error in ((output.displacements[b, k, i].detach() - truth) / unit_cell).abs().tolist():
                    total += error**2 / (2 * beta) if error < beta else error - beta / 2
                    number += 1
    assert number > 500
    assert float(loss.detach()) == pytest.approx(total / number, rel=1e-9)


@pytest.mark.parametrize(
    ("error", "beta", "expected"),
    [(0.0, 1.0, 0.0), (0.5, 1.0, 0.125), (-0.5, 1.0, 0.125), (1.0, 1.0, 0.5), (3.0, 1.0, 2.5), (0.5, 0.1, 0.45)],
)
def test_smooth_l1(error: float, beta: float, expected: float) -> None:
    predicted = torch.full((1, 1, 1, 2), error)
    one = torch.ones(1, 1)
    value = offset_loss(predicted, torch.zeros_like(predicted), one.bool()[..., None], one, beta)
    assert float(value) == pytest.approx(expected)


def test_gradients_go_where_they_should() -> None:
    settings = LossSettings()
    output, targets = scene(settings, quality=True)
    method = Method(label="discrete", quality_branch=True)
    losses = all_losses(output, targets, method, settings, SIGMAS)
    score, quality, displacements = output.maps.score, output.maps.quality, output.displacements
    assert quality is not None
    omega = targets.owner >= 0
    # The quality branch learns in Omega only, the score outside of ignored regions only.
    assert torch.equal(torch.autograd.grad(losses.quality, quality, retain_graph=True)[0] != 0, omega)
    assert torch.equal(torch.autograd.grad(losses.score, score, retain_graph=True)[0] != 0, ~targets.ignore)
    counts = (targets.at_cells(targets.labelled) & targets.inside[..., None]).transpose(1, 2)
    moved = torch.autograd.grad(losses.offset, displacements, retain_graph=True)[0] != 0
    assert torch.equal(moved.any(-1), counts)
    # The label of score and quality is a fact, not something to be learnt.
    for loss in (losses.score, losses.quality):
        assert torch.autograd.grad(loss, displacements, retain_graph=True, allow_unused=True)[0] is None


def test_quality_loss_is_the_mean_square_in_omega() -> None:
    settings = LossSettings()
    output, targets = scene(settings, quality=True)
    loss = all_losses(output, targets, Method(label="gaussian", quality_branch=True), settings, SIGMAS).quality
    cell_oks = oks_of_cells(targets, output.displacements, SIGMAS)
    squares = [
        (float(output.maps.quality[b, y, x].detach()) - float(cell_oks[b, i])) ** 2
        for b in range(2)
        for i, (x, y) in enumerate(targets.cells[b].tolist())
        if targets.inside[b, i]
    ]
    assert float(loss.detach()) == pytest.approx(sum(squares) / len(squares), rel=1e-9)


def test_total_is_the_weighted_sum() -> None:
    settings = LossSettings(score_weight=3.0, offset_weight=0.25)
    output, targets = scene(settings, quality=True)
    losses = all_losses(output, targets, Method(label="discrete", quality_branch=True), settings, SIGMAS).to_dict()
    assert losses["total"] == pytest.approx(3 * (losses["score"] + losses["quality"]) + 0.25 * losses["offset"])


def test_who_is_right_has_no_loss() -> None:
    targets = targets_of(spread_people([(6, 7), (20, 20)]))
    maps = ideal_maps(targets)
    x, y = targets.cells.unbind(-1)
    at_cells = maps.displacement[0][:, :, y[0], x[0]].transpose(1, 2)[None]
    output = Output(maps, at_cells, None)
    losses = all_losses(output, targets, Method(label="gaussian"), LossSettings(), SIGMAS).to_dict()
    assert losses["mean_oks"] == pytest.approx(1.0, abs=1e-12)
    assert losses["total"] == pytest.approx(0.0, abs=1e-12)


def test_joints_scores_learn_their_own_term_of_the_oks() -> None:
    output, targets = scene(LossSettings())
    predicted = torch.rand(2, 17, targets.cells.shape[1], dtype=torch.float64).requires_grad_()
    output = Output(output.maps, output.displacements, predicted)
    method = Method(keypoint_scores=True)
    loss = all_losses(output, targets, method, LossSettings(), SIGMAS).keypoint
    total, number = 0.0, 0
    for b in range(2):
        for i, cell in enumerate(targets.cells[b]):
            person = int(targets.owner[b, cell[1], cell[0]])
            for k in range(17):
                if not targets.inside[b, i] or not targets.labelled[b, person, k]:
                    continue
                found = cell + output.displacements[b, k, i].detach()
                d2 = float(((found - targets.keypoints[b, person, k]) ** 2).sum())
                area = float(targets.area[b, person])
                term = math.exp(-d2 / (2 * area * (2 * float(SIGMAS[k])) ** 2))
                total, number = total + (float(predicted[b, k, i].detach()) - term) ** 2, number + 1
    assert float(loss.detach()) == pytest.approx(total / number, rel=1e-6)
    loss.backward()
    assert output.displacements.grad is None  # the label has no gradient
    none, some = (
        float(all_losses(output, targets, method, LossSettings(keypoint_weight=w), SIGMAS).total) for w in (0.0, 3.0)
    )
    assert some - none == pytest.approx(3 * total / number, rel=1e-6)


def test_oks_as_a_loss_of_the_offsets() -> None:
    output, targets = scene(LossSettings())
    plain, learnt = (all_losses(output, targets, Method(), LossSettings(oks_weight=w), SIGMAS) for w in (0.0, 2.0))
    assert float(learnt.total - plain.total) == pytest.approx(2 * (1 - float(plain.mean_oks)), rel=1e-9)
    plain.total.backward(retain_graph=True)
    without = output.displacements.grad.clone()
    output.displacements.grad = None
    learnt.total.backward()
    assert not torch.equal(without, output.displacements.grad)
    assert output.displacements.grad.isfinite().all()


def batch(kind: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    keypoints, labelled = torch.full((2, 1, 17, 2), 30.0), torch.zeros(2, 1, 17, dtype=torch.bool)
    area, ignore = torch.zeros(2, 1), torch.zeros(2, 16, 16, dtype=torch.bool)
    if kind == "crowd":
        ignore[:] = True
    if kind == "one joint":
        labelled[1, 0, 3], area[1, 0] = True, 1e-3  # and hardly any area
    if kind == "outside":  # an unlabelled joint may hold anything finite
        keypoints[0, 0, :5] = 1e30
        labelled[0, 0, 6:], area[0, 0] = True, 500.0
    return keypoints, labelled, area, ignore


@pytest.mark.parametrize("kind", ["nobody", "crowd", "one joint", "outside"])
@pytest.mark.parametrize(
    ("method", "settings"),
    [
        (Method(keypoint_width=4, semantic_points=2), LossSettings()),
        (Method(keypoint_width=4, semantic_points=2), LossSettings(score_divisor="people", offset_unit="sqrt_area")),
        (Method(keypoint_width=4, label="gaussian", quality_branch=True, kqe=False, pose_query="none"),
         LossSettings(score_divisor="cells", center="box")),
        (Method(keypoint_width=4, semantic_points=2, keypoint_scores=True), LossSettings(oks_weight=2.0)),
    ],
    ids=["cir", "cir-people-sqrt", "gaussian-quality-cells-box", "joints-oks"],
)  # fmt: skip
def test_every_batch_has_a_finite_loss_and_gradient(kind: str, method: Method, settings: LossSettings) -> None:
    torch.manual_seed(0)
    network = Network("mobilenetv2-0.1", 17, method)
    targets = make_targets(*batch(kind), settings)
    output = network(torch.randint(0, 255, (2, 64, 64, 3), dtype=torch.uint8), targets.cells)
    losses = all_losses(output, targets, method, settings, SIGMAS.float())
    assert all(map(math.isfinite, losses.to_dict().values()))
    losses.total.backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in network.parameters())
    if kind in {"nobody", "crowd"}:
        assert losses.offset == losses.quality == losses.keypoint == losses.mean_oks == 0
    if kind == "crowd":
        assert losses.total == 0
