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
Finite = Annotated[float, msgspec.Meta(ge=-LARGEST, le=LARGEST)]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base: immutable, unknown fields are errors."""


class BackboneSettings(Settings, frozen=True):
    """Which backbone, its first weights, and what of it learns.

    Attributes:
        name: as `calipose.model.backbones.build.build_backbone` knows it.
        weights: file or hub name of pretrained weights, or empty.
        freeze: nothing; the batch norms (statistics and gains as loaded); also all that lies before a feature pyramid
            (movenet's MobileNetV2, `body`), or of that only its strides 2 to 8 (`early`); or the whole backbone.
        lr_factor: the backbone's learning rate as a multiple of the head's.
    """

    name: str = "hrnet-w32"
    weights: str = ""
    freeze: Literal["none", "norm", "early", "body", "all"] = "none"
    lr_factor: PositiveFloat = 1.0


class LossSettings(Settings, frozen=True):
    """Targets and losses (docs/paper.md); the defaults are the paper's, or the readings of docs/decisions.md.

    Attributes:
        radius: gamma of Eq. 2, in cells; Omega is the open disc of that radius.
        center: the person's centre is the mean of the labelled keypoints or the middle of their box.
        background_weight: weight of background cells in Eq. 3; Omega's cells weigh 1.
        score_divisor: Eq. 3's sum is divided by the number of people, the sum of weights, or the number of cells.
        offset_unit: Eq. 6's errors in cells, or in units of the person's sqrt(area).
        offset_beta: where smooth L1 turns from squares to absolute values, in that unit.
        score_weight, offset_weight, keypoint_weight: factors of the losses of score, offsets and joints' scores.
        oks_weight: factor of 1 - OKS of Omega's cells as a further loss of the offsets (not in the paper): what the
            evaluation asks for, but without a gradient far from the truth.
    """

    radius: PositiveFloat = 4.0
    center: Literal["keypoints", "box"] = "keypoints"
    background_weight: NotNegative = 0.1
    score_divisor: Literal["people", "weights", "cells"] = "people"
    offset_unit: Literal["cells", "sqrt_area"] = "cells"
    offset_beta: PositiveFloat = 1.0
    score_weight: NotNegative = 1.0
    offset_weight: NotNegative = 1.0
    keypoint_weight: NotNegative = 1.0
    oks_weight: NotNegative = 0.0


class OptimSettings(Settings, frozen=True):
    """Optimiser and schedule.

    Attributes:
        name: Adam, or AdamW (decoupled weight decay).
        lr, weight_decay: of the head; the backbone's rate is `backbone.lr_factor` times that.
        schedule: `steps` multiplies the rate by 0.1 at the given `milestones` (epochs); `cosine` falls to 0.
        warmup_steps: optimiser steps in which the rate rises linearly to its value.
        clip_norm: largest norm of the gradient; 0 clips nothing.
        accumulate: batches per optimiser step.
        ema: decay of the moving average of the weights that is evaluated and exported; 0 for none.
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


class AugmentSettings(Settings, frozen=True):
    """How much images are altered; flip, rotation, scale and shift are the paper's ("Augmentation").

    `fit` says which side of the image has the crop's size at scale 1: "short" as in HigherHRNet and DEKR
    (the rest is cut off), "long" keeps all. `shift_inp` is in input pixels. Jitter: brightness, contrast
    and saturation are multiplied by a factor of 1 +- strength; hue turns by +- strength turns; the paper says
    "color jitter" only. `mosaic` is the probability of putting four half-size images side by side, shifted by
    half as much, which makes crowds out of images of single people (not in the paper).
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
        """Nothing is altered; the image's middle is fitted to the crop."""
        return cls(
            flip=0, rotation_degrees=0, scale=(1, 1), shift_inp=0, fit=fit, brightness=0, contrast=0,
            saturation=0, hue=0,
        )  # fmt: skip


class DataSettings(Settings, frozen=True):
    """How images come.

    Attributes:
        in_memory: decode all images once and keep them (small data sets).
        workers: loading processes; 0 loads in threads of the training process.
        repeat: how often an epoch draws the images of each data set, in the order they are named; empty for once.
    """

    in_memory: bool = False
    workers: Annotated[int, msgspec.Meta(ge=0)] = 4
    repeat: tuple[NotNegative, ...] = ()


class PredictSettings(Settings, frozen=True):
    """Decoding: from the network's maps to poses.

    Attributes:
        short_side: input pixels of the image's short side.
        max_aspect: a longer image is reduced further.
        score_threshold: cells of a raw score below are no candidates.
        max_poses: candidates per image.
        nms_threshold: OKS above which the lesser of two poses is dropped.
        flip: average with the mirrored image.
        scales: multiples of the short side; of the poses of several the best of each person is kept.
    """

    short_side: Positive = 512
    max_aspect: Annotated[float, msgspec.Meta(ge=1, le=LARGEST)] = 2.5
    score_threshold: Finite = 0.05
    max_poses: Positive = 30
    nms_threshold: Finite = 0.3
    flip: bool = False
    scales: Annotated[tuple[PositiveFloat, ...], msgspec.Meta(min_length=1)] = (1.0,)

    @property
    def setting(self) -> Setting:
        """What a calibration holds for."""
        return Setting(short_side=self.short_side, flip=self.flip, scales=self.scales, nms_threshold=self.nms_threshold)
