"""The losses; each docstring says what the loss is divided by. All are defined for a batch without people."""

from __future__ import annotations

from collections.abc import Callable
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
    """Losses of one batch, scalars.

    Attributes:
        total: weighted sum, which training minimises.
        score: loss of the score map (Eq. 3).
        offset: loss of the displacements (Eq. 6).
        quality: loss of the quality branch; 0 without one.
        presence: loss of the presence map (Eq. 3 with the discrete label); 0 without one.
        keypoint: loss of the keypoint scores; 0 without them.
        mean_oks: mean OKS of Omega's cells; part of `total` only if `oks_weight` is above 0.
    """

    total: Tensor
    score: Tensor
    offset: Tensor
    quality: Tensor
    presence: Tensor
    keypoint: Tensor
    mean_oks: Tensor

    def to_dict(self) -> dict[str, float]:
        """The losses as plain numbers by name, in one transfer from the device."""
        names = list(self.__dataclass_fields__)
        values = torch.stack([getattr(self, name).detach().float() for name in names]).tolist()
        return dict(zip(names, values, strict=True))


def score_loss(score: Tensor, label: Tensor, weight: Tensor, divide_by: Tensor) -> Tensor:
    """Weighted squared error of the score map (Eq. 3), summed and divided by `divide_by`.

    Args:
        score: `(b, h, w)`, the predicted score map.
        label: `(b, h, w)`, from `score_label`.
        weight: `(b, h, w)`, W: 1 in Omega, the background weight outside, 0 where ignored.
        divide_by: scalar, see `_score_divisor`.
    """
    return (weight * (score - label) ** 2).sum() / divide_by


def offset_loss(
    predicted: Tensor, target: Tensor, counts: Tensor, scale: Tensor, beta: float, number: Tensor | None = None
) -> Tensor:
    """Smooth L1 of displacements (Eq. 6), divided by the number of coordinates that count.

    Args:
        predicted: `(b, m, k, 2)`, cells.
        target: `(b, m, k, 2)`, cells.
        counts: `(b, m, k)` bool: labelled keypoints of Omega's cells.
        scale: `(b, m)`, factor of a person's errors.
        beta: error at which the loss changes from squares to absolute values.
        number: scalar, the labelled keypoints to divide by, two coordinates each; by default those that count here.
    """
    error = (predicted - target) * scale[..., None, None]
    error = torch.where(counts.unsqueeze(-1), error, 0)  # also keeps infinities of padding out of the gradient
    each = F.smooth_l1_loss(error, torch.zeros_like(error), reduction="sum", beta=beta)
    return each / (2 * (counts.sum() if number is None else number)).clamp(min=1)


def keypoint_loss(predicted: Tensor, similarity: Tensor, counts: Tensor, number: Tensor) -> Tensor:
    """Squared error of the keypoint scores, divided by the number of keypoints that count (not in the paper).

    Args:
        predicted: `(b, m, k)`, keypoint scores.
        similarity: `(b, m, k)`, each keypoint's term of the OKS (Eq. 1) at its predicted position.
        counts: `(b, m, k)` bool: labelled keypoints of Omega's cells.
        number: scalar, the keypoints to divide by.
    """
    error = torch.where(counts, predicted - similarity, 0)
    return (error**2).sum() / number.clamp(min=1)


def all_losses(
    output: Output,
    targets: Targets,
    method: Method,
    settings: LossSettings,
    sigmas: Tensor,
    total_of: Callable[[Tensor], Tensor] = lambda counts: counts,
) -> Losses:
    """Losses of a batch: the score's (Eq. 3), the offsets' (Eq. 6), and those of the optional outputs.

    The offsets' targets are Eq. 5's with the opposite sign: they point from the cell to the keypoint.

    Args:
        output: the network's, at `targets.cells`.
        targets: people and Omega's cells.
        method: switches of the paper's tables.
        settings: weights and units of the losses.
        sigmas: `(k,)`, the skeleton's.
        total_of: sums counts over the processes of a training. Losses are then divided by those of the batches of all
            processes, so that the sum of the processes' losses is the loss of one batch of all images.
    """
    maps = output.maps
    omega = targets.owner >= 0
    learnt_oks = oks_of_cells(targets, output.displacements, sigmas)
    cell_oks = learnt_oks.detach()  # a label has no gradient
    label = score_label(targets, cell_oks, method.label, settings.radius)
    weight = torch.where(omega, 1.0, settings.background_weight) * ~targets.ignore
    counts = targets.at_cells(targets.labelled) & targets.inside.unsqueeze(-1)
    here = [*_score_divisor(weight, targets, settings), counts.sum(), omega.sum(), targets.inside.sum()]
    divisor, least, num_keypoints, num_omega, num_cells = total_of(torch.stack([n.double() for n in here])).float()
    divide_by = torch.maximum(divisor, least)
    score = score_loss(maps.score, label, weight, divide_by)
    presence = score.new_zeros(())
    if maps.presence is not None:
        discrete = score_label(targets, cell_oks, "discrete", settings.radius)
        presence = score_loss(maps.presence, discrete, weight, divide_by)

    predicted = output.displacements.transpose(1, 2)
    target = targets.at_cells(targets.keypoints) - targets.cells.unsqueeze(2)
    area = targets.at_cells(targets.area)
    scale = torch.ones_like(area) if settings.offset_unit == "cells" else area.clamp(min=1.0).rsqrt()
    offset = offset_loss(predicted, target, counts, scale, settings.offset_beta, num_keypoints)

    quality = score.new_zeros(())
    if maps.quality is not None:  # supervised in Omega only, as in the paper's Table 3
        error = (maps.quality - scatter_cells(targets, cell_oks)) ** 2
        quality = (error * omega).sum() / num_omega.clamp(min=1)
    keypoint = score.new_zeros(())
    if output.keypoint_scores is not None:
        position = predicted.detach() + targets.cells.unsqueeze(2)
        similarity = keypoint_similarity(position, targets.at_cells(targets.keypoints), area, sigmas)
        keypoint = keypoint_loss(output.keypoint_scores.transpose(1, 2), similarity, counts, num_keypoints)
    total = (
        settings.score_weight * (score + quality)
        + settings.presence_weight * presence
        + settings.offset_weight * offset
        + settings.keypoint_weight * keypoint
    )
    number = num_cells.clamp(min=1)
    mean_oks = (cell_oks * targets.inside).sum() / number
    if settings.oks_weight:
        total = total + settings.oks_weight * ((1 - learnt_oks) * targets.inside).sum() / number
    return Losses(total, score, offset, quality, presence, keypoint, mean_oks)


def _score_divisor(weight: Tensor, targets: Targets, settings: LossSettings) -> tuple[Tensor, Tensor]:
    """What Eq. 3's sum is divided by, in this process, and the least that it may be.

    It is the number of people, the sum of weights, or the number of cells. The number of people is at least the number
    of images: otherwise a batch with few people would weigh a background cell many times more than a full one does.
    """
    one = weight.new_ones(())
    if settings.score_divisor == "people":
        return targets.labelled.any(-1).sum(), one * targets.labelled.shape[0]
    if settings.score_divisor == "weights":
        return weight.sum(), one
    return (~targets.ignore).sum(), one
