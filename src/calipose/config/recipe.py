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

from calipose.config.method import Method
from calipose.config.settings import (
    AugmentSettings,
    BackboneSettings,
    DataSettings,
    LossSettings,
    OptimSettings,
    Positive,
    PredictSettings,
    Settings,
)
from calipose.errors import InputError


class Recipe(Settings, frozen=True):
    """A whole training; `calipose/config/*.toml` in the package holds the named ones.

    Attributes:
        size: side of the square training crop in input pixels, a multiple of 32.
        batch_size: images per batch, those of all processes together.
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
    files = resources.files("calipose.config").iterdir()
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
        text = resources.files("calipose.config").joinpath(f"{source}.toml").read_text(encoding="utf-8")
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
