"""The command line: the whole way on tiny synthetic images, and what it says to bad input."""

import importlib
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import calipose
from calipose.cli import app
from calipose.cli.model import open_predictor
from calipose.config.recipe import load_recipe
from calipose.data.synthetic.scene import EASY, write_synthetic_data
from calipose.io.images import read_image

TINY = """
name = "tiny"
size = 64
batch_size = 4
epochs = 2
evaluate_every = 1
[backbone]
name = "mobilenetv2-0.1"
[method]
keypoint_width = 4
instance_width = 8
semantic_points = 2
[data]
in_memory = true
workers = 0
[predict]
short_side = 64
score_threshold = -1.0
max_poses = 3
"""

COMMANDS = (
    "train", "evaluate", "calibrate", "compare", "report", "submit", "predict", "export", "info", "synthesize", "demo",
    "train-demo",
)  # fmt: skip


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def words(result: Result) -> str:
    """All that was printed, without frames and line breaks."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", result.output).split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe, a data set, and a run that was trained on it, validated with it, by the command line."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "tiny.toml").write_text(TINY)
    done = call("synthesize", folder / "people", "--images", 6, "--size", "64x48", "--seed", 3)
    assert done.exit_code == 0, done.output
    people = folder / "people"
    done = call("train", folder / "tiny.toml", "--data", people, "--out", folder / "run", "--validate", people)
    assert done.exit_code == 0, done.output
    (folder / "train.txt").write_text(words(done))
    return folder


def test_training_says_what_it_does_and_leaves_its_files(folder: Path) -> None:
    said = (folder / "train.txt").read_text()
    for part in ("recipe tiny", "M parameters", "weights fresh", "6 images", "2 epochs", "epoch 2: AP", "trained in"):
        assert part in said
    run = folder / "run"
    assert {"best.safetensors", "last.safetensors", "state.safetensors"} <= {file.name for file in run.iterdir()}
    sheet = read_image(run / "samples" / "epoch_002.jpg")
    assert sheet.shape[1] > 4 * 300  # four images in a row
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in history if "val_ap" in line] == [1, 2]


def test_a_training_goes_on(folder: Path, tmp_path: Path) -> None:
    arguments = ("train", folder / "tiny.toml", "--data", folder / "people", "--out", tmp_path / "run", "-q")
    assert call(*arguments, "--set", "epochs=1", "--init", folder / "run").exit_code == 0
    again = call(*arguments)
    assert again.exit_code == 1
    assert "--resume" in words(again)
    resumed = call(*arguments, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert "recipe" not in words(resumed)  # quiet


def test_evaluate_shows_figures_and_writes_results_unrounded(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "results.json"
    done = call("evaluate", folder / "run", "--data", folder / "people", "--out", out, "--flip", "--bootstrap", 5)
    assert done.exit_code == 0, done.output
    for part in ("AP50", "AR", "images", "flip", "yes", "64 px", "Spearman"):
        assert part in words(done)
    results = json.loads(out.read_text())
    assert {entry["image_id"] for entry in results} <= set(range(1, 7))
    assert any(len(str(entry["keypoints"][0])) > 12 for entry in results)


@pytest.mark.parametrize(("min_score", "threshold"), [(0.3, -1.0), (-2.0, -2.0)])  # the recipe's is -1
def test_a_lower_min_score_lowers_the_threshold(folder: Path, min_score: float, threshold: float) -> None:
    assert open_predictor(folder / "run", "cpu", False, None, min_score).settings.score_threshold == threshold


def test_predict_draws_queries(folder: Path, tmp_path: Path) -> None:
    images, out = folder / "people" / "images", tmp_path / "drawn"
    options = ("--min-score", 0, "--threads", 1, "--save", "coco")
    for more in ((), ("--queries",), ("--batch-size", 4), ("--flip", "--short-side", 96, "--device", "cpu")):
        done = call("predict", images, "--model", folder / "run", "--out", out, *options, *more)
        assert done.exit_code == 0, done.output
    assert {file.name for file in out.iterdir()} == {f"{i:06d}.jpg" for i in range(1, 7)} | {
        "poses.jsonl", "results.json"
    }  # fmt: skip
    assert read_image(out / "000001.jpg").shape == (48, 64, 3)


def test_queries_need_kqe(folder: Path, tmp_path: Path) -> None:
    people, run = folder / "people", tmp_path / "run"
    plain = ("--set", "method.kqe=false", "--set", "method.pose_query=none", "--set", "epochs=1", "-q")
    assert call("train", folder / "tiny.toml", "--data", people, "--out", run, *plain).exit_code == 0
    done = call("predict", people / "images", "--model", run, "--out", tmp_path / "d", "--queries")
    assert done.exit_code == 1
    assert "no keypoint queries" in words(done)


def test_info_counts_the_recipes(folder: Path) -> None:
    done = call("info", "coco-w32-512", folder / "tiny.toml")
    assert done.exit_code == 0, done.output
    for part in ("29.61", "46.22", "41.23", "tiny", "not trained by us"):
        assert part in words(done)


def test_demo_replaces_only_a_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demo = importlib.import_module("calipose.cli.train_demo")
    (tmp_path / "tiny.toml").write_text(TINY)
    monkeypatch.setattr(demo, "UNSEEN_IMAGES", 2)
    monkeypatch.setattr(demo, "IMAGE_PX", 64)
    monkeypatch.setattr(demo, "load_recipe", lambda _: load_recipe(tmp_path / "tiny.toml", ["epochs=1"]))
    out = tmp_path / "demo"
    for _ in range(2):  # the second replaces the first
        done = call("train-demo", "--out", out, "--train-images", 16)
        assert done.exit_code == 1
        assert "AP50 on the unseen images is" in words(done)  # so little training is not enough
        assert len(list((out / "images").iterdir())) == 2
        assert (out / "contact_sheet.jpg").is_file()
        (out / "left-over").touch()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    done = call("train-demo", "--out", tmp_path / "mine")
    assert done.exit_code == 1
    assert (tmp_path / "mine" / "thesis.txt").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("train RECIPE --data nowhere --out x", 1, "nowhere"),
        ("train RECIPE --data DATA --out x --validate nowhere", 1, "nowhere"),
        ("train syntethic --data DATA --out x", 1, "did you mean 'synthetic'"),
        ("train none.toml --data DATA --out x", 1, "none.toml"),
        ("train RECIPE --data DATA --out x --set optim.lrr=1", 1, "did you mean 'optim.lr'"),
        ("train RECIPE --data DATA --out x --set epochs", 1, "key=value"),
        ("train RECIPE --data DATA --out x --resume", 1, "state.safetensors"),
        ("train RECIPE --data DATA --out x --init none", 1, "none: no such checkpoint"),
        ("train RECIPE --data DATA --out x --skeleton none.json", 1, "none.json"),
        ("evaluate none --data DATA", 1, "none: no such checkpoint"),
        ("predict DATA/images --model none --out x", 1, "none"),
        ("predict DATA --model RUN --out x", 1, "no images or videos in this folder"),
        ("predict DATA/images --model RUN --out DATA/images", 1, "overwrite"),
        ("evaluate RUN --data nowhere", 1, "nowhere"),
        ("evaluate RUN --data DATA --device gpu", 1, "device 'gpu'"),
        ("info nothing", 1, "no recipe 'nothing'"),
        ("synthesize DATA", 1, "already exists"),
        ("synthesize x --size 64", 1, "width x height"),
        ("synthesize x --preset esay", 2, "esay"),
        ("trian", 2, "Did you mean 'train'"),
        ("train RECIPE --dta DATA", 2, "--data"),
    ],
)
def test_errors_are_one_message(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: str, code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"RECIPE": folder / "tiny.toml", "RUN": folder / "run", "DATA": folder / "people"}
    for name, place in places.items():
        arguments = arguments.replace(name, str(place))
    done = call(*arguments.split())
    assert done.exit_code == code, done.output
    assert message in words(done)
    assert "Traceback" not in done.output
    assert list(tmp_path.iterdir()) == []  # nothing half-done is left


def test_validation_needs_people(folder: Path, tmp_path: Path) -> None:
    write_synthetic_data(tmp_path / "empty", 1, EASY, (64, 64), 0)
    file = tmp_path / "empty" / "annotations.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"annotations": []}))
    run = tmp_path / "run"
    done = call("train", folder / "tiny.toml", "--data", folder / "people", "--out", run, "--validate", file.parent)
    assert done.exit_code == 1
    assert "nobody has a labelled keypoint" in words(done)


def test_validation_data_that_cannot_be_evaluated_is_said_before_training(folder: Path, tmp_path: Path) -> None:
    file = write_synthetic_data(tmp_path / "unseen", 1, EASY, (64, 64), 0)
    content = json.loads(file.read_text())
    crowd = {"id": 99, "image_id": 1, "category_id": 1, "iscrowd": 1, "segmentation": [[0, 0, 9, 0, 9, 9]]}
    file.write_text(json.dumps(content | {"annotations": [*content["annotations"], crowd]}))
    run = tmp_path / "run"
    done = call("train", folder / "tiny.toml", "--data", file.parent, "--out", run, "--validate", file.parent)
    assert done.exit_code == 1
    assert "neither labelled keypoints nor 'bbox'" in words(done)
    assert not run.exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(command: str) -> None:
    done = call(command, "--help")
    assert done.exit_code == 0
    assert "Examples" in done.output
    assert f"calipose {command}" in words(done)


def test_version() -> None:
    assert call("--version").output.strip() == f"calipose {calipose.__version__}"
