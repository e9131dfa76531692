"""Reading maps at real-valued positions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sample_bilinear(maps: Tensor, positions_cell: Tensor) -> Tensor:
    """Read maps bilinearly at positions in cells, positions clamped to the map.

    The clamp makes every padding mode of a grid sampler agree, torch's and ONNX's alike. A clamped coordinate has no
    gradient.

    Args:
        maps: `(n, c, h, w)`.
        positions_cell: `(n, l, 2)`, x and y, integer = centre of a cell.

    Returns:
        `(n, c, l)`.
    """
    height, width = maps.shape[-2:]
    x, y = positions_cell[..., 0].clamp(0, width - 1), positions_cell[..., 1].clamp(0, height - 1)
    # align_corners=False: -1 and 1 are the outer borders of the outer cells.
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)
    read = F.grid_sample(maps, grid.unsqueeze(1), mode="bilinear", padding_mode="zeros", align_corners=False)
    return read.squeeze(2)


def sample_rows(features: Tensor, positions_cell: Tensor) -> Tensor:
    """Read each keypoint's features bilinearly at a few positions, clamped to the map.

    The values are those of `sample_bilinear` on each keypoint's own maps, without reading the other cells.

    Args:
        features: `(b, k c, h, w)`, channels-last in memory, so that a cell's features of one keypoint are a contiguous
            row.
        positions_cell: `(b, k, m, 2)`, x and y, integer = centre of a cell.

    Returns:
        `(b, k, m, c)`.
    """
    b, k = positions_cell.shape[:2]
    height, width = features.shape[-2:]
    rows = features.permute(0, 2, 3, 1).reshape(b * height * width * k, -1)
    x, y = positions_cell[..., 0].clamp(0, width - 1), positions_cell[..., 1].clamp(0, height - 1)
    left, top = x.detach().floor().clamp(max=width - 2), y.detach().floor().clamp(max=height - 2)
    # A position that is NaN must lead to a NaN loss, which is reported, and not to an index out of range.
    column, line = left.nan_to_num(0).long(), top.nan_to_num(0).long()
    x, y = x - left, y - top
    image = torch.arange(b, device=features.device).view(b, 1, 1)
    keypoint = torch.arange(k, device=features.device).view(1, k, 1)
    first = ((image * height + line) * width + column) * k + keypoint
    index = torch.stack([first, first + k, first + width * k, first + (width + 1) * k], -1)
    weight = torch.stack([(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y], -1)
    # embedding: its gradient on a CPU runs in parallel, that of plain indexing does not.
    return (F.embedding(index, rows) * weight.unsqueeze(-1)).sum(-2)


def read_cells(maps: Tensor, cells: Tensor) -> Tensor:
    """Read maps at whole cells.

    Args:
        maps: `(b, ..., h, w)`.
        cells: `(b, m, 2)` int64, x and y.

    Returns:
        `(b, ..., m)`.
    """
    width = maps.shape[-1]
    flat = cells[..., 1] * width + cells[..., 0]
    index = flat.reshape(flat.shape[0], *[1] * (maps.dim() - 3), -1).expand(*maps.shape[:-2], -1)
    return maps.flatten(-2).gather(-1, index)


def all_cells(height: int, width: int, batch: int, device: torch.device) -> Tensor:
    """List every cell of a map, row by row: `(batch, height * width, 2)` int64, x and y."""
    y, x = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
    return torch.stack([x, y], -1).reshape(1, -1, 2).expand(batch, -1, -1)
