"""What the network shall say: neighbourhoods Omega of people's centres, OKS (Eq. 1), the score's label (Eq. 2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from calipose.config.method import InstanceLabel
from calipose.config.settings import LossSettings
from calipose.geometry import CELL_CENTRE_INP, STRIDE

GAUSSIAN_PER_RADIUS = 0.5  # the Gaussian label's sigma is half the radius gamma; the paper does not give it


@dataclass(frozen=True)
class Targets:
    """People of a batch in cells, and the cells of their neighbourhoods.

    Attributes:
        keypoints: (b, p, k, 2); labelled: (b, p, k) bool; area: (b, p) in cells^2.
        owner: (b, h, w) int64, the person whose Omega holds the cell, -1 for background.
        distance: (b, h, w), cells to the nearest centre (inf where there is nobody).
        ignore: (b, h, w) bool, cells without a score loss.
        cells: (b, m, 2) int64, x and y of Omega's cells, padded; inside: (b, m) bool, False for padding.
    """

    keypoints: Tensor
    labelled: Tensor
    area: Tensor
    owner: Tensor
    distance: Tensor
    ignore: Tensor
    cells: Tensor
    inside: Tensor

    def person_of_cell(self) -> Tensor:
        """(b, m) int64: the person of each of `cells`, 0 for padding."""
        width = self.owner.shape[-1]
        flat = self.cells[..., 1] * width + self.cells[..., 0]
        return self.owner.flatten(1).gather(1, flat).clamp(min=0)

    def of_cells(self, values: Tensor) -> Tensor:
        """Values of the people (b, p, ...), one for each of `cells`: (b, m, ...)."""
        person = self.person_of_cell()
        index = person.view(*person.shape, *[1] * (values.dim() - 2)).expand(-1, -1, *values.shape[2:])
        return values.gather(1, index)


def make_targets(
    keypoints_inp: Tensor, labelled: Tensor, area_inp: Tensor, ignore_cell: Tensor, settings: LossSettings
) -> Targets:
    """Targets of a batch, on its device.

    Args: `keypoints_inp` (b, p, k, 2), `labelled` (b, p, k) bool, `area_inp` (b, p) in input pixels^2;
    `ignore_cell` (b, h, w) bool gives the size of the score map. People without a labelled joint are padding.
    """
    keypoints = (keypoints_inp - CELL_CENTRE_INP) / STRIDE
    center = people_centers(keypoints, labelled, settings.center)
    distance, nearest = nearest_center(center, labelled.any(-1), ignore_cell.shape[-2], ignore_cell.shape[-1])
    owner = torch.where(distance < settings.radius, nearest, -1)
    # An annotated person's own cells are never ignored.
    ignore = ignore_cell & (owner < 0)
    cells, inside = marked_cells(owner >= 0)
    return Targets(keypoints, labelled, area_inp / STRIDE**2, owner, distance, ignore, cells, inside)


def people_centers(keypoints: Tensor, labelled: Tensor, kind: str = "keypoints") -> Tensor:
    """Centres (b, p, 2) of people (b, p, k, 2): the mean of the labelled keypoints, or the middle of their box."""
    mask = labelled.unsqueeze(-1)
    if kind == "keypoints":
        return torch.where(mask, keypoints, 0).sum(2) / mask.sum(2).clamp(min=1)
    low = torch.where(mask, keypoints, torch.inf).amin(2)
    high = torch.where(mask, keypoints, -torch.inf).amax(2)
    return torch.where(mask.any(2), (low + high) / 2, 0)


def nearest_center(center: Tensor, present: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Distance (b, h, w) in cells of every cell to the nearest present centre, and that person's number."""
    y = torch.arange(height, device=center.device, dtype=center.dtype).view(1, 1, -1, 1)
    x = torch.arange(width, device=center.device, dtype=center.dtype).view(1, 1, 1, -1)
    squared = (x - center[..., 0, None, None]) ** 2 + (y - center[..., 1, None, None]) ** 2
    squared = torch.where(present[..., None, None], squared, torch.inf)
    nearest = squared.min(1)
    return nearest.values.sqrt(), nearest.indices


