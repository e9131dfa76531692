"""Reading maps at real-valued positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    k = positions_cell.shape[1]
    height, width = features.shape[-2:]
    column, line, weight = _corners(positions_cell[..., 0], positions_cell[..., 1], height, width)
    return _weighted_corners(_read_rows(features, column, line, k), weight)


def _read_rows(features: Tensor, column: Tensor, line: Tensor, k: int) -> Tensor:
    """Each keypoint's features `(b, k c, h, w)` at cells of columns and lines `(b, k, m)`: `(b, k, m, c)`."""
    b, _, height, width = features.shape
    rows = features.permute(0, 2, 3, 1).reshape(b * height * width * k, -1)
    image = torch.arange(b, device=features.device).view(b, 1, 1)
    keypoint = torch.arange(k, device=features.device).view(1, k, 1)
    # embedding: its gradient on a CPU runs in parallel, that of plain indexing does not.
    return F.embedding(((image * height + line) * width + column) * k + keypoint, rows)


def _corners(x: Tensor, y: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """The four cells around positions x and y `(..., m)`, clamped to the map, and their bilinear weights.

    Returns:
        Columns and lines, int64, and weights: `(..., 4 m)` each, the m positions four times.
    """
    x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    left, top = x.detach().floor(), y.detach().floor()
    x, y = x - left, y - top
    # A position that is NaN must lead to a NaN loss, which is reported, and not to an index out of range.
    column, line = left.nan_to_num(0).long(), top.nan_to_num(0).long()
    right, below = (column + 1).clamp(max=width - 1), (line + 1).clamp(max=height - 1)  # of weight 0 where clamped
    weights = [(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y]
    columns, lines = [column, right, column, right], [line, line, below, below]
    return torch.cat(columns, -1), torch.cat(lines, -1), torch.cat(weights, -1)


def _weighted_corners(read: Tensor, weight: Tensor) -> Tensor:
    """The sum of what was read at four corners `(b, k, 4 m, c)`, weighted by `(b, k, 4 m)`: `(b, k, m, c)`."""
    first, second, third, fourth = (read * weight.unsqueeze(-1)).chunk(4, 2)
    return first + second + third + fourth


@dataclass(frozen=True)
class Finest:
    """A backbone's map at stride 4, to be read at a few cells.

    Attributes:
        maps: `(b, c, h, w)`.
        layers: if any, `maps` are what the map's last layer reads: the map is the concatenation of
            ReLU(weight maps_i + bias), with weights `(o, c_i)` and biases `(o,)` for consecutive groups of channels.
    """

    maps: Tensor
    layers: tuple[tuple[Tensor, Tensor], ...] = ()

    def rows(self, column: Tensor, line: Tensor) -> Tensor:
        """The map's values at cells of columns and lines `(b, ...)` int64: `(b, ..., c)`."""
        b, channels, height, width = self.maps.shape
        table = self.maps.permute(0, 2, 3, 1).reshape(b * height * width, channels)
        image = torch.arange(b, device=table.device).view(b, *[1] * (column.dim() - 1))
        rows = F.embedding((image * height + line) * width + column, table)
        if not self.layers:
            return rows
        groups = torch.split(rows, [weight.shape[1] for weight, _ in self.layers], -1)
        values = [F.relu(g @ w.T + bias) for g, (w, bias) in zip(groups, self.layers, strict=True)]
        return torch.cat(values, -1)


@dataclass(frozen=True)
class SparseRows:
    """R_k = ReLU(W R_g + b), computed only at the cells where it is read; nothing of its size is ever made.

    R_g is the concatenation of the branches, upsampled. The finest branch is read cell by cell and then projected, the
    others are projected at their own resolution and then read.

    Attributes:
        finest: the branch at stride 4.
        weight: `(k, c, C_k)`, the finest branch's part of W.
        bias: `(k, C_k)`.
        coarse: `(b, k C_k, h_s, w_s)` each, the other branches' parts of W R_g.
    """

    finest: Finest
    weight: Tensor
    bias: Tensor
    coarse: list[Tensor]

    @classmethod
    def of(cls, finest: Finest, others: Sequence[Tensor], weight: Tensor, bias: Tensor, keypoints: int) -> SparseRows:
        """From the branches at strides 4 and 8, 16, 32, and a 1x1 convolution on R_g.

        Args:
            finest: the branch at stride 4.
            others: `(b, c_s, h_s, w_s)` each.
            weight: `(k C_k, c, 1, 1)`.
            bias: `(k C_k,)`.
            keypoints: k.
        """
        wide = [branch.shape[1] for branch in others]
        first, *parts = torch.split(weight, [weight.shape[1] - sum(wide), *wide], 1)
        # A product and not a convolution: its result lies channel by channel, as the sampler wants it.
        coarse = [
            torch.unflatten(part.flatten(1) @ branch.flatten(2), 2, branch.shape[2:])
            for branch, part in zip(others, parts, strict=True)
        ]
        rows = first.reshape(keypoints, -1, first.shape[1]).transpose(1, 2)
        return cls(finest, rows, bias.view(keypoints, -1), coarse)

    def at_cells(self, cells: Tensor) -> Tensor:
        """R_k at whole cells, the same for all keypoints.

        Args:
            cells: `(b, m, 2)` int64, x and y.

        Returns:
            `(b, k, m, C_k)`.
        """
        k, channels, width = self.weight.shape
        weight = self.weight.transpose(0, 1).reshape(channels, k * width)
        values = self.finest.rows(cells[..., 0], cells[..., 1]) @ weight + self.bias.flatten()
        values = values + self._coarse_rows(cells.unsqueeze(1), 1).squeeze(1)
        return F.relu(torch.unflatten(values, -1, (k, width))).transpose(1, 2)

    def at_positions(self, positions_cell: Tensor) -> Tensor:
        """R_k of each keypoint, read bilinearly at its own positions, clamped to the map.

        Args:
            positions_cell: `(b, k, m, 2)`, x and y, integer = centre of a cell.

        Returns:
            `(b, k, m, C_k)`.
        """
        x, y = positions_cell[..., 0], positions_cell[..., 1]
        column, line, weight = _corners(x, y, *self.finest.maps.shape[-2:])
        values = self.finest.rows(column, line) @ self.weight + self.bias.unsqueeze(1)
        values = F.relu(values + self._coarse_rows(torch.stack([column, line], -1), positions_cell.shape[1]))
        return _weighted_corners(values, weight)

    def _coarse_rows(self, cells: Tensor, k: int) -> Tensor:
        """The other branches' parts of W R_g at cells of stride 4 `(b, k, m, 2)`: `(b, k, m, c)`.

        Of k = 1, all channels are one row.
        """
        total = torch.zeros(())
        for halvings, coarse in enumerate(self.coarse, 1):
            maps = torch.unflatten(coarse, 1, (k, -1)).flatten(0, 1)
            part = sample_bilinear(maps, _in_coarse(cells, halvings, coarse.dtype).flatten(0, 1))
            total = total + part if halvings > 1 else part
        return torch.unflatten(total, 0, (-1, k)).transpose(-1, -2)


def _in_coarse(cells: Tensor, halvings: int, dtype: torch.dtype) -> Tensor:
    """Cells of stride 4 as positions in the map of stride 4 x 2^halvings of the same image."""
    return (cells.to(dtype) + 0.5) * 0.5**halvings - 0.5


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
