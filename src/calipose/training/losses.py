"""The losses; each says what it is divided by, and each is defined for a batch with nobody in it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from calipose.config.method import Method
from calipose.config.settings import LossSettings
from calipose.model.network import Output
from calipose.training.targets import Targets, keypoint_similarity, oks_of_cells, scatter_cells, score_label


@dataclass(frozen=True)
class Losses:
    """Scalars of one batch; `mean_oks` is the mean OKS of Omega's cells, learnt from where `oks_weight` says so."""

    total: Tensor
    score: Tensor
    offset: Tensor
    quality: Tensor
    keypoint: Tensor
    mean_oks: Tensor

    def to_dict(self) -> dict[str, float]:
        """Plain numbers by name, in one transfer from the device."""
        names = list(self.__dataclass_fields__)
        values = torch.stack([getattr(self, name).detach().float() for name in names]).tolist()
        return dict(zip(names, values, strict=True))


def score_loss(score: Tensor, label: Tensor, weight: Tensor, divide_by: Tensor) -> Tensor:
    """Weighted squared error of the score map (Eq. 3), summed and divided by `divide_by` (see `_score_divisor`).

    Args: `score`, `label`, `weight` (b, h, w).
    """
    return (weight * (score - label) ** 2).sum() / divide_by


def offset_loss(predicted: Tensor, target: Tensor, counts: Tensor, scale: Tensor, beta: float) -> Tensor:
    """Smooth L1 of displacements (Eq. 6), divided by the number of displacements that count.

    Args: `predicted`, `target` (b, m, k, 2) in cells; `counts` (b, m, k) bool: labelled keypoints of Omega's cells;
    `scale` (b, m): factor for a person's errors; `beta`: where the loss turns from squares to absolute values.
    """
    error = (predicted - target) * scale[..., None, None]
    error = torch.where(counts.unsqueeze(-1), error, 0)  # also keeps infinities of padding out of the gradient
    each = F.smooth_l1_loss(error, torch.zeros_like(error), reduction="sum", beta=beta)
    return each / (2 * counts.sum()).clamp(min=1)


def keypoint_loss(predicted: Tensor, similarity: Tensor, counts: Tensor) -> Tensor:
    """Squared error of the joints' scores, divided by the number of joints that count.

    Args: `predicted`, `similarity` (b, m, k): a joint's score and its own term of the OKS (Eq. 1) at its predicted
    place; `counts` (b, m, k) bool: labelled keypoints of Omega's cells.
    """
    error = torch.where(counts, predicted - similarity, 0)
    return (error**2).sum() / counts.sum().clamp(min=1)


def all_losses(output: Output, targets: Targets, method: Method, settings: LossSettings, sigmas: Tensor) -> Losses:
    """Total loss of a batch: the score's (Eq. 3), the offsets' (Eq. 6) and, with a quality branch, its own.

    The offsets' targets are Eq. 5's with the opposite sign: they point from the cell to the keypoint.

    Args: `output` of the network at `targets.cells`; `sigmas` (k,) of the skeleton.
    """
    maps = output.maps
    omega = targets.owner >= 0
    learnt_oks = oks_of_cells(targets, output.displacements, sigmas)
    cell_oks = learnt_oks.detach()  # a label has no gradient: the score follows the OKS, not the other way round
    label = score_label(targets, cell_oks, method.label, settings.radius)
    weight = torch.where(omega, 1.0, settings.background_weight) * ~targets.ignore
    score = score_loss(maps.score, label, weight, _score_divisor(weight, targets, settings))

    predicted = output.displacements.transpose(1, 2)
    target = targets.of_cells(targets.keypoints) - targets.cells.unsqueeze(2)
    counts = targets.of_cells(targets.labelled) & targets.inside.unsqueeze(-1)
    area = targets.of_cells(targets.area)
    scale = torch.ones_like(area) if settings.offset_unit == "cells" else area.clamp(min=1.0).rsqrt()
    offset = offset_loss(predicted, target, counts, scale, settings.offset_beta)

    quality = score.new_zeros(())
    if maps.quality is not None:  # supervised in Omega only, as in the paper's Table 3
        error = (maps.quality - scatter_cells(targets, cell_oks)) ** 2
        quality = (error * omega).sum() / omega.sum().clamp(min=1)
    keypoint = score.new_zeros(())
    if output.keypoint_scores is not None:
        position = predicted.detach() + targets.cells.unsqueeze(2)
        similarity = keypoint_similarity(position, targets.of_cells(targets.keypoints), area, sigmas)
        keypoint = keypoint_loss(output.keypoint_scores.transpose(1, 2), similarity, counts)
    total = (
        settings.score_weight * (score + quality)
        + settings.offset_weight * offset
        + settings.keypoint_weight * keypoint
    )
    number = targets.inside.sum().clamp(min=1)
    mean_oks = (cell_oks * targets.inside).sum() / number
    if settings.oks_weight:
        total = total + settings.oks_weight * ((1 - learnt_oks) * targets.inside).sum() / number
    return Losses(total, score, offset, quality, keypoint, mean_oks)


def _score_divisor(weight: Tensor, targets: Targets, settings: LossSettings) -> Tensor:
    """The number of people (at least of images); or the sum of weights; or the number of cells; at least 1.

    Counted over one batch of one process. At least of images: a batch with few people would weigh a background cell
    many times more than a full one does.
    """
    if settings.score_divisor == "people":
        return targets.labelled.any(-1).sum().clamp(min=targets.labelled.shape[0])
    if settings.score_divisor == "weights":
        return weight.sum().clamp(min=1)
    return (~targets.ignore).sum().clamp(min=1)