def marked_cells(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Cells of a mask (b, h, w) as (b, m, 2) int64 x and y, padded to the fullest image, and which are real."""
    counts = mask.flatten(1).sum(1)
    most = max(int(counts.max()), 1)
    # Stable, so that the real cells come first and in the image's order.
    order = mask.flatten(1).to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :most]
    cells = torch.stack([order % mask.shape[-1], order // mask.shape[-1]], -1)
    inside = torch.arange(most, device=mask.device) < counts.unsqueeze(1)
    return cells, inside


def keypoint_similarity(keypoints: Tensor, truth: Tensor, area: Tensor, sigmas: Tensor) -> Tensor:
    """A joint's term of the OKS (Eq. 1): exp(-d^2 / (2 s^2 k^2)), k = 2 sigma, s^2 = area; (..., k).

    Args: `keypoints`, `truth` (..., k, 2), `area` (...), one frame; `sigmas` (k,).
    """
    squared = ((keypoints - truth) ** 2).sum(-1)
    return torch.exp(-squared / (2 * area.unsqueeze(-1).clamp(min=1e-6) * (2 * sigmas) ** 2))


def oks(keypoints: Tensor, truth: Tensor, labelled: Tensor, area: Tensor, sigmas: Tensor) -> Tensor:
    """Object keypoint similarity (Eq. 1): the mean of `keypoint_similarity` over the labelled keypoints; (...)."""
    # An unlabelled joint may hold anything finite, and must not reach the gradient; what is no number must be noticed.
    mask = labelled.unsqueeze(-1) | truth.isnan()
    similarity = keypoint_similarity(torch.where(mask, keypoints, 0), torch.where(mask, truth, 0), area, sigmas)
    return (similarity * labelled).sum(-1) / labelled.sum(-1).clamp(min=1)


def oks_of_cells(targets: Targets, displacements: Tensor, sigmas: Tensor) -> Tensor:
    """OKS (b, m) of the pose that each of Omega's cells predicts with its person.

    Args: `displacements` (b, k, m, 2) in cells.
    """
    predicted = (targets.cells.unsqueeze(1) + displacements).transpose(1, 2)
    truth, labelled = targets.of_cells(targets.keypoints), targets.of_cells(targets.labelled)
    return oks(predicted, truth, labelled, targets.of_cells(targets.area), sigmas)


def score_label(targets: Targets, cell_oks: Tensor, label: InstanceLabel, radius: float) -> Tensor:
    """Label (b, h, w) of the score map: CIR (Eq. 2) or the paper's two contrasts; 0 outside of every Omega.

    It has no gradient, though the OKS may have: the score learns the OKS, the OKS is not pulled towards the score.

    Args: `cell_oks` (b, m) from `oks_of_cells`.
    """
    omega = targets.owner >= 0
    if label == "discrete":
        return omega.to(cell_oks.dtype)
    if label == "gaussian":
        sigma = GAUSSIAN_PER_RADIUS * radius
        return torch.where(omega, torch.exp(-(targets.distance**2) / (2 * sigma**2)), 0)
    return scatter_cells(targets, cell_oks.detach())


def scatter_cells(targets: Targets, values: Tensor) -> Tensor:
    """Values (b, m) of Omega's cells put back on the map (b, h, w), 0 elsewhere."""
    height, width = targets.owner.shape[-2:]
    flat = targets.cells[..., 1] * width + targets.cells[..., 0]
    board = values.new_zeros(len(values), height * width)
    # Padding points at background cells; adding its zero leaves them as they are.
    return board.scatter_add(1, flat, torch.where(targets.inside, values, 0)).view(-1, height, width)
