"""`calipose compare` and `calipose submit`."""

import json
import re

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from calipose.cli import judging
from calipose.cli.compare import compare_command
from calipose.cli.console import Commands
from calipose.cli.submit import submit_command
from calipose.draw import save_image
from calipose.poses import Poses
from calipose.skeleton import COCO_17, Skeleton

app = typer.Typer(cls=Commands)
app.command("compare")(compare_command)
app.command("submit")(submit_command)


def call(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    result.words = " ".join(re.sub(r"[│╭╮╰╯─]", " ", result.output).split())
    return result


def points(x=20.0):
    return np.column_stack([x + 3 * (np.arange(17) % 5), 10 + 4 * np.arange(17)])


@pytest.fixture
def folder(tmp_path):
    """Four images with a person each; results a miss two of them."""
    images, annotations, results = [], [], []
    (tmp_path / "images").mkdir()
    for i in (1, 2, 3, 4):
        images.append({"id": i, "file_name": f"{i}.png"})
        save_image(tmp_path / "images" / f"{i}.png", np.full((90, 120, 3), 128, np.uint8))
        common = {"image_id": i, "category_id": 1}
        keypoints = np.column_stack([points(), np.full(17, 2)]).ravel().tolist()
        annotations.append(common | {"id": i, "keypoints": keypoints, "area": 900.0, "bbox": [20, 10, 12, 64]})
        results.append(common | {"keypoints": keypoints, "score": 0.9 - i / 10})
    categories = [{"id": 1, "keypoints": list(COCO_17.keypoints)}]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    for name, content in (("annotations", truth), ("a", results[:2]), ("b", results)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return tmp_path


def comparing(folder, *more):
    return call("compare", folder / "a.json", folder / "b.json", "--ground-truth", folder / "annotations.json", *more)


def test_compare_says_who_is_better_and_where(folder):
    done = comparing(folder, "--images", folder / "images", "--out", folder / "drawn", "--bootstrap", 100)
    assert done.exit_code == 0, done.output
    for part in (
        "AP 0.505 1.000 +0.495",
        "cannot tell them apart: B minus A is +49.5 points",
        "Images that speak most for B",
        "b_better.jpg",
    ):
        assert part in done.words
    assert "speak most for A" not in done.words
    assert [path.name for path in (folder / "drawn").iterdir()] == ["b_better.jpg"]


def test_compare_fits_80_columns(folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    done = comparing(folder, "--bootstrap", 100)
    paths = (str(folder),)  # never wrapped, so that they can be copied
    assert max(len(line) for line in done.output.splitlines() if not any(path in line for path in paths)) <= 80


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--images", "."], 2, "--images and --out go together"),
        (["--skeleton", "absent.toml"], 1, "absent.toml"),
    ],
)
def test_compare_refuses(more, code, words, folder):
    done = comparing(folder, *more)
    assert (done.exit_code, words in done.words) == (code, True), done.output


def submitting(folder, source, *more, data="annotations.json"):
    return call("submit", source, "--data", f"{folder / data}", "--out", folder / "out", *more)


def test_submit_results_without_images(folder):
    done = submitting(folder, folder / "a.json", "--name", "mine", "--val")
    assert done.exit_code == 0, done.output
    assert (folder / "out" / "person_keypoints_val2017_mine_results.zip").is_file()
    for part in ("2 poses in 2 of 4 images", "kB", "note: images without a pose: 2", "val2017 has 5000"):
        assert part in done.words


class Finder:
    """A predictor that finds one person in every image."""

    def __init__(self, skeleton=COCO_17):
        self.skeleton = skeleton

    def predict(self, image):
        return Poses(points()[None], np.array([0.5]), (image.shape[1], image.shape[0]), skeleton=self.skeleton)


def test_submit_predicts_with_a_model(folder, monkeypatch):
    monkeypatch.setattr(judging, "open_predictor", lambda *_, **__: Finder())
    done = submitting(folder, "default", "--name", "mine", "--quiet")
    assert done.exit_code == 0, done.output
    assert "person_keypoints_test-dev2017_mine_results.zip" in done.words
    assert "4 poses in 4 of 4 images" in done.words


@pytest.mark.parametrize(
    ("source", "more", "data", "words"),
    [
        ("default", ["--name", "two words"], "annotations.json", "letters, digits"),
        ("default", ["--name", "mine"], "annotations.json=nowhere", "nowhere: no such image folder"),
        ("default", ["--name", "mine"], "absent.json", "absent.json: no such"),
        ("b.json", ["--name", "mine"], "absent.json", "absent.json"),
        ("b.json", ["--name", "mine", "--flip"], "annotations.json", "this is a results file"),
        ("absent.json", ["--name", "mine"], "annotations.json", "absent.json"),
        ("five", ["--name", "mine"], "annotations.json", "the server wants COCO's 17"),
    ],
)
def test_submit_refuses_before_it_predicts(source, more, data, words, folder, monkeypatch):
    five = Skeleton("five", tuple("abcde"), (), ((0, 1),), (0.05,) * 5)
    monkeypatch.setattr(judging, "open_predictor", lambda *_, **__: Finder(five))
    monkeypatch.setattr(judging, "predict_data", lambda *_: pytest.fail("predicted"))
    done = submitting(folder, folder / source if source.endswith(".json") else source, *more, data=data)
    assert done.exit_code == 1
    assert words in done.words
    assert not (folder / "out").exists()


def test_compare_takes_results_of_more_images(folder):
    """And finds images without the folders that their names begin with."""
    truth = json.loads((folder / "annotations.json").read_text())
    truth["images"] = [image | {"file_name": f"val2017/{image['file_name']}"} for image in truth["images"][:3]]
    truth["annotations"] = truth["annotations"][:3]
    (folder / "annotations.json").write_text(json.dumps(truth))
    assert "--only-labelled" in comparing(folder, "--bootstrap", 100).words
    drawing = ("--images", folder / "images", "--out", folder / "drawn")
    done = comparing(folder, "--bootstrap", 100, "--only-labelled", *drawing)
    assert done.exit_code == 0, done.output
    assert "poses of images that are not labelled were left out (1)" in done.words
    assert (folder / "drawn" / "b_better.jpg").is_file()
