"""Recipes: everything that defines a training, typed, read strictly from TOML (no torch here)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from calipose.config.method import Method
from calipose.config.settings import (
    LARGEST_SIDE,
    AugmentSettings,
    BackboneSettings,
    ComputeSettings,
    DataSettings,
    LossSettings,
    OptimSettings,
    Positive,
    PredictSettings,
    Settings,
)
from calipose.errors import InputError
from calipose.plain_data import convert, parse_toml


class Recipe(Settings, frozen=True):
    """All settings of a training; the files `calipose/config/*.toml` of the package are the named recipes.

    Attributes:
        name: name of the recipe.
        description: one line about it.
        size: side of the square training crop in input pixels, a multiple of 32.
        batch_size: images per batch, over all processes together.
        epochs: passes over the data.
        evaluate_every: epochs between evaluations.
        precision: `fp32`; `bf16` for automatic mixed precision; or `auto`: bf16 where the hardware computes in it, else
            fp32 (a CPU that emulates bf16 is several times slower with it).
        seed: seed of weights, order and augmentation; 0 or more.
        init: checkpoint to start from, unless `--init` or `backbone.weights` names another start; "default" is the
            model in the package.
        backbone: which backbone, and its first weights.
        method: switches of the paper's tables.
        loss: targets and losses.
        optim: optimiser and schedule.
        compute: what changes time and memory of training only.
        augment: augmentation.
        data: how images are loaded.
        predict: settings of prediction, which the trained checkpoint keeps.

    Raises:
        InputError: `size` is not a multiple of 32.

    Example:
        >>> recipe = load_recipe("synthetic", ["epochs=2", "optim.lr=1e-3"])
        >>> recipe.epochs, recipe.optim.lr
        (2, 0.001)
    """

    name: str
    description: str = ""
    size: Annotated[int, msgspec.Meta(ge=32, le=LARGEST_SIDE)] = 512
    batch_size: Positive = 16
    epochs: Positive = 180
    evaluate_every: Positive = 10
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    init: str = ""
    backbone: BackboneSettings = BackboneSettings()
    method: Method = Method()
    loss: LossSettings = LossSettings()
    optim: OptimSettings = OptimSettings()
    compute: ComputeSettings = ComputeSettings()
    augment: AugmentSettings = AugmentSettings()
    data: DataSettings = DataSettings()
    predict: PredictSettings = PredictSettings()

    def __post_init__(self) -> None:
        if self.size % 32:
            raise InputError(f"recipe '{self.name}': size {self.size} is not a multiple of 32")

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain data.

        Returns:
            The recipe as plain tables, as a recipe file holds them.
        """
        return dict(msgspec.to_builtins(self))

    @classmethod
    def from_dict(cls, entries: object, source: str = "recipe") -> Recipe:
        """Make a recipe from plain tables.

        Args:
            entries: what `to_dict` gives.
            source: what messages call the entries.

        Returns:
            The recipe; what the entries leave out has its default.

        Raises:
            InputError: A value is wrong, or a key is unknown; the message suggests the most similar key.
        """
        try:
            return convert(entries, cls, source)
        except InputError as error:
            raise InputError(_explain(str(error))) from None


def recipe_names() -> list[str]:
    """Names of the recipes in the package.

    Returns:
        The names, sorted, as `load_recipe` takes them.
    """
    files = resources.files("calipose.config").iterdir()
    return sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml"))


def load_recipe(source: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Recipe:
    """Load a recipe by its name or from a TOML file.

    Args:
        source: name of a recipe in the package, or path of a file that ends in .toml.
        overrides: changes as `key.key=value`, with values as TOML writes them.

    Returns:
        The recipe with its changes.

    Raises:
        InputError: there is no such recipe or file, it is not TOML, a key is unknown, or a value is wrong.
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
        advice = _nearest(str(source), recipe_names())
        raise InputError(f"no recipe '{source}'{advice}; the name of a recipe file ends in .toml")
    entries = parse_toml(text, f"recipe {source}")
    for override in overrides:
        _override(entries, override)
    return Recipe.from_dict(entries, f"recipe {source}")


def _override(entries: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not all(part.strip() for part in key.split(".")):
        raise InputError(f"'{override}': write key=value, for example optim.lr=1e-3")
    try:
        parsed = parse_toml(f"v = {value}", override)["v"]
    except InputError:
        parsed = value.strip()  # a bare word is a string
    *tables, last = key.strip().split(".")
    for table in tables:
        entries = entries.setdefault(table, {})
        if not isinstance(entries, dict):
            raise InputError(f"'{override}': '{table}' is a value, not a table of settings")
    entries[last] = parsed


def _explain(message: str) -> str:
    """The message of msgspec; where a field is unknown, the most similar name is added."""
    unknown = re.search(r"[Oo]bject contains unknown field `([^`]*)`(?: - at `\$\.([\w.]+)`)?", message)
    if not unknown:
        return message
    name, table, keys = unknown[1], unknown[2] or "", list(_keys(Recipe))
    beside = [key for key in keys if key.rpartition(".")[0] == table]
    return f"{message[: unknown.start()]}unknown key '{name}'{_nearest(name, beside, keys)}"


def _keys(struct: type[msgspec.Struct], table: str = "") -> Iterator[str]:
    """The keys of a table and of the tables in it, as overrides write them."""
    for field in msgspec.structs.fields(struct):
        yield table + field.name
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from _keys(field.type, f"{table}{field.name}.")


def _nearest(name: str, choices: list[str], otherwise: list[str] | tuple[str, ...] = ()) -> str:
    """Suggest the choice most similar to a name, or one of `otherwise`, or else list all choices."""

    def likeness(choice: str) -> float:
        last = choice.rpartition(".")[2]
        return (name in last) + difflib.SequenceMatcher(None, name, last).ratio()

    for group in (choices, otherwise):
        best = max(group, key=likeness, default="")
        if likeness(best) >= 0.6:
            return f"; did you mean '{best}'?"
    return f"; there are {', '.join(sorted(choices))}"
