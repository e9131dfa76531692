"""Training targets: neighbourhoods Omega of people's centres, OKS (Eq. 1), the score's label (Eq. 2)."""

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
    """People of a batch in cells, and the cells of their neighbourhoods Omega.

    Attributes:
        keypoints: `(b, p, k, 2)`, cells.
        labelled: `(b, p, k)` bool.
        area: `(b, p)`, square cells.
        owner: `(b, h, w)` int64, index of the person whose Omega holds the cell, -1 for background.
        distance: `(b, h, w)`, cells to the nearest centre (inf in an image without people).
        ignore: `(b, h, w)` bool, cells without a score loss.
        cells: `(b, m, 2)` int64, x and y of Omega's cells, padded.
        inside: `(b, m)` bool, False for padding.
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
        """Index of the person of each of `cells`, 0 for padding; `(b, m)` int64."""
        width = self.owner.shape[-1]
        flat = self.cells[..., 1] * width + self.cells[..., 0]
        return self.owner.flatten(1).gather(1, flat).clamp(min=0)

    def at_cells(self, values: Tensor) -> Tensor:
        """Take the people's values `(b, p, ...)` at each of `cells`: `(b, m, ...)`."""
        person = self.person_of_cell()
        index = person.view(*person.shape, *[1] * (values.dim() - 2)).expand(-1, -1, *values.shape[2:])
        return values.gather(1, index)


def make_targets(
    keypoints_inp: Tensor, labelled: Tensor, area_inp: Tensor, ignore_cell: Tensor, settings: LossSettings
) -> Targets:
    """Make the targets of a batch, on its device: Omega (Eq. 2) and the people in cells.

    Args:
        keypoints_inp: `(b, p, k, 2)`, input pixels.
        labelled: `(b, p, k)` bool; people without a labelled keypoint are padding.
        area_inp: `(b, p)`, square input pixels.
        ignore_cell: `(b, h, w)` bool, cells without a score loss; its size is the score map's.
        settings: radius of Omega and kind of centre.
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
    """Centres of people: the mean of the labelled keypoints, or the middle of their box.

    Args:
        keypoints: `(b, p, k, 2)`.
        labelled: `(b, p, k)` bool.
        kind: "keypoints" for the mean, "box" for the middle of the box.

    Returns:
        `(b, p, 2)`; 0 for people without a labelled keypoint.
    """
    mask = labelled.unsqueeze(-1)
    if kind == "keypoints":
        return torch.where(mask, keypoints, 0).sum(2) / mask.sum(2).clamp(min=1)
    low = torch.where(mask, keypoints, torch.inf).amin(2)
    high = torch.where(mask, keypoints, -torch.inf).amax(2)
    return torch.where(mask.any(2), (low + high) / 2, 0)


def nearest_center(center: Tensor, present: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The nearest centre of every cell.

    Args:
        center: `(b, p, 2)`, cells.
        present: `(b, p)` bool; False for padding.
        height: height of the map in cells.
        width: width of the map in cells.

    Returns:
        Distance in cells `(b, h, w)`, and index of the person `(b, h, w)` int64.
    """
    y = torch.arange(height, device=center.device, dtype=center.dtype).view(1, 1, -1, 1)
    x = torch.arange(width, device=center.device, dtype=center.dtype).view(1, 1, 1, -1)
    squared = (x - center[..., 0, None, None]) ** 2 + (y - center[..., 1, None, None]) ** 2
    squared = torch.where(present[..., None, None], squared, torch.inf)
    nearest = squared.min(1)
    return nearest.values.sqrt(), nearest.indices


