"""The tables of a recipe, typed: what may be set, with bounds and defaults (no torch here)."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import msgspec

from calipose.calibration.maps import Setting
from calipose.errors import InputError

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
LARGEST = sys.float_info.max  # a bound, so that infinity and nan are refused
PositiveFloat = Annotated[float, msgspec.Meta(gt=0, le=LARGEST)]
NotNegative = Annotated[float, msgspec.Meta(ge=0, le=LARGEST)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
LARGEST_SIDE = 16_384  # input pixels; beyond, a mistyped number would fill the memory
Scale = Annotated[float, msgspec.Meta(gt=0, le=16)]
Finite = Annotated[float, msgspec.Meta(ge=-LARGEST, le=LARGEST)]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all tables: immutable, and an unknown field is an error."""


class BackboneSettings(Settings, frozen=True):
    """Which backbone, its first weights, and which part of it is trained.

    Attributes:
        name: a name that `calipose.model.backbones.build.build_backbone` accepts.
        weights: file or hub name of pretrained weights, or empty.
        freeze: what stays as loaded: `none`; `norm`, the batch norms (statistics and gains); `body`, also all layers
            below the feature pyramid (movenet's MobileNetV2); `early`, of these only the strides 2 to 8; or `all`, the
            whole backbone.
        lr_factor: the backbone's learning rate as a multiple of the head's.
    """

    name: str = "hrnet-w32"
    weights: str = ""
    freeze: Literal["none", "norm", "early", "body", "all"] = "none"
    lr_factor: PositiveFloat = 1.0


class LossSettings(Settings, frozen=True):
    """Targets and losses; the defaults are the paper's, or the choices explained in docs/decisions.md.

    Attributes:
        radius: gamma of Eq. 2, in cells; Omega is the open disc of that radius.
        center: the person's centre: the mean of the labelled keypoints or the middle of their box.
        background_weight: weight of background cells in Eq. 3; Omega's cells weigh 1.
        score_divisor: what Eq. 3's sum is divided by: the number of people, the sum of weights, or the number of cells.
        offset_unit: unit of Eq. 6's errors: cells, or the person's sqrt(area).
        offset_beta: error, in that unit, at which smooth L1 changes from squares to absolute values.
        score_weight: factor of the score's loss.
        offset_weight: factor of the offsets' loss.
        presence_weight: factor of the presence map's loss; low, since a sharp border costs much that nothing can mend.
        keypoint_weight: factor of the loss of the keypoint scores.
        oks_weight: factor of 1 - OKS of Omega's cells, a further loss of the offsets (not in the paper). It is what the
            evaluation measures, but it has no gradient far from the truth.
    """

    radius: PositiveFloat = 4.0
    center: Literal["keypoints", "box"] = "keypoints"
    background_weight: NotNegative = 0.1
    score_divisor: Literal["people", "weights", "cells"] = "people"
    offset_unit: Literal["cells", "sqrt_area"] = "cells"
    offset_beta: PositiveFloat = 1.0
    score_weight: NotNegative = 1.0
    offset_weight: NotNegative = 1.0
    presence_weight: NotNegative = 0.1
    keypoint_weight: NotNegative = 1.0
    oks_weight: NotNegative = 0.0


class OptimSettings(Settings, frozen=True):
    """Optimiser and schedule.

    Attributes:
        name: Adam, or AdamW (decoupled weight decay).
        lr: learning rate of the head; the backbone's is `backbone.lr_factor` times this.
        weight_decay: weight decay of all weights but norms and biases.
        schedule: `steps` multiplies the rate by 0.1 at each of `milestones`; `cosine` lets it fall to 0.
        milestones: epochs, for the schedule `steps`.
        warmup_steps: optimiser steps in which the rate rises linearly to its value.
        clip_norm: largest norm of the gradient; 0 clips nothing.
        accumulate: batches per optimiser step.
        ema: decay of the moving average of the weights, which is what is evaluated and exported; 0 for none.
        sync_norm: of several processes, batch norms take mean and variance over the batches of all: for few images a
            process.
    """

    name: Literal["adam", "adamw"] = "adam"
    lr: PositiveFloat = 5e-4
    weight_decay: NotNegative = 0.0
    schedule: Literal["steps", "cosine"] = "steps"
    milestones: tuple[int, ...] = ()
    warmup_steps: Annotated[int, msgspec.Meta(ge=0)] = 0
    clip_norm: NotNegative = 0.0
    accumulate: Positive = 1
    ema: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    sync_norm: bool = False


