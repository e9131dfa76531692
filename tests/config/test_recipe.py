"""Recipes are read strictly; every packaged one builds its network."""

from pathlib import Path

import pytest
import torch

from calipose.config.recipe import Recipe, load_recipe, recipe_names
from calipose.errors import InputError
from calipose.model.network import Network


def test_the_packaged_recipes() -> None:
    assert {"coco-w32-512", "coco-w48-640", "synthetic", "photo"} <= set(recipe_names())


@pytest.mark.parametrize("name", recipe_names())
def test_every_packaged_recipe_builds(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    with torch.device("meta"):  # no memory for weights, no time for numbers
        network = Network(recipe.backbone.name, 17, recipe.method)
    assert network.head.score.in_channels == 17 * recipe.method.instance_width


@pytest.mark.parametrize(
    ("name", "backbone", "size"), [("coco-w32-512", "hrnet-w32", 512), ("coco-w48-640", "hrnet-w48", 640)]
)
def test_the_paper_s_settings(name: str, backbone: str, size: int) -> None:
    recipe = load_recipe(name)
    assert (recipe.backbone.name, recipe.size, recipe.predict.short_side) == (backbone, size, size)
    method, loss, augment = recipe.method, recipe.loss, recipe.augment
    assert (method.label, method.kqe, method.semantic_points, method.pose_query) == ("cir", True, 9, "query")
    assert (loss.radius, loss.background_weight, loss.score_weight, loss.offset_weight) == (4.0, 0.1, 1.0, 1.0)
    assert (augment.rotation_degrees, augment.scale, augment.shift_inp, augment.flip) == (30.0, (0.75, 1.5), 40.0, 0.5)


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("epochs=20", ("epochs",), 20),
        ("optim.lr=1e-3", ("optim", "lr"), 1e-3),
        ("optim.lr = 1", ("optim", "lr"), 1.0),
        ("optim.schedule=cosine", ("optim", "schedule"), "cosine"),  # a bare word is a string
        ('optim.schedule="cosine"', ("optim", "schedule"), "cosine"),
        ("optim.milestones=[3, 5]", ("optim", "milestones"), (3, 5)),
        ("augment.scale=[0.5,2]", ("augment", "scale"), (0.5, 2.0)),
        ("data.in_memory=true", ("data", "in_memory"), True),
        ("backbone.weights=a b/c=d.pth", ("backbone", "weights"), "a b/c=d.pth"),
        ("description=", ("description",), ""),
    ],
)
def test_overrides(override: str, path: tuple[str, ...], value: object) -> None:
    found: object = load_recipe("synthetic", [override])
    for name in path:
        found = getattr(found, name)
    assert found == value
    assert type(found) is type(value)


def test_the_last_override_wins() -> None:
    assert load_recipe("synthetic", ["epochs=2", "epochs=3"]).epochs == 3


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["epoch=2"], "unknown key 'epoch'; did you mean 'epochs'"),
        (["optim.learning_rate=2"], "unknown key 'learning_rate'; there are .*optim.lr"),
        (["optim.mile_stones=[2]"], "unknown key 'mile_stones'; did you mean 'optim.milestones'"),
        (["augment.rotation=3"], "unknown key 'rotation'; did you mean 'augment.rotation_degrees'"),
        (["method.semantic_point=3"], "unknown key 'semantic_point'; did you mean 'method.semantic_points'"),
        (["optimizer.lr=3"], "unknown key 'optimizer'; did you mean 'optim'"),
        (["epochs=many"], r"Expected `int`, got `str`.*epochs"),
        (["epochs=0"], r"Expected `int` >= 1.*epochs"),
        (["epochs=2.5"], r"Expected `int`, got `float`.*epochs"),
        (["optim.lr=-1"], r"Expected `float` > 0.*optim\.lr"),
        (["lr=1e-3"], "unknown key 'lr'; did you mean 'optim.lr'"),
        (["loss.clip_norm=1"], "unknown key 'clip_norm'; did you mean 'optim.clip_norm'"),
        (["optim.lr=nan"], r"Expected `float` > 0.*optim\.lr"),
        (["optim.schedule=linear"], r"Invalid enum value 'linear'.*optim\.schedule"),
        (["optim.ema=1"], r"optim\.ema"),
        (["augment.scale=[2, 1]"], r"smallest, largest.*augment"),
        (["augment.flip=1.5"], r"<= 1.*augment\.flip"),
        (["size=500"], "size 500 is not a multiple of 32"),
        (["method.label=discrete", "method.pose_query=query", "method.kqe=false"], "needs kqe = true"),
        (["method=3"], r"Expected `object`, got `int`.*method"),
        (["seed=-1"], r"Expected `int` >= 0.*seed"),
        (["predict.score_threshold=nan"], r"score_threshold"),
        (["predict.score_threshold=-inf"], r"score_threshold"),
        (["predict.max_aspect=0.9"], r">= 1.*max_aspect"),
        (["predict.max_aspect=inf"], r"max_aspect"),
        (["optim.lr=inf"], r"<= 1\.79.*optim\.lr"),
        (["optim.weight_decay=inf"], r"weight_decay"),
        (["augment.scale=[1, inf]"], r"augment\.scale"),
        (["epochs"], "'epochs': write key=value"),
        (["epochs.first=3"], "'epochs' is a value, not a table"),
        (["=3"], "'=3': write key=value"),
        (["optim.=3"], "'optim.=3': write key=value"),
    ],
)  # fmt: skip
def test_wrong_overrides(overrides: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_recipe("synthetic", overrides)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name = ", "own.toml: "),
        ("epochs = 3", "own.toml: .*required field `name`"),
        ('name = "own"\nsiez = 64', "own.toml: unknown key 'siez'; did you mean 'size'"),
        ('name = "own"\n[predict]\nflips = true', "own.toml: unknown key 'flips'; did you mean 'predict.flip'"),
        (b"name = '\xff'", "own.toml: "),
    ],
)
def test_wrong_files(tmp_path: Path, text: str | bytes, words: str) -> None:
    path = tmp_path / "own.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=words):
        load_recipe(path)


def test_files_and_names(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('name = "own"\nsize = 64\n[optim]\nmilestones = [1, 2]\n')
    recipe = load_recipe(str(path), ["optim.lr=1"])
    assert (recipe.name, recipe.size, recipe.optim.milestones, recipe.optim.lr) == ("own", 64, (1, 2), 1.0)
    with pytest.raises(InputError, match=r"missing\.toml: No such file"):
        load_recipe(tmp_path / "missing.toml")
    with pytest.raises(InputError, match="no recipe 'coco-w32'; did you mean 'coco-w32-512'"):
        load_recipe("coco-w32")
    with pytest.raises(InputError, match=r"no recipe 'zzz'; there are coco-w32-512, .*synthetic"):
        load_recipe("zzz")
