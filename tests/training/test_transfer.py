"""Starting from a checkpoint of the same skeleton or another: what belongs to a keypoint goes by its name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from calipose.cli import app
from calipose.config.method import Method, valid_methods
from calipose.config.recipe import load_recipe
from calipose.data.coco import read_coco
from calipose.data.synthetic.scene import EASY, write_synthetic_data
from calipose.errors import InputError
from calipose.inference.predictor import Predictor
from calipose.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from calipose.model.head import Head
from calipose.model.network import Network, Output
from calipose.skeleton import COCO_17, Skeleton
from calipose.training.loop import Trainer
from calipose.training.transfer import keypoint_axis, start_from, weights_for

NAMES = COCO_17.keypoints


def skeleton(*keypoints: str) -> Skeleton:
    return Skeleton("own", keypoints, (), (), (0.1,) * len(keypoints))


def test_exactly_the_layers_that_grow_with_the_skeleton_belong_to_keypoints() -> None:
    methods = [
        *valid_methods((0, 2)),
        Method(keypoint_scores=True),
        Method(kqe=False, pose_query="none", keypoint_scores=True),
    ]
    for full in methods:
        method = msgspec.structs.replace(full, keypoint_width=2, instance_width=3)
        few, many = (Head((2, 2, 2, 2), k, method).state_dict() for k in (3, 5))
        assert few.keys() == many.keys()
        for name, value in few.items():
            axis = keypoint_axis(f"head.{name}", method)
            grown = [i for i, (a, b) in enumerate(zip(value.shape, many[name].shape, strict=True)) if a != b]
            assert grown == ([] if axis is None else [axis]), (name, method)
            assert axis is None or value.shape[axis] * 5 == many[name].shape[axis] * 3
    assert keypoint_axis("backbone.score.weight", Method()) is None


@pytest.mark.parametrize(
    "keypoints",
    [
        ("left_wrist", "nose", "right_knee"),  # fewer, in another order
        ("tail", "left_wrist", "hoof", "nose"),
        (*NAMES[:5], "neck", *NAMES[5:]),  # one more, in the middle
        (*NAMES[:16], "left_toe"),  # as many, but not the same
        tuple(reversed(NAMES)),
        ("Left_Wrist", "left wrist"),  # other names
        ("tail",),
    ],
)
def test_blocks_of_keypoints_go_by_name(tiny_checkpoint: Checkpoint, keypoints: tuple[str, ...]) -> None:
    moved = weights_for(tiny_checkpoint, skeleton(*keypoints))
    assert moved.keys() == tiny_checkpoint.weights.keys()
    for name, old in tiny_checkpoint.weights.items():
        axis = keypoint_axis(name, tiny_checkpoint.recipe.method)
        if axis is None:
            assert torch.equal(moved[name], old), name
            continue
        level = 17 / len(keypoints) if name == "head.score.weight" else 1
        blocks, new = (v.chunk(k, axis) for v, k in ((old, 17), (moved[name], len(keypoints))))
        mean = torch.stack(blocks).mean(0)
        for keypoint, block in zip(keypoints, new, strict=True):
            want = blocks[NAMES.index(keypoint)] if keypoint in NAMES else mean
            torch.testing.assert_close(block, level * want)


def outputs(checkpoint: Checkpoint, weights: dict[str, Tensor], keypoints: int) -> Output:
    network = Network(checkpoint.recipe.backbone.name, keypoints, checkpoint.recipe.method).eval()
    network.load_state_dict(weights)
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (2, 64, 64, 3), generator=generator, dtype=torch.uint8)
    with torch.no_grad():
        result: Output = network(images, torch.randint(0, 16, (2, 7, 2), generator=generator))
    return result


@pytest.mark.parametrize("keypoints", [tuple(reversed(NAMES)), ("tail", "left_wrist", "nose"), NAMES])
def test_a_known_keypoint_is_predicted_where_it_was(tiny_checkpoint: Checkpoint, keypoints: tuple[str, ...]) -> None:
    before = outputs(tiny_checkpoint, tiny_checkpoint.weights, 17)
    after = outputs(tiny_checkpoint, weights_for(tiny_checkpoint, skeleton(*keypoints)), len(keypoints))
    for i, keypoint in enumerate(keypoints):
        if keypoint in NAMES:
            torch.testing.assert_close(after.displacements[:, i], before.displacements[:, NAMES.index(keypoint)])
    if len(keypoints) == 17:
        torch.testing.assert_close(after.maps.score, before.maps.score)


def test_half_precision_is_no_obstacle(tiny_checkpoint: Checkpoint) -> None:
    half = replace(
        tiny_checkpoint, weights={n: v.half() if v.dim() == 4 else v for n, v in tiny_checkpoint.weights.items()}
    )
    network = Network("mobilenetv2-0.25", 1, tiny_checkpoint.recipe.method)
    network.load_state_dict(weights_for(half, skeleton("nose")))
    assert {p.dtype for p in network.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("keypoints", "said"),
    [
        (NAMES, "{}: all its weights"),
        (("nose", "left_ear"), "{}: backbone, instance features and 2 of 2 keypoints, by their names"),
        (
            ("neck", "nose", "tail"),
            "{}: backbone, instance features and 1 of 3 keypoints; new, from the mean of all: neck, tail",
        ),
    ],
)
def test_one_line_says_what_was_taken(
    tiny_checkpoint: Checkpoint, tmp_path: Path, keypoints: tuple[str, ...], said: str
) -> None:
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(path, tiny_checkpoint)
    network = Network("mobilenetv2-0.25", len(keypoints), tiny_checkpoint.recipe.method)
    assert start_from(network, path, tiny_checkpoint.recipe, skeleton(*keypoints)) == said.format(path)


@pytest.mark.parametrize("keypoints", [NAMES, ("nose", "tail")])
@pytest.mark.parametrize(
    ("change", "advice"),
    [
        (
            {"method": {"keypoint_width": 8}},
            "The recipe has method.keypoint_width 8 (there 4): add --set method.keypoint_width=4",
        ),
        ({"method": {"keypoint_scores": True}}, "add --set method.keypoint_scores=false"),
        (
            {"method": {"pose_query": "none", "instance_width": 4}},
            "add --set method.pose_query=query --set method.instance_width=8",
        ),
        ({"backbone": {"name": "mobilenetv2-0.1"}}, "backbone.name mobilenetv2-0.1 (there mobilenetv2-0.25)"),
    ],
)  # fmt: skip
def test_another_network_is_refused_with_what_to_change(
    tiny_checkpoint: Checkpoint, tmp_path: Path, keypoints: tuple[str, ...], change: dict, advice: str
) -> None:
    save_checkpoint(tmp_path / "tiny", tiny_checkpoint)
    tables = {
        name: msgspec.structs.replace(getattr(tiny_checkpoint.recipe, name), **new) for name, new in change.items()
    }
    recipe = msgspec.structs.replace(tiny_checkpoint.recipe, **tables)
    network = Network(recipe.backbone.name, len(keypoints), recipe.method)
    with pytest.raises(InputError, match="tiny: weights of another network") as raised:
        start_from(network, tmp_path / "tiny", recipe, skeleton(*keypoints))
    assert advice in str(raised.value)


STICK = skeleton("right_wrist", "neck", "nose", "left_wrist")


@pytest.fixture(scope="module")
def stick_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images of synthetic people of whom four points are annotated; one of them has a name of its own."""
    annotations = write_synthetic_data(tmp_path_factory.mktemp("stick") / "data", 8, EASY, (80, 64), seed=3)
    content = json.loads(annotations.read_text())
    places = [NAMES.index({"neck": "left_shoulder"}.get(name, name)) for name in STICK.keypoints]
    content["categories"][0] |= {"keypoints": list(STICK.keypoints), "skeleton": []}
    for person in content["annotations"]:
        numbers = [person["keypoints"][3 * place + i] for place in places for i in range(3)]
        person |= {"keypoints": numbers, "num_keypoints": sum(v > 0 for v in numbers[2::3])}
    annotations.write_text(json.dumps(content))
    (annotations.parent / "skeleton.json").write_text(json.dumps(STICK.to_dict()))
    return annotations.parent


