"""Bad input that no other test holds: where data lies, what does not belong together, evaluation of broken files.

Broken annotations are in data/test_coco.py, broken images in test_images.py and data/test_loader.py, broken
checkpoints in model/test_checkpoint.py, broken trainings in training/test_loop.py, broken options in cli/.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calipose.calibration.maps import Calibration
from calipose.config.settings import PredictSettings
from calipose.data.locate import find_data, read_data
from calipose.data.synthetic.scene import EASY, write_synthetic_data
from calipose.errors import ImageError, InputError
from calipose.evaluation.run import evaluate_predictor, predict_data
from calipose.evaluation.submission import read_image_info
from calipose.inference.backends.base import BatchCandidates
from calipose.inference.predictor import Predictor
from calipose.skeleton import COCO_17, Skeleton

PAIR = Skeleton("pair", ("one", "two"), (), (), (0.1, 0.1))


class Nobody:
    """A backend that finds nobody, and counts how often it looked."""

    pad_colour = (0, 0, 0)
    settings, calibration = PredictSettings(), Calibration()

    def __init__(self, skeleton: Skeleton = COCO_17) -> None:
        self.skeleton, self.looks = skeleton, 0

    def candidates(self, images: np.ndarray, max_poses: int, flip: bool) -> BatchCandidates:
        self.looks += 1
        scores = np.full((1, 1), -np.inf)
        return BatchCandidates(np.zeros((1, 1, len(self.skeleton), 2)), scores)


class Somebody(Nobody):
    """A backend that finds one pose in every image."""

    def candidates(self, images: np.ndarray, max_poses: int, flip: bool) -> BatchCandidates:
        scores = np.full((1, 1), 0.9)
        return BatchCandidates(np.zeros((1, 1, len(self.skeleton), 2)), scores)


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """A data set of two synthetic images."""
    return write_synthetic_data(tmp_path / "people", 2, EASY, (64, 64), seed=0).parent


def test_where_data_lies(people: Path) -> None:
    file, images = people / "annotations.json", people / "images"
    for source in (people, str(people), file, f"{file}={images}", f"{people}={images}"):
        assert find_data(source) == (file, images)
    (people / "deeper").mkdir()
    moved = file.rename(people / "deeper" / "own.json")
    assert find_data(f"{moved}={images}") == (moved, images)
    with pytest.raises(InputError, match=r"people/annotations\.json: no such annotation file"):
        find_data(people)
    with pytest.raises(InputError, match=r"deeper/images: no such image folder; name the images of "):
        find_data(moved)
    with pytest.raises(InputError, match="nowhere: no such image folder"):
        find_data(f"{moved}={people / 'nowhere'}")
    with pytest.raises(InputError, match=r"nowhere\.json: no such annotation file"):
        find_data(people / "nowhere.json")


def test_several_data_sets_are_one(people: Path, tmp_path: Path) -> None:
    write_synthetic_data(tmp_path / "more", 1, EASY, (64, 64), seed=1)
    data = read_data([people, tmp_path / "more"])
    assert [data.image_path(i).parents[1].name for i in range(len(data))] == ["people", "people", "more"]
    with pytest.raises(InputError, match="no data set was given"):
        read_data([])


def rewritten(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize("skeleton", [None, PAIR])
def test_data_of_another_skeleton(people: Path, skeleton: Skeleton | None) -> None:
    file = people / "annotations.json"
    if skeleton is None:  # the file is no COCO file, and nobody says which skeleton it has
        rewritten(file, lambda content: content["categories"][0].update(keypoints=["one", "two"]))
    with pytest.raises(InputError, match=r"annotations\.json: (2|17) keypoints, skeleton '(coco-17|pair)' has (17|2)"):
        read_data([people], skeleton)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content["annotations"][0].update(area=float("nan")), "annotations.0.: .*must be finite"),
        (lambda content: content["annotations"][0].update(keypoints=[1.0] * 50), "50 numbers in 'keypoints'; 17 .*51"),
        (lambda content: content["annotations"][0].update(image_id=99), "image_id 99 is not among 'images'"),
        (lambda content: content["images"].clear(), "'images' is empty"),
        (lambda content: content["images"][0].pop("id"), "id"),
        (lambda content: content["images"][0].pop("file_name"), "'file_name'"),
        (lambda content: content.pop("images"), "images"),
    ],
)
def test_evaluation_refuses_a_broken_file_before_it_predicts(people: Path, change: Callable, words: str) -> None:
    rewritten(people / "annotations.json", change)
    backend = Nobody()
    with pytest.raises(InputError, match=words) as raised:
        evaluate_predictor(Predictor(backend), *(people / name for name in ("annotations.json", "images")))
    assert "annotations.json" in str(raised.value)
    assert backend.looks == 0


@pytest.mark.parametrize("text", [None, "", "[]", "{", '{"images": 3}'])
def test_prediction_needs_a_list_of_images(people: Path, text: str | None) -> None:
    file = people / "annotations.json"
    file.unlink() if text is None else file.write_text(text)
    with pytest.raises(InputError, match=r"annotations\.json: no list 'images'"):
        predict_data(Predictor(Nobody()), read_image_info(file), people / "images")


def test_a_checkpoint_of_another_skeleton_is_not_evaluated(people: Path) -> None:
    backend = Nobody(PAIR)
    with pytest.raises(InputError, match=r"annotations\.json: 17 keypoints, skeleton 'pair' has 2"):
        evaluate_predictor(Predictor(backend), people / "annotations.json", people / "images")
    assert backend.looks == 0


def test_people_are_evaluated_whatever_their_category_is_called(people: Path) -> None:
    def renumber(content: dict[str, Any]) -> None:
        content["categories"] = [{"id": 1, "name": "dog"}, content["categories"][0] | {"id": 7}]
        for annotation in content["annotations"]:
            annotation["category_id"] = 7

    rewritten(people / "annotations.json", renumber)
    predictor = Predictor(Somebody())
    evaluation = evaluate_predictor(predictor, people / "annotations.json", people / "images")
    assert [entry["category_id"] for entry in evaluation.entries] == [7, 7]
    assert (evaluation.ap.images, evaluation.ap.poses) == (2, 2)


def test_an_unreadable_image_is_named(people: Path) -> None:
    (people / "images" / "000002.jpg").write_bytes(b"\xff\xd8 no image")
    with pytest.raises(ImageError, match=r"000002\.jpg"):
        evaluate_predictor(Predictor(Nobody()), people / "annotations.json", people / "images")
