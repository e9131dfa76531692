"""Keypoint Query Encoding and Pose Query Encoding, in an exact form of less cost (docs/paper.md).

The paper writes both encodings densely: sample features, then apply linear layers. Sampling and linear layers commute,
so here the linear layers of score and D_qk come first, and few channels are sampled. The 1x1 convolutions on the
concatenated branches commute with the upsampling in the same way. Displacements beyond the query are computed only at
chosen cells. `tests/model/dense_reference.py` holds the paper's literal form; both agree, gradients included.

The equations are methods of `Head`; they read R_k through `Maps` (dense: every cell) or `SparseMaps`
(R_k only where it is read).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calipose.config.method import Method
from calipose.model.sampling import Finest, SparseRows, all_cells, read_cells, sample_bilinear, sample_rows


@dataclass(frozen=True)
class KeypointMaps:
    """The maps that KQE reads; displacements in cells, from the cell to the target.

    Attributes:
        displacement: `(b, k, 2, h, w)`, D_cq; without KQE, D_ck. With keypoint scores and without KQE
            `(b, k, 3, h, w)`: the score comes third.
        keypoint: `(b, k, 2, h, w)`, W_qk R_k: what one semantic point contributes to D_qk; None without KQE. With
            keypoint scores `(b, k, 3, h, w)`.
        features: `(b, k C_k, h, w)`, R_k, from which D_qq' is computed at chosen cells.
    """

    displacement: Tensor
    keypoint: Tensor | None
    features: Tensor

    def first_step(self, cells: Tensor) -> Tensor:
        """D_cq (or D_ck) at cells `(b, m, 2)`: `(b, k, m, 2 or 3)`."""
        return read_cells(self.displacement, cells).transpose(-1, -2)

    def rows(self, positions: Tensor) -> Tensor:
        """R_k at positions `(b, k, m, 2)`: `(b, k, m, C_k)`."""
        return sample_rows(self.features, positions)

    def last_step(self, points: Tensor) -> Tensor:
        """W_qk R'_k of semantic points `(b, k, m, N, 2)`: `(b, k, m, 2 or 3)`; R'_k is the sum over the points."""
        assert self.keypoint is not None
        parts = _sample_per_keypoint(self.keypoint, points.flatten(2, 3))
        return torch.unflatten(parts, 2, (-1, points.shape[-2])).sum(3)


@dataclass(frozen=True)
class Maps(KeypointMaps):
    """All maps that the head computes.

    Attributes:
        score: `(b, h, w)`, I-bar: the predicted Consistent Instance Representation (or the label that replaces it).
        quality: `(b, h, w)`, the quality branch; None without one.
        presence: `(b, h, w)`, whether a person's centre is near; None without `sparse_cells`.
    """

    score: Tensor
    quality: Tensor | None
    presence: Tensor | None = None


@dataclass(frozen=True)
class SparseMaps:
    """What the sparse form reads in place of `KeypointMaps`: R_k is computed where it is read.

    Attributes:
        features: R_k.
        instance: `(b, C_I, h, w)`, R_I.
        presence: `(b, h, w)`, whether a person's centre is near.
        head: whose layers W_cq and W_qk (or W_ck) these are.
    """

    features: SparseRows
    instance: Tensor
    presence: Tensor
    head: Head

    def first_step(self, cells: Tensor) -> Tensor:
        """D_cq (or D_ck) at cells `(b, m, 2)`: `(b, k, m, 2 or 3)`."""
        layer = self.head.center_to_query if self.head.method.kqe else self.head.center_to_keypoint
        moves = self._linear(self.features.at_cells(cells), layer)
        return moves if layer.bias is None else moves + layer.bias.view(self.head.keypoints, 1, -1)

    def rows(self, positions: Tensor) -> Tensor:
        """R_k at positions `(b, k, m, 2)`: `(b, k, m, C_k)`."""
        return self.features.at_positions(positions)

    def last_step(self, points: Tensor) -> Tensor:
        """W_qk R'_k of semantic points `(b, k, m, N, 2)`: `(b, k, m, 2 or 3)`; R'_k is the sum over the points."""
        features = self.features.at_positions(points.flatten(2, 3))
        summed = torch.unflatten(features, 2, (-1, points.shape[-2])).sum(3)
        return self._linear(summed, self.head.query_to_keypoint)

    def _linear(self, features: Tensor, layer: nn.Conv2d) -> Tensor:
        """A layer's product with each keypoint's features `(b, k, m, C_k)`, without its bias."""
        return features @ layer.weight.view(self.head.keypoints, -1, features.shape[-1]).transpose(1, 2)


def semantic_start(number: int, radius_cell: float = 2.0) -> Tensor:
    """Initial positions of the semantic points around the query, evenly on a disc (Vogel's spiral).

    Points that all start at the query get the same gradient, since R'_k is a plain sum, and stay together: N points
    then read one position (docs/decisions.md).

    Args:
        number: N, the number of points.
        radius_cell: radius of the disc in cells.

    Returns:
        `(N, 2)`, cells.
    """
    n = torch.arange(number, dtype=torch.float64)
    distance, angle = radius_cell * (n / max(number, 1)).sqrt(), n * math.pi * (3 - math.sqrt(5))
    return (distance.unsqueeze(1) * torch.stack([angle.cos(), angle.sin()], 1)).float()


class Head(nn.Module):
    """The head on a backbone's four branches: KQE (Eq. 4), PQE and the score's read-out (Eq. 7).

    Args:
        channels: channels of the backbone's maps at strides 4, 8, 16 and 32.
        keypoints: K, the number of keypoints.
        method: switches of the paper's tables.

    Example:
        >>> head = Head((32, 64, 128, 256), keypoints=17, method=Method())
        >>> maps = head([torch.zeros(1, c, 32 // s, 32 // s) for c, s in zip((32, 64, 128, 256), (1, 2, 4, 8))])
        >>> head.displacements(maps, torch.zeros(1, 5, 2, dtype=torch.int64)).shape
        torch.Size([1, 17, 5, 2])
    """

    def __init__(self, channels: Sequence[int], keypoints: int, method: Method) -> None:
        super().__init__()
        self.method, self.keypoints = method, keypoints
        self.outputs = 3 if method.keypoint_scores else 2  # of the layer that ends at the keypoint: x, y, joint's score
        k, n = keypoints, method.semantic_points
        width_k, width_i = k * method.keypoint_width, method.instance_width
        self.keypoint_features = nn.Conv2d(sum(channels), width_k, 1, bias=False)
        self.keypoint_norm = nn.BatchNorm2d(width_k)
        self.instance_features = nn.Conv2d(sum(channels), width_i, 1, bias=False)
        self.instance_norm = nn.BatchNorm2d(width_i)
        if method.kqe:
            self.center_to_query = nn.Conv2d(width_k, 2 * k, 1, groups=k)
            if n:
                self.query_to_semantic = nn.Conv2d(width_k, 2 * n * k, 1, groups=k)
            self.query_to_keypoint = nn.Conv2d(width_k, self.outputs * k, 1, groups=k)
        else:
            self.center_to_keypoint = nn.Conv2d(width_k, self.outputs * k, 1, groups=k)
        if method.pose_query == "auto":
            self.center_to_auto = nn.Conv2d(width_i, 2 * k, 1)
        points = method.query_points(k)
        self.score = nn.Conv2d(points * width_i, 1, 1)
        if method.quality_branch:
            self.quality = nn.Conv2d(points * width_i, 1, 1)
        if method.sparse_cells:
            self.presence = nn.Conv2d(width_i, 1, 1)
        self._initialise()

    def _initialise(self) -> None:
        for name, module in self.named_children():
            if name.endswith("_features"):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")  # type: ignore[arg-type]
            elif name.startswith(("center_to", "query_to")):
                # Training starts with every query (almost) at the centre.
                nn.init.normal_(module.weight, std=1e-3)  # type: ignore[arg-type]
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
                if name == "query_to_semantic":
                    start = semantic_start(self.method.semantic_points).flatten().repeat(self.keypoints)
                    module.bias.data.copy_(start)  # type: ignore[operator]
            elif name in {"score", "quality", "presence"}:
                nn.init.normal_(module.weight, std=1e-3)  # type: ignore[arg-type]
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, branches: Sequence[Tensor]) -> Maps:
        """Compute the maps from the branches at strides 4, 8, 16 and 32, each `(b, c, h_s, w_s)`, which make up R_g."""
        keypoint = self._features(branches, self.keypoint_features, self.keypoint_norm)  # R_k (b, k C_k, h, w)
        instance = self._features(branches, self.instance_features, self.instance_norm)  # R_I (b, C_I, h, w)
        # Positions, displacements and score stay in full precision whatever the features are in.
        with no_autocast(keypoint.device):
            keypoint, instance = full_precision(keypoint), full_precision(instance)
            maps = self._keypoint_maps(keypoint)
            b, _, h, w = instance.shape
            cells = all_cells(h, w, b, instance.device)
            score, quality = self._scores(maps, instance, cells)
            quality = None if quality is None else quality.view(b, h, w)
            presence = self.presence(instance).squeeze(1) if self.method.sparse_cells else None
            return Maps(maps.displacement, maps.keypoint, maps.features, score.view(b, h, w), quality, presence)

    def sparse(self, branches: Sequence[Tensor], finest: Finest) -> SparseMaps:
        """The maps with which score and poses are computed at chosen cells only, in evaluation mode.

        Args:
            branches: as of `forward`.
            finest: the first branch, in the form that is cheap to read at a few cells.
        """
        instance = self._features(branches, self.instance_features, self.instance_norm)
        with no_autocast(instance.device):
            instance = full_precision(instance)
            presence = self.presence(instance).squeeze(1)
            weight, bias = fold(self.keypoint_features.weight, self.keypoint_norm)
            finest = Finest(full_precision(finest.maps), finest.layers)
            others = [full_precision(branch) for branch in branches[1:]]
            rows = SparseRows.of(finest, others, weight, bias, self.keypoints)
            return SparseMaps(rows, instance, presence, self)

    def scores_at(self, maps: SparseMaps, cells: Tensor) -> tuple[Tensor, Tensor | None]:
        """Score and quality `(b, m)` of chosen cells `(b, m, 2)`; the quality is None without a quality branch."""
        return self._scores(maps, maps.instance, cells)

    def _features(self, branches: Sequence[Tensor], convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
        """R_k or R_I: ReLU(BN(1x1 convolution of R_g)), R_g being the upsampled, concatenated branches."""
        size = branches[0].shape[-2:]
        weight, bias = convolution.weight, None
        if not norm.training:
            weight, bias = fold(weight, norm)
        # Upsampling before or after the projection is the same; the way with fewer channels is cheaper. The coarsest
        # branch is always projected at its own resolution.
        narrow = len(weight) < sum(branch.shape[1] for branch in branches[1:-1])
        fine = branches[0] if narrow else torch.cat([branches[0], *(_upsample(b, size) for b in branches[1:-1])], 1)
        start = fine.shape[1]
        projected = F.conv2d(fine, weight[:, :start], bias)
        for branch in branches[1:] if narrow else branches[-1:]:
            end = start + branch.shape[1]
            projected.add_(_upsample(F.conv2d(branch, weight[:, start:end]), size))
            start = end
        return F.relu_(norm(projected) if norm.training else projected)

    def _keypoint_maps(self, features: Tensor) -> KeypointMaps:
        """D_cq (or D_ck) and W_qk R_k of every cell, in one convolution over R_k."""
        k = self.keypoints
        if not self.method.kqe:
            displacement = torch.unflatten(self.center_to_keypoint(features).contiguous(), 1, (k, self.outputs))
            return KeypointMaps(displacement, None, features)
        first, last = self.center_to_query, self.query_to_keypoint
        assert first.bias is not None
        width = self.method.keypoint_width
        weight = torch.cat([layer.weight.view(k, -1, width, 1, 1) for layer in (first, last)], 1)
        # The bias of W_qk comes once, after the sum over the semantic points.
        bias = torch.cat([first.bias.view(k, 2), first.bias.new_zeros(k, self.outputs)], 1)
        maps = F.conv2d(features, weight.flatten(0, 1), bias.flatten(), groups=k)
        # Contiguous, so that a keypoint's maps can be sampled on their own.
        moves = torch.unflatten(maps.contiguous(), 1, (k, -1))
        displacement, part = moves[:, :, :2], moves[:, :, 2:]
        return KeypointMaps(displacement, part, features)

    def _scores(self, maps: KeypointMaps | SparseMaps, instance: Tensor, cells: Tensor) -> tuple[Tensor, Tensor | None]:
        """Score and quality `(b, m)` of cells `(b, m, 2)`."""
        positions = self._pose_query_positions(maps, instance, cells)
        score = self._pose_query(instance, positions, self.score)
        return score, self._pose_query(instance, positions, self.quality) if self.method.quality_branch else None

    def _pose_query_positions(self, maps: KeypointMaps | SparseMaps, instance: Tensor, cells: Tensor) -> Tensor:
        """Positions `(b, points, m, 2)` at which PQE reads the instance features for each of the cells `(b, m, 2)`."""
        query = self.method.pose_query
        center = cells.to(instance.dtype).unsqueeze(1)
        if query == "none":
            return center
        if query == "auto":
            moves = read_cells(torch.unflatten(self.center_to_auto(instance), 1, (-1, 2)), cells)
            return center + moves.transpose(-1, -2)
        if query == "query":
            return self.queries(maps, cells)
        if query == "keypoint":
            return center + self.displacements(maps, cells)
        _, points = self._query_points(maps, cells)
        return points.transpose(2, 3).flatten(1, 2)

    def _pose_query(self, instance: Tensor, positions: Tensor, readout: nn.Conv2d) -> Tensor:
        """PQE (Eq. 7) with a linear read-out: score(c) = b + sum_i w_i . R_I(position_i), `(b, m)`.

        `w_i . R_I` is a map of one channel, so projecting before sampling reads one number per point instead of C_I.
        """
        b, width, h, w = instance.shape
        projected = F.conv2d(instance, readout.weight.view(-1, width, 1, 1))  # (b, points, h, w)
        points = projected.shape[1]
        read = sample_bilinear(projected.reshape(b * points, 1, h, w), positions.reshape(b * points, -1, 2))
        summed = read.view(b, points, -1).sum(1)
        return summed if readout.bias is None else summed + readout.bias

    def _query_points(self, maps: KeypointMaps | SparseMaps, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Keypoint queries `(b, k, m, 2)` of cells `(b, m, 2)`, and their semantic points `(b, k, m, max(N, 1), 2)`."""
        query = self.queries(maps, cells)
        if not self.method.semantic_points:
            return query, query.unsqueeze(-2)
        positions = query if self.method.semantic_at == "query" else cells.to(query.dtype).unsqueeze(1).expand_as(query)
        layer = self.query_to_semantic
        assert layer.bias is not None
        weight = layer.weight.view(self.keypoints, -1, self.method.keypoint_width).transpose(1, 2)
        to_semantic = maps.rows(positions) @ weight + layer.bias.view(self.keypoints, 1, -1)
        return query, query.unsqueeze(-2) + torch.unflatten(to_semantic, -1, (-1, 2))

    def displacements(self, maps: KeypointMaps | SparseMaps, cells: Tensor) -> Tensor:
        """D_ck (Eq. 4) alone, `(b, k, m, 2)`; see `keypoints_at`."""
        return self.keypoints_at(maps, cells)[0]

    def keypoints_at(self, maps: KeypointMaps | SparseMaps, cells: Tensor) -> tuple[Tensor, Tensor | None]:
        """KQE (Eq. 4): D_ck = D_cq + D_qk at chosen cells.

        Args:
            maps: from `forward` or `sparse`.
            cells: `(b, m, 2)` int64, x and y.

        Returns:
            The displacements `(b, k, m, 2)` from the cell to its pose's keypoints, in cells; and the keypoint scores
            `(b, k, m)`, None where the network has none.
        """
        # Positions stay in full precision.
        with no_autocast(cells.device):
            if not self.method.kqe:
                return self._split(maps.first_step(cells))
            query, points = self._query_points(maps, cells)
            summed = maps.last_step(points)
            if self.query_to_keypoint.bias is not None:
                summed = summed + self.query_to_keypoint.bias.view(1, self.keypoints, 1, -1)
            to_keypoint, scores = self._split(summed)
            return query - cells.to(query.dtype).unsqueeze(1) + to_keypoint, scores

    def _split(self, outputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Split the outputs `(..., 2 or 3)` of the last layer into displacement and keypoint score."""
        return outputs[..., :2], outputs[..., 2] if self.method.keypoint_scores else None

    def queries(self, maps: KeypointMaps | SparseMaps, cells: Tensor) -> Tensor:
        """Keypoint queries of chosen cells: `(b, k, m, 2)`, positions in cells (the yellow circles of Figure 2)."""
        return cells.unsqueeze(1) + maps.first_step(cells)[..., :2]


def _sample_per_keypoint(maps: Tensor, positions: Tensor) -> Tensor:
    """Read maps `(b, k, c, h, w)` at positions `(b, k, l, 2)`: `(b, k, l, c)`.

    The keypoints are the batch of one sampling call, since torch's sampler on a CPU is parallel over its batch only.
    """
    b, k = maps.shape[:2]
    read = sample_bilinear(maps.flatten(0, 1), positions.flatten(0, 1))
    return read.view(b, k, *read.shape[1:]).transpose(-1, -2)


def _upsample(maps: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(maps, size=list(size), mode="bilinear", align_corners=False)


def no_autocast(device: torch.device) -> AbstractContextManager[object]:
    """A context without automatic mixed precision; the meta device has none."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def full_precision(maps: Tensor) -> Tensor:
    """The maps, half precision raised to single."""
    return maps.float() if maps.dtype in {torch.float16, torch.bfloat16} else maps


def fold(weight: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Fold a batch norm into the convolution before it; returns the new convolution's weight and bias.

    Args:
        weight: the convolution's weight; it has no bias.
        norm: the batch norm, in evaluation mode.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return weight * gain.view(-1, 1, 1, 1), norm.bias - norm.running_mean * gain