def marked_cells(mask: Tensor) -> tuple[Tensor, Tensor]:
    """List the cells of a mask.

    Args:
        mask: `(b, h, w)` bool.

    Returns:
        The cells `(b, m, 2)` int64, x and y, padded to the largest number in an image; and `(b, m)` bool, False for
        padding.
    """
    counts = mask.flatten(1).sum(1)
    max_cells = max(int(counts.max()), 1)
    # Stable, so that the marked cells come first and in the image's order.
    order = mask.flatten(1).to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :max_cells]
    cells = torch.stack([order % mask.shape[-1], order // mask.shape[-1]], -1)
    inside = torch.arange(max_cells, device=mask.device) < counts.unsqueeze(1)
    return cells, inside


def keypoint_similarity(keypoints: Tensor, truth: Tensor, area: Tensor, sigmas: Tensor) -> Tensor:
    """One keypoint's term of the OKS (Eq. 1): exp(-d^2 / (2 s^2 k^2)) with k = 2 sigma and s^2 = area.

    The torch twin of `calipose.geometry.keypoint_similarity`, with a gradient.

    Args:
        keypoints: `(..., k, 2)`, the predicted ones.
        truth: `(..., k, 2)`, in the same frame.
        area: `(...)`, in that frame's square units.
        sigmas: `(k,)`, the skeleton's.

    Returns:
        `(..., k)`, 0 to 1.
    """
    squared = ((keypoints - truth) ** 2).sum(-1)
    return torch.exp(-squared / (2 * area.unsqueeze(-1).clamp(min=1e-6) * (2 * sigmas) ** 2))


def oks(keypoints: Tensor, truth: Tensor, labelled: Tensor, area: Tensor, sigmas: Tensor) -> Tensor:
    """Object keypoint similarity (Eq. 1): the mean of `keypoint_similarity` over the labelled keypoints.

    The torch twin of `calipose.geometry.oks`, with a gradient.

    Args:
        keypoints: `(..., k, 2)`, the predicted ones.
        truth: `(..., k, 2)`, in the same frame.
        labelled: `(..., k)` bool.
        area: `(...)`, in that frame's square units.
        sigmas: `(k,)`, the skeleton's.

    Returns:
        `(...)`, 0 to 1; 0 where no keypoint is labelled.
    """
    # An unlabelled keypoint may have any finite value, which must not reach the gradient; NaN must not be hidden.
    mask = labelled.unsqueeze(-1) | truth.isnan()
    similarity = keypoint_similarity(torch.where(mask, keypoints, 0), torch.where(mask, truth, 0), area, sigmas)
    return (similarity * labelled).sum(-1) / labelled.sum(-1).clamp(min=1)


def oks_of_cells(targets: Targets, displacements: Tensor, sigmas: Tensor) -> Tensor:
    """OKS (Eq. 1) of the pose that each of Omega's cells predicts, with the cell's person.

    Args:
        targets: people and Omega's cells.
        displacements: `(b, k, m, 2)`, from each cell to its keypoints, in cells.
        sigmas: `(k,)`, the skeleton's.

    Returns:
        `(b, m)`.
    """
    predicted = (targets.cells.unsqueeze(1) + displacements).transpose(1, 2)
    truth, labelled = targets.at_cells(targets.keypoints), targets.at_cells(targets.labelled)
    return oks(predicted, truth, labelled, targets.at_cells(targets.area), sigmas)


def score_label(targets: Targets, cell_oks: Tensor, label: InstanceLabel, radius: float) -> Tensor:
    """Label of the score map: CIR (Eq. 2), or one of the two labels the paper compares it with (Table 3).

    The label has no gradient, even where the OKS has one: the network is to predict its quality, not to change it.

    Args:
        targets: people and Omega's cells.
        cell_oks: `(b, m)`, from `oks_of_cells`.
        label: which of the three labels.
        radius: gamma in cells, for the Gaussian.

    Returns:
        `(b, h, w)`, 0 outside of every Omega.
    """
    omega = targets.owner >= 0
    if label == "discrete":
        return omega.to(cell_oks.dtype)
    if label == "gaussian":
        sigma = GAUSSIAN_PER_RADIUS * radius
        return torch.where(omega, torch.exp(-(targets.distance**2) / (2 * sigma**2)), 0)
    return scatter_cells(targets, cell_oks.detach())


def scatter_cells(targets: Targets, values: Tensor) -> Tensor:
    """Put values `(b, m)` of Omega's cells back on the map `(b, h, w)`, 0 elsewhere."""
    height, width = targets.owner.shape[-2:]
    flat = targets.cells[..., 1] * width + targets.cells[..., 0]
    empty = values.new_zeros(len(values), height * width)
    # Padding points at background cells; adding its zero leaves them as they are.
    return empty.scatter_add(1, flat, torch.where(targets.inside, values, 0)).view(-1, height, width)
