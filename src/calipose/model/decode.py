"""From maps to candidate poses: peaks of the score map and the poses there (docs/paper.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from calipose.geometry import CELL_CENTRE_INP, STRIDE
from calipose.model.head import Maps
from calipose.model.network import Network
from calipose.model.sampling import all_cells

PEAK_WINDOW = 5  # cells


@dataclass(frozen=True)
class Candidates:
    """Candidate poses of a batch, best first, before pose NMS.

    Attributes:
        keypoints_inp: (b, n, k, 2).
        scores: (b, n), -inf where an image has fewer than n peaks.
        queries_inp: (b, n, k, 2), the keypoint queries; None without KQE.
        keypoint_scores: (b, n, k), each keypoint's own score; None where the network has none.
    """

    keypoints_inp: Tensor
    scores: Tensor
    queries_inp: Tensor | None
    keypoint_scores: Tensor | None


def find_peaks(score: Tensor, max_poses: int) -> tuple[Tensor, Tensor]:
    """The best cells that equal the maximum of their 5 x 5 neighbourhood.

    Args:
        score: (b, h, w).
        max_poses: cells of an image, at most.

    Returns:
        Cells (b, n, 2) int64, x and y, and their scores (b, n), -inf for padding; n is at most the number of cells.
    """
    highest = F.max_pool2d(score.unsqueeze(1), PEAK_WINDOW, stride=1, padding=PEAK_WINDOW // 2).squeeze(1)
    peaks = torch.where(score == highest, score, -torch.inf).flatten(1)
    count = peaks.shape[1]
    number = max_poses if max_poses <= count else count  # not min(), which an exported graph would compute
    best = peaks.topk(number, dim=1)
    batch, height, width = score.shape
    cells = all_cells(height, width, batch, score.device)
    return cells.gather(1, best.indices.unsqueeze(-1).expand(-1, -1, 2)), best.values


def final_score(maps: Maps) -> Tensor:
    """The score map (b, h, w) that selects poses; with a quality branch, the product of both (Table 3)."""
    if maps.quality is None:
        return maps.score
    return maps.score.clamp(0, 1) * maps.quality.clamp(0, 1)


def pose_nms_mask(keypoints: Tensor, scores: Tensor, sigmas: Tensor, threshold: float) -> Tensor:
    """Greedy pose NMS of a batch as a mask, the same as `geometry.pose_nms`, without a data-dependent loop.

    Args:
        keypoints: (b, n, k, 2), best pose first.
        scores: (b, n), -inf for padding.
        sigmas: (k,).
        threshold: OKS above which a pose is dropped.

    Returns:
        (b, n) bool, the poses that stay.
    """
    area = (keypoints.amax(2) - keypoints.amin(2)).prod(-1) + torch.finfo(torch.float64).eps
    squared = ((keypoints.unsqueeze(1) - keypoints.unsqueeze(2)) ** 2).sum(-1)  # (b, better, other, k)
    similarity = torch.exp(-squared / (2 * area[:, :, None, None] * (2 * sigmas) ** 2)).mean(-1)
    drops = (similarity > threshold).triu(1)  # a pose drops worse ones only
    keep = scores > -torch.inf
    for better in range(keypoints.shape[1]):
        keep = keep & ~(drops[:, better] & keep[:, better : better + 1])
    return keep


@torch.no_grad()
def find_candidates(
    network: Network, images: Tensor, max_poses: int, flip_index: Sequence[int] | None = None
) -> Candidates:
    """Candidate poses in images.

    Args:
        network: in evaluation mode.
        images: (b, h, w, 3), RGB of 0 to 255.
        max_poses: of an image.
        flip_index: (k,) of the skeleton; averages the maps with those of the mirrored images, scores cell by cell,
            positions with left and right exchanged. None predicts once.
    """
    maps = network.encode(images)
    score = final_score(maps)
    if flip_index is None:
        cells, values = find_peaks(score, max_poses)
        points_cell, keypoints = _poses_at(network, maps, cells)
    else:
        mirrored = network.encode(images.flip(2))
        cells, values = find_peaks((score + final_score(mirrored).flip(-1)) / 2, max_poses)
        last = score.shape[-1] - 1
        points_cell, keypoints = _poses_at(network, maps, cells)
        seen, seen_keypoints = _poses_at(network, mirrored, _mirror(cells, last))
        points_cell = (points_cell + _mirror(seen[:, :, list(flip_index)], last)) / 2
        if keypoints is not None and seen_keypoints is not None:
            keypoints = (keypoints + seen_keypoints[:, list(flip_index)]) / 2
    points_inp = points_cell.transpose(2, 3) * STRIDE + CELL_CENTRE_INP
    queries = points_inp[1] if len(points_inp) > 1 else None
    return Candidates(points_inp[0], values, queries, None if keypoints is None else keypoints.transpose(1, 2))


def _poses_at(network: Network, maps: Maps, cells: Tensor) -> tuple[Tensor, Tensor | None]:
    """The poses at `cells` (b, n, 2).

    Returns:
        Positions (1 or 2, b, k, n, 2) in cells, of keypoints and, with KQE, queries; and the scores of keypoints
        (b, k, n), None where the network has none.
    """
    moves, joints = network.head.keypoints_at(maps, cells)
    keypoints = cells.unsqueeze(1) + moves
    if not network.head.method.kqe:
        return keypoints.unsqueeze(0), joints
    return torch.stack([keypoints, network.head.queries(maps, cells)]), joints


def _mirror(points_cell: Tensor, last: int) -> Tensor:
    """Points (..., 2) in a mirrored map whose last column is `last`."""
    return torch.stack([last - points_cell[..., 0], points_cell[..., 1]], -1)
