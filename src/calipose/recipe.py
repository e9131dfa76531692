"""Recipes: everything that defines a training, typed, read strictly from TOML (no torch here)."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from calipose.calibration import Setting
from calipose.data.augment import LARGEST, AugmentSettings, NotNegative, PositiveFloat
from calipose.errors import InputError
from calipose.method import Method

Positive = Annotated[int, msgspec.Meta(ge=1)]
Finite = Annotated[float, msgspec.Meta(ge=-LARGEST, le=LARGEST)]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base: immutable, unknown fields are errors."""


class BackboneSettings(_Strict, frozen=True):
    """Which backbone, its first weights, and what of it learns.

    Attributes:
        name: as `calipose.model.backbone.build_backbone` knows it.
        weights: file or hub name of pretrained weights, or empty.
        freeze: nothing; the batch norms (statistics and gains as loaded); also all that lies before a feature pyramid
            (movenet's MobileNetV2, `body`), or of that only its strides 2 to 8 (`early`); or the whole backbone.
        lr_factor: the backbone's learning rate as a multiple of the head's.
    """

    name: str = "hrnet-w32"
    weights: str = ""
    freeze: Literal["none", "norm", "early", "body", "all"] = "none"
    lr_factor: PositiveFloat = 1.0


class LossSettings(_Strict, frozen=True):
    """Targets and losses (design section 5); the defaults are the paper's, or the readings of docs/decisions.md.

    Attributes:
        radius: gamma of Eq. 2, in cells; Omega is the open disc of that radius.
        center: the person's centre is the mean of the labelled joints or the middle of their box.
        background_weight: weight of background cells in Eq. 3; Omega's cells weigh 1.
        score_divisor: Eq. 3's sum is divided by the number of people, the sum of weights, or the number of cells.
        offset_unit: Eq. 6's errors in cells, or in units of the person's sqrt(area).
        offset_beta: where smooth L1 turns from squares to absolute values, in that unit.
        score_weight, offset_weight, joint_weight: factors of the losses of score, offsets and joints' scores.
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
    joint_weight: NotNegative = 1.0
    oks_weight: NotNegative = 0.0


class OptimSettings(_Strict, frozen=True):
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


class DataSettings(_Strict, frozen=True):
    """How pictures come.

    Attributes:
        in_memory: decode all pictures once and keep them (small data sets).
        workers: loading processes; 0 loads in threads of the training process.
        repeat: how often an epoch draws the pictures of each data set, in the order they are named; empty for once.
    """

    in_memory: bool = False
    workers: Annotated[int, msgspec.Meta(ge=0)] = 4
    repeat: tuple[NotNegative, ...] = ()


class PredictSettings(_Strict, frozen=True):
    """Decoding (design section 6).

    Attributes:
        short_side: input pixels of the picture's short side.
        max_aspect: a longer picture is reduced further.
        score_threshold: cells of a raw score below are no candidates.
        max_poses: candidates per picture.
        nms_threshold: OKS above which the lesser of two poses is dropped.
        flip: average with the mirrored picture.
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


class Recipe(_Strict, frozen=True):
    """A whole training; `recipes/*.toml` in the package holds the named ones.

    Attributes:
        size: side of the square training crop in input pixels, a multiple of 32.
        batch_size: pictures per batch, those of all processes together.
        epochs: passes over the data (scheduled by epochs).
        evaluate_every: epochs between evaluations.
        precision: `fp32`, or `bf16` for automatic mixed precision.
        seed: of weights, order and augmentation; 0 or more.
        init: checkpoint to start from where neither another nor `backbone.weights` is named; "default" is the model
            that comes with Calipose.
    """

    name: str
    description: str = ""
    size: Positive = 512
    batch_size: Positive = 16
    epochs: Positive = 180
    evaluate_every: Positive = 10
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    init: str = ""
    backbone: BackboneSettings = BackboneSettings()
    method: Method = Method()
    loss: LossSettings = LossSettings()
    optim: OptimSettings = OptimSettings()
    augment: AugmentSettings = AugmentSettings()
    data: DataSettings = DataSettings()
    predict: PredictSettings = PredictSettings()

    def __post_init__(self) -> None:
        if self.size % 32:
            raise InputError(f"recipe '{self.name}': size {self.size} is not a multiple of 32")

    def to_dict(self) -> dict[str, Any]:
        """Plain tables, as a recipe file holds them."""
        return dict(msgspec.to_builtins(self))

    @classmethod
    def from_dict(cls, entries: object, source: str = "recipe") -> Recipe:
        """Recipe from plain tables; `source` is named in errors.

        Raises:
            InputError: a wrong value, or an unknown key (with the nearest right one).
        """
        try:
            return msgspec.convert(entries, cls)
        except msgspec.ValidationError as error:
            raise InputError(f"{source}: {_explain(str(error))}") from None


def recipe_names() -> list[str]:
    """Names of the recipes that the package holds."""
    files = resources.files("calipose").joinpath("recipes").iterdir()
    return sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml"))


def load_recipe(source: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Recipe:
    """Recipe by name or from a TOML file, with `key.key=value` overrides (values as TOML writes them).

    Raises:
        InputError: no such recipe or file, not TOML, unknown key, wrong value.
    """
    path = Path(source)
    if path.suffix == ".toml":
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"recipe {path}: {getattr(error, 'strerror', error)}") from None
    elif str(source) in recipe_names():
        text = resources.files("calipose").joinpath("recipes", f"{source}.toml").read_text(encoding="utf-8")
    else:
        raise InputError(f"no recipe '{source}'{_nearest(str(source), recipe_names())}; a file's name ends in .toml")
    try:
        entries = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"recipe {source}: {error}") from None
    for override in overrides:
        _override(entries, override)
    return Recipe.from_dict(entries, f"recipe {source}")


def _override(entries: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not all(part.strip() for part in key.split(".")):
        raise InputError(f"'{override}': write key=value, for example optim.lr=1e-3")
    try:
        parsed = tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()  # a bare word is a string
    *tables, last = key.strip().split(".")
    for table in tables:
        entries = entries.setdefault(table, {})
        if not isinstance(entries, dict):
            raise InputError(f"'{override}': '{table}' is no table")
    entries[last] = parsed


def _explain(message: str) -> str:
    """The message of msgspec, with the nearest right name added where a field is unknown."""
    unknown = re.search(r"unknown field `([^`]*)`(?: - at `\$\.([\w.]+)`)?", message)
    if not unknown:
        return message
    name, table, keys = unknown[1], unknown[2] or "", list(_keys(Recipe))
    beside = [key for key in keys if key.rpartition(".")[0] == table]
    return f"unknown key '{name}'{_nearest(name, beside, keys)}"


def _keys(struct: type[msgspec.Struct], table: str = "") -> Iterator[str]:
    """The keys of a table and of the tables in it, as overrides write them."""
    for field in msgspec.structs.fields(struct):
        yield table + field.name
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from _keys(field.type, f"{table}{field.name}.")


def _nearest(name: str, choices: list[str], otherwise: list[str] | tuple[str, ...] = ()) -> str:
    """Advice: the choice most like a name, else one of `otherwise`, else all choices."""

    def likeness(choice: str) -> float:
        last = choice.rpartition(".")[2]
        return (name in last) + difflib.SequenceMatcher(None, name, last).ratio()

    for group in (choices, otherwise):
        best = max(group, key=likeness, default="")
        if likeness(best) >= 0.6:
            return f"; did you mean '{best}'?"
    return f"; there are {', '.join(sorted(choices))}"
