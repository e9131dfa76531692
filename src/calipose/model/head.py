"""Keypoint Query Encoding and Pose Query Encoding, in the exact cheap form (docs/paper.md).

The paper writes both encodings densely: sample features, then apply linear layers. Sampling and linear layers commute,
so here the linear layers of score and D_qk come first and few channels are sampled; the 1x1 convolutions on the
concatenated branches commute with the upsampling in the same way; displacements beyond the query are computed only at
chosen cells.
tests/model/dense_reference.py holds the paper's literal form; both agree, gradients included.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calipose.config.method import Method
from calipose.model.sampling import all_cells, read_cells, sample_bilinear, sample_rows


@dataclass(frozen=True)
class KeypointMaps:
    """What KQE needs of every cell; displacements in cells, from the cell to the target.

    Attributes:
        displacement: (b, k, 2, h, w), D_cq; without KQE, D_ck.
            With joint scores and without KQE (b, k, 3, h, w): the joint's score comes third.
        keypoint: (b, k, 2, h, w), W_qk R_k: what one semantic point contributes to D_qk; None without KQE. With joint
            scores (b, k, 3, h, w).
        features: (b, k C_k, h, w), R_k, from which D_qq' is computed where it is needed.
    """

    displacement: Tensor
    keypoint: Tensor | None
    features: Tensor


@dataclass(frozen=True)
class Maps(KeypointMaps):
    """All that the head computes for every cell.

    Attributes:
        score: (b, h, w), the predicted Consistent Instance Representation (or the label that replaces it).
        quality: (b, h, w), the quality branch, or None.
    """

    score: Tensor
    quality: Tensor | None


def semantic_start(number: int, radius_cell: float = 2.0) -> Tensor:
    """Where the semantic points start around the query: (N, 2) cells, evenly on a disc (Vogel's spiral).

    Started all at the query they get the same gradient, since R'_k is a plain sum, and stay together: N points that
    read one place. Source: docs/decisions.md.
    """
    n = torch.arange(number, dtype=torch.float64)
    distance, angle = radius_cell * (n / max(number, 1)).sqrt(), n * math.pi * (3 - math.sqrt(5))
    return (distance.unsqueeze(1) * torch.stack([angle.cos(), angle.sin()], 1)).float()


class Head(nn.Module):
    """KQE (Eq. 4), PQE (Eq. 7) and the score read-out for `keypoints` joints on a backbone's four branches."""

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
            elif name in {"score", "quality"}:
                nn.init.normal_(module.weight, std=1e-3)  # type: ignore[arg-type]
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, branches: Sequence[Tensor]) -> Maps:
        """Maps of a batch from the branches at strides 4, 8, 16, 32, each (b, c, h_s, w_s)."""
        keypoint, instance = self._features(branches)  # R_k (b, k C_k, h, w), R_I (b, C_I, h, w)
        # Positions, displacements and score stay in full precision whatever the features are in.
        with torch.autocast(keypoint.device.type, enabled=False):
            if keypoint.dtype in {torch.float16, torch.bfloat16}:
                keypoint, instance = keypoint.float(), instance.float()
            return self._maps(keypoint, instance)

    def _features(self, branches: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """R_k and R_I: ReLU(BN(1x1 convolution of R_g)), R_g being the upsampled, concatenated branches."""
        size = branches[0].shape[-2:]
        layers = ((self.keypoint_features, self.keypoint_norm), (self.instance_features, self.instance_norm))
        # The coarsest branch is projected at its own resolution; upsampling the projection is the same and cheaper.
        fine = torch.cat([branches[0], *(_upsample(b, size) for b in branches[1:-1])], 1)
        features = []
        for convolution, norm in layers:
            weight, bias = convolution.weight, None
            if not norm.training:
                weight, bias = fold(weight, norm)
            projected = F.conv2d(fine, weight[:, : fine.shape[1]], bias)
            projected.add_(_upsample(F.conv2d(branches[-1], weight[:, fine.shape[1] :]), size))
            features.append(F.relu_(norm(projected) if norm.training else projected))
        return features[0], features[1]

    def _maps(self, keypoint: Tensor, instance: Tensor) -> Maps:
        maps = self._keypoint_maps(keypoint)
        positions = self._pose_query_positions(maps, instance)
        score = self._pose_query(instance, positions, self.score)
        quality = self._pose_query(instance, positions, self.quality) if self.method.quality_branch else None
        return Maps(maps.displacement, maps.keypoint, maps.features, score, quality)

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

    def _pose_query_positions(self, maps: KeypointMaps, instance: Tensor) -> Tensor | None:
        """Positions (b, points, h w, 2) at which PQE reads the instance features of every cell; None: the cell."""
        query = self.method.pose_query
        if query == "none":
            return None
        b, _, h, w = instance.shape
        cells = all_cells(h, w, b, instance.device)
        center = cells.to(instance.dtype).unsqueeze(1)
        if query == "auto":
            moves = torch.unflatten(self.center_to_auto(instance), 1, (-1, 2))
            return center + moves.flatten(-2).transpose(-1, -2)
        if query == "query":
            return center + maps.displacement.flatten(-2).transpose(-1, -2)
        if query == "keypoint":
            return center + self.displacements(maps, cells)
        _, points = self._query_points(maps, cells)
        return points.transpose(2, 3).flatten(1, 2)

    def _pose_query(self, instance: Tensor, positions: Tensor | None, readout: nn.Conv2d) -> Tensor:
        """PQE (Eq. 7) with a linear read-out: score(c) = b + sum_i w_i . R_I(position_i), (b, h, w).

        `w_i . R_I` is a map of one channel, so projecting before sampling reads one number a point instead of C_I.
        """
        b, width, h, w = instance.shape
        projected = F.conv2d(instance, readout.weight.view(-1, width, 1, 1))  # (b, points, h, w)
        if positions is not None:
            points = projected.shape[1]
            read = sample_bilinear(projected.reshape(b * points, 1, h, w), positions.reshape(b * points, h * w, 2))
            projected = read.view(b, points, h, w)
        summed = projected.sum(1)
        return summed if readout.bias is None else summed + readout.bias

    def _query_points(self, maps: KeypointMaps, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Keypoint queries (b, k, m, 2) of cells (b, m, 2), and the points (b, k, m, max(N, 1), 2) read for them."""
        query = self.queries(maps, cells)
        if not self.method.semantic_points:
            return query, query.unsqueeze(-2)
        at = query if self.method.semantic_at == "query" else cells.to(query.dtype).unsqueeze(1).expand_as(query)
        layer = self.query_to_semantic
        assert layer.bias is not None
        weight = layer.weight.view(self.keypoints, -1, self.method.keypoint_width).transpose(1, 2)
        to_semantic = sample_rows(maps.features, at) @ weight + layer.bias.view(self.keypoints, 1, -1)
        return query, query.unsqueeze(-2) + torch.unflatten(to_semantic, -1, (-1, 2))

    def displacements(self, maps: KeypointMaps, cells: Tensor) -> Tensor:
        """D_ck (Eq. 4) alone, (b, k, m, 2); see `keypoints_at`."""
        return self.keypoints_at(maps, cells)[0]

    def keypoints_at(self, maps: KeypointMaps, cells: Tensor) -> tuple[Tensor, Tensor | None]:
        """KQE (Eq. 4): D_ck = D_cq + D_qk at chosen cells.

        Args: `cells` (b, m, 2) int64, x and y.

        Returns: (b, k, m, 2) displacements from the cell to its pose's keypoints, in cells; the joints' scores
        (b, k, m), None where the network has none.
        """
        if not self.method.kqe:
            return self._split(read_cells(maps.displacement, cells).transpose(-1, -2))
        assert maps.keypoint is not None
        with torch.autocast(maps.keypoint.device.type, enabled=False):  # positions stay in full precision
            query, points = self._query_points(maps, cells)
            parts = _sample_per_keypoint(maps.keypoint, points.flatten(2, 3))
            # W_qk R'_k, R'_k being the sum over the semantic points
            summed = torch.unflatten(parts, 2, (-1, points.shape[-2])).sum(3)
            if self.query_to_keypoint.bias is not None:
                summed = summed + self.query_to_keypoint.bias.view(1, self.keypoints, 1, -1)
            to_keypoint, scores = self._split(summed)
            return query - cells.to(query.dtype).unsqueeze(1) + to_keypoint, scores

    def _split(self, outputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Displacement and joint's score in the outputs (..., 2 or 3) of the layer that ends at the keypoint."""
        return outputs[..., :2], outputs[..., 2] if self.method.keypoint_scores else None

    def queries(self, maps: KeypointMaps, cells: Tensor) -> Tensor:
        """Keypoint queries of chosen cells: (b, k, m, 2) positions in cells (the yellow circles of Figure 2)."""
        return cells.unsqueeze(1) + read_cells(maps.displacement, cells).transpose(-1, -2)[..., :2]


def _sample_per_keypoint(maps: Tensor, positions: Tensor) -> Tensor:
    """Read (b, k, c, h, w) at (b, k, l, 2): (b, k, l, c).

    The keypoints are the batch of one sampling call, since the CPU's sampler is parallel over its batch only.
    """
    b, k = maps.shape[:2]
    read = sample_bilinear(maps.flatten(0, 1), positions.flatten(0, 1))
    return read.view(b, k, *read.shape[1:]).transpose(-1, -2)


def _upsample(maps: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(maps, size=list(size), mode="bilinear", align_corners=False)


def fold(weight: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution that equals `norm` (evaluation mode) after a convolution with `weight`."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return weight * gain.view(-1, 1, 1, 1), norm.bias - norm.running_mean * gain
