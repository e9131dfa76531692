"""From maps to candidate poses: peaks of the score map and the poses there (docs/paper.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from calipose.geometry import CELL_CENTRE_INP, STRIDE
from calipose.model.head import Maps, SparseMaps
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


def final_score(score: Tensor, quality: Tensor | None) -> Tensor:
    """The score that selects poses, any shape; with a quality branch, the product of both (Table 3)."""
    return score if quality is None else score.clamp(0, 1) * quality.clamp(0, 1)


def presence_cells(presence: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """The cells of highest presence.

    Args:
        presence: (b, h, w).
        number: of cells; a smaller map gives the last one again and again.

    Returns:
        Cells (b, number, 2) int64, x and y, and whether each is real (b, number) bool.
    """
    batch, height, width = presence.shape
    count = height * width
    # Padded, so that a graph need not compute how many there are.
    padded = F.pad(presence.flatten(1), (0, number), value=-torch.inf)
    best = padded.topk(number, dim=1)
    index = best.indices.clamp(max=count - 1).unsqueeze(-1).expand(-1, -1, 2)
    cells = all_cells(height, width, batch, presence.device)
    return cells.gather(1, index), best.values > -torch.inf


def scatter_scores(scores: Tensor, cells: Tensor, real: Tensor, presence: Tensor) -> Tensor:
    """The score map (b, h, w) that holds `scores` (b, m) at `cells` (b, m, 2), -inf elsewhere and where not `real`."""
    count, width = presence.shape[1] * presence.shape[2], presence.shape[2]
    # What is not real goes to one more cell, which is cut off.
    index = torch.where(real, cells[..., 1] * width + cells[..., 0], count)
    empty = F.pad(torch.full_like(presence, -torch.inf).flatten(1), (0, 1), value=-torch.inf)
    return empty.scatter(1, index, scores)[:, :count].view_as(presence)


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
    network: Network,
    images: Tensor,
    max_poses: int,
    flip_index: Sequence[int] | None = None,
    sparse: bool | None = None,
) -> Candidates:
    """Candidate poses in images.

    Args:
        network: in evaluation mode.
        images: (b, h, w, 3), RGB of 0 to 255.
        max_poses: of an image.
        flip_index: (k,) of the skeleton; averages the maps with those of the mirrored images, scores cell by cell,
            positions with left and right exchanged. None predicts once.
        sparse: compute the score at the cells of highest presence only, as many as the method says; by default if the
            head has a presence map. The poses are the dense form's if all its peaks are among those cells.
    """
    sparse = network.head.method.sparse_cells > 0 if sparse is None else sparse
    encode = network.encode_sparse if sparse else network.encode
    maps = encode(images)
    mirrored = None if flip_index is None else encode(images.flip(2))
    cells, values = find_peaks(score_map(network, maps, mirrored), max_poses)
    points_cell, keypoints = _poses_at(network, maps, cells)
    if mirrored is not None and flip_index is not None:
        last = images.shape[2] // STRIDE - 1
        seen, seen_keypoints = _poses_at(network, mirrored, _mirror(cells, last))
        points_cell = (points_cell + _mirror(seen[:, :, list(flip_index)], last)) / 2
        if keypoints is not None and seen_keypoints is not None:
            keypoints = (keypoints + seen_keypoints[:, list(flip_index)]) / 2
    points_inp = points_cell.transpose(2, 3) * STRIDE + CELL_CENTRE_INP
    queries = points_inp[1] if len(points_inp) > 1 else None
    return Candidates(points_inp[0], values, queries, None if keypoints is None else keypoints.transpose(1, 2))


def score_map(network: Network, maps: Maps | SparseMaps, mirrored: Maps | SparseMaps | None = None) -> Tensor:
    """The score map (b, h, w), averaged cell by cell with the mirrored image's where there is one.

    In the sparse form it is -inf at the cells that are not computed.
    """
    if isinstance(maps, Maps):
        score = final_score(maps.score, maps.quality)
        if isinstance(mirrored, Maps):
            score = (score + final_score(mirrored.score, mirrored.quality).flip(-1)) / 2
        return score
    presence = maps.presence
    if isinstance(mirrored, SparseMaps):
        presence = (presence + mirrored.presence.flip(-1)) / 2
    cells, real = presence_cells(presence, network.head.method.sparse_cells)
    scores = final_score(*network.head.scores_at(maps, cells))
    if isinstance(mirrored, SparseMaps):
        seen = network.head.scores_at(mirrored, _mirror(cells, presence.shape[-1] - 1))
        scores = (scores + final_score(*seen)) / 2
    return scatter_scores(scores, cells, real, presence)


def _poses_at(network: Network, maps: Maps | SparseMaps, cells: Tensor) -> tuple[Tensor, Tensor | None]:
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
