"""Reading maps at real-valued positions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sample_bilinear(maps: Tensor, positions_cell: Tensor) -> Tensor:
    """Read maps bilinearly at positions in cells, positions clamped to the map.

    Args: `maps` (n, c, h, w); `positions_cell` (n, l, 2), x and y, integer = centre of a cell.

    Returns: (n, c, l). The clamp makes every padding mode of a grid sampler agree, torch's and ONNX's alike; a
    clamped coordinate has no gradient.
    """
    height, width = maps.shape[-2:]
    size = positions_cell.new_tensor([width, height])
    clamped = torch.minimum(positions_cell.clamp(min=0), size - 1)
    grid = (2 * clamped + 1) / size - 1  # align_corners=False: -1 and 1 are the outer borders of the outer cells
    read = F.grid_sample(maps, grid.unsqueeze(1), mode="bilinear", padding_mode="zeros", align_corners=False)
    return read.squeeze(2)


def read_cells(maps: Tensor, cells: Tensor) -> Tensor:
    """Read maps at whole cells.

    Args: `maps` (b, ..., h, w); `cells` (b, m, 2) int64, x and y. Returns: (b, ..., m).
    """
    width = maps.shape[-1]
    flat = cells[..., 1] * width + cells[..., 0]
    index = flat.reshape(len(flat), *[1] * (maps.dim() - 3), -1).expand(*maps.shape[:-2], -1)
    return maps.flatten(-2).gather(-1, index)


def all_cells(height: int, width: int, batch: int, device: torch.device) -> Tensor:
    """Every cell of a map, row by row: (batch, height * width, 2) int64, x and y."""
    y, x = torch.meshgrid(
        torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
    )
    return torch.stack([x, y], -1).reshape(1, -1, 2).expand(batch, -1, -1)