class ComputeSettings(Settings, frozen=True):
    """How a training is computed: what changes time and memory, and the result by rounding at most.

    These may differ when a training is resumed. What each gains: docs/scale.md. Convolutions always compute in the
    channels-last layout.

    Attributes:
        compile: compile backbone and head with `torch.compile`; needs a C++ compiler on a CPU, Triton on a GPU.
        fused: the optimiser's fused form: one pass over all weights.
        gradient_checkpointing: keep only the inputs of the backbone's blocks for the backward pass, which computes the
            rest again: less memory, more time, the same gradients.
    """

    compile: bool = False
    fused: bool = False
    gradient_checkpointing: bool = False


class AugmentSettings(Settings, frozen=True):
    """How much training images are changed; flip, rotation, scale and shift are the paper's ("Augmentation").

    Attributes:
        flip: probability of mirroring the image.
        rotation_degrees: largest rotation, either way.
        scale: smallest and largest magnification.
        shift_inp: largest shift along x and along y, in input pixels.
        fit: the side of the image that has the crop's size at scale 1: "short" as in HigherHRNet and DEKR (the rest is
            cut off), or "long", which keeps the whole image.
        brightness: strength s; the factor is sampled from 1 - s to 1 + s. The paper says "color jitter" only.
        contrast: strength, as of brightness.
        saturation: strength, as of brightness.
        hue: largest turn of the hue, either way; 1 is a full turn.
        mosaic: probability of putting four images of half the size side by side, shifted by half as much; this makes
            crowds out of images of single people (not in the paper).
    """

    flip: Share = 0.5
    rotation_degrees: NotNegative = 30.0
    scale: tuple[PositiveFloat, PositiveFloat] = (0.75, 1.5)
    shift_inp: NotNegative = 40.0
    fit: Literal["short", "long"] = "short"
    brightness: Share = 0.2
    contrast: Share = 0.2
    saturation: Share = 0.2
    hue: Annotated[float, msgspec.Meta(ge=0, le=0.5)] = 0.02
    mosaic: Share = 0.0

    def __post_init__(self) -> None:
        if self.scale[0] > self.scale[1]:
            raise InputError(f"augmentation: scale {self.scale} must be (smallest, largest)")

    @classmethod
    def none(cls, fit: Literal["short", "long"] = "short") -> AugmentSettings:
        """Settings that change nothing; the image's middle is fitted to the crop."""
        return cls(
            flip=0, rotation_degrees=0, scale=(1, 1), shift_inp=0, fit=fit, brightness=0, contrast=0,
            saturation=0, hue=0,
        )  # fmt: skip


class DataSettings(Settings, frozen=True):
    """How images are loaded.

    Attributes:
        in_memory: decode all images once and keep them (small data sets).
        workers: loading processes; 0 loads in threads of the training process.
        repeat: for each data set, in the order they are named, how often an epoch uses each of its images; empty for
            once. A fraction is a probability.
    """

    in_memory: bool = False
    workers: Annotated[int, msgspec.Meta(ge=0)] = 4
    repeat: tuple[NotNegative, ...] = ()


class PredictSettings(Settings, frozen=True):
    """Input size, decoding and pose NMS.

    Attributes:
        short_side: input pixels of the image's short side.
        max_aspect: long side / short side above which the image is reduced further.
        score_threshold: a cell with a lower raw score gives no candidate.
        max_poses: largest number of candidates per image.
        nms_threshold: OKS above which the pose of lower score is dropped.
        flip: average the maps with those of the mirrored image.
        scales: multiples of the short side at which the network runs; of each person the pose of highest score is kept.

    Example:
        >>> PredictSettings(short_side=448, scales=(0.35, 1.0)).setting.short_side
        448
    """

    short_side: Annotated[int, msgspec.Meta(ge=1, le=LARGEST_SIDE)] = 512
    max_aspect: Annotated[float, msgspec.Meta(ge=1, le=LARGEST)] = 2.5
    score_threshold: Finite = 0.05
    max_poses: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 30
    nms_threshold: Finite = 0.3
    flip: bool = False
    scales: Annotated[tuple[Scale, ...], msgspec.Meta(min_length=1, max_length=16)] = (1.0,)

    @property
    def setting(self) -> Setting:
        """The settings that a calibration depends on."""
        return Setting(short_side=self.short_side, flip=self.flip, scales=self.scales, nms_threshold=self.nms_threshold)
