"""`calipose info`: what ONNX Runtime can use here; parameters and multiply-adds of recipes."""

from __future__ import annotations

from typing import Annotated

import typer
from rich import box
from rich.table import Table

from calipose.cli.console import note, out, say
from calipose.config.recipe import load_recipe, recipe_names
from calipose.inference.backends.onnx_runtime import installed


def info_command(
    recipes: Annotated[
        list[str] | None,
        typer.Argument(metavar="RECIPE", help="Names or TOML files; by default all recipes."),
    ] = None,
) -> None:
    """Show the recipes for training, and the size of their networks; without RECIPE, also what ONNX Runtime can use.

    Multiply-adds are those of convolutions and linear layers, for one image of the recipe's size.
    They are counted as in the paper's Table 1, which calls them FLOPs.
    """
    if not recipes:
        runtime = installed()
        say(f"ONNX Runtime: {runtime}")
        if runtime.advice:
            note(runtime.advice)
    from calipose.model.count import count_network

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("recipe", no_wrap=True)
    for title in (
        "size",
        "parameters\nin 10⁶",
        "of back-\nbone",
        "multiply-\nadds, 10⁹",
        "of back-\nbone",
        "as run\nhere",
    ):
        table.add_column(title, justify="right")
    loaded = [load_recipe(name) for name in recipes or recipe_names()]
    for recipe in loaded:
        name, max_poses = recipe.backbone.name, recipe.predict.max_poses
        counts = count_network(name, recipe.size, method=recipe.method, peaks=max_poses)
        millions = (counts.parameters / 1e6, counts.backbone_parameters / 1e6)
        billions = (counts.dense_adds / 1e9, counts.backbone_adds / 1e9, counts.real_adds / 1e9)
        table.add_row(recipe.name, str(recipe.size), *(f"{x:.2f}" for x in (*millions, *billions)))
    out.print(table)
    say("multiply-adds: the head at every cell, as in the paper; as run here: only where it is needed, same result")
    for recipe in loaded:
        say(f"{recipe.name} on {recipe.backbone.name}: {recipe.description}")
