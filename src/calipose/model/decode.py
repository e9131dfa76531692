"""From maps to candidate poses: peaks of the score map and the poses there (design section 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from calipose.geometry import CELL_CENTRE_INP, STRIDE
from calipose.model.head import Maps
from calipose.model.network import Network

PEAK_WINDOW = 5  # cells


@dataclass(frozen=True)
class Candidates:
    """Candidate poses of a batch, best first, before pose NMS.

    Attributes:
        keypoints_inp: (b, n, k, 2); scores: (b, n), -inf where a picture has fewer than n peaks.
    """

    keypoints_inp: Tensor
    scores: Tensor


def find_peaks(score: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Cells that equal the maximum of their 5 x 5 neighbourhood, the best `most` of a picture.

    Args: `score` (b, h, w). Returns: cells (b, n, 2) int64 x and y, and their scores (b, n), -inf for padding; n is
    at most the number of cells.
    """
    highest = F.max_pool2d(score.unsqueeze(1), PEAK_WINDOW, stride=1, padding=PEAK_WINDOW // 2).squeeze(1)
    peaks = torch.where(score == highest, score, -torch.inf).flatten(1)
    best = peaks.topk(min(most, peaks.shape[1]), dim=1)
    width = score.shape[-1]
    return torch.stack([best.indices % width, best.indices // width], -1), best.values


def final_score(maps: Maps) -> Tensor:
    """The score map (b, h, w) that selects poses; with a quality branch, the product of both (Table 3)."""
    if maps.quality is None:
        return maps.score
    return maps.score.clamp(0, 1) * maps.quality.clamp(0, 1)


@torch.no_grad()
def find_candidates(
    network: Network, images: Tensor, most: int, flip_index: Sequence[int] | None = None
) -> Candidates:
    """Candidate poses in `images` (b, h, w, 3), RGB of 0 to 255.

    Args: `flip_index` (k,) of the skeleton averages the maps with those of the mirrored pictures: scores cell by cell,
    displacements with left and right exchanged; None predicts once.
    """
    maps = network.encode(images)
    score = final_score(maps)
    if flip_index is None:
        cells, values = find_peaks(score, most)
        displacements = network.head.displacements(maps, cells)
    else:
        mirrored = network.encode(images.flip(2))
        cells, values = find_peaks((score + final_score(mirrored).flip(-1)) / 2, most)
        mirrored_cells = torch.stack([score.shape[-1] - 1 - cells[..., 0], cells[..., 1]], -1)
        seen = network.head.displacements(mirrored, mirrored_cells)[:, list(flip_index)]
        seen = seen * seen.new_tensor([-1.0, 1.0])
        displacements = (network.head.displacements(maps, cells) + seen) / 2
    keypoints_cell = (cells.unsqueeze(1) + displacements).transpose(1, 2)
    return Candidates(keypoints_cell * STRIDE + CELL_CENTRE_INP, values)