def test_one_command_tunes_a_checkpoint_to_another_skeleton(
    tiny_checkpoint: Checkpoint, stick_data: Path, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path / "tiny.safetensors", tiny_checkpoint)
    recipe = tmp_path / "own.toml"
    recipe.write_text(
        'name = "own"\nsize = 64\nbatch_size = 4\nepochs = 1\nbackbone.name = "mobilenetv2-0.25"\n'
        "method = {keypoint_width = 4, instance_width = 8, semantic_points = 3}\noptim.lr = 1e-9\n"
        "data = {in_memory = true, workers = 0}\npredict = {short_side = 64, score_threshold = -1}\n"
    )
    command = ["train", recipe, "--data", f"{stick_data / 'annotations.json'}={stick_data / 'images'}", "--out"]
    command += [tmp_path / "run", "--init", tmp_path / "tiny.safetensors", "--skeleton", stick_data / "skeleton.json"]
    done = CliRunner().invoke(app, [str(word) for word in command])
    assert done.exit_code == 0, done.output
    assert "3 of 4 keypoints; new, from the mean of all: neck" in done.output
    trained = load_checkpoint(tmp_path / "run")
    assert trained.skeleton == STICK
    for name, value in weights_for(tiny_checkpoint, STICK).items():  # next to nothing was learnt
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            torch.testing.assert_close(trained.weights[name], value, atol=1e-6, rtol=1e-5)
    poses = Predictor(tmp_path / "run").predict(next((stick_data / "images").iterdir()))
    assert poses.keypoints_img.shape[1:] == (4, 2)
    assert len(poses) > 0


@pytest.mark.parametrize("own", [True, False])
def test_the_recipe_finetune_fits_the_default_model(stick_data: Path, tmp_path: Path, own: bool) -> None:
    recipe = load_recipe("finetune", ["size=64", "batch_size=4"])
    if own:
        data = read_coco(stick_data / "annotations.json", stick_data / "images", STICK)
    else:
        annotations = write_synthetic_data(tmp_path / "people", 4, EASY, (64, 64), seed=1)
        data = read_coco(annotations, annotations.parent / "images")
    trainer = Trainer(recipe, data, tmp_path / "run", initial="default")
    (note,) = trainer.notes
    assert note.startswith("default: backbone, instance features and 3 of 4" if own else "default: all its weights")
    assert recipe.predict.short_side == load_checkpoint("default").recipe.predict.short_side


def test_a_keypoint_that_is_said_to_be_the_same_takes_its_weights(tiny_checkpoint: Checkpoint) -> None:
    moved = weights_for(tiny_checkpoint, skeleton("head", "left_hip"), {"head": "nose"})
    by_name = weights_for(tiny_checkpoint, skeleton("nose", "left_hip"))
    assert all(torch.equal(moved[name], value) for name, value in by_name.items())


@pytest.mark.parametrize(
    ("same_as", "message"),
    [({"tail": "nose"}, "has no keypoint 'tail'"), ({"head": "horn"}, "has no keypoint 'horn'")],
)
def test_a_keypoint_that_is_not_there_is_named(
    same_as: dict[str, str], message: str, tiny_checkpoint: Checkpoint
) -> None:
    with pytest.raises(InputError, match=message):
        weights_for(tiny_checkpoint, skeleton("head", "left_hip"), same_as)
