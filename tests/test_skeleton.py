"""Skeletons: COCO's, and the reading of own ones."""

import json

import numpy as np
import pytest

from calipose.errors import InputError
from calipose.skeleton import COCO_17, Skeleton

HAND = {
    "name": "hand",
    "keypoints": ["wrist", "left_tip", "right_tip"],
    "flip_pairs": [[1, 2]],
    "limbs": [[0, 1], [0, 2]],
    "sigmas": [0.1, 0.05, 0.05],
}
HAND_TOML = """
name = "hand"
keypoints = ["wrist", "left_tip", "right_tip"]
flip_pairs = [[1, 2]]
limbs = [[0, 1], [0, 2]]
sigmas = [0.1, 0.05, 0.05]
"""


def test_coco_sigmas_are_pycocotools():
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    np.testing.assert_allclose(COCO_17.sigmas_array, cocoeval.Params("keypoints").kpt_oks_sigmas, atol=1e-12)


def test_coco_is_the_annotation_files(shared):
    category = json.loads((shared / "data/coco-val/annotations.json").read_text())["categories"][0]
    assert list(COCO_17.keypoints) == category["keypoints"]
    assert [[a + 1, b + 1] for a, b in COCO_17.limbs] == category["skeleton"]


def test_coco_pairs_left_with_right():
    names = COCO_17.keypoints
    assert [names[b] for _, b in COCO_17.flip_pairs] == [
        names[a].replace("left", "right") for a, _ in COCO_17.flip_pairs
    ]
    assert {i for pair in COCO_17.flip_pairs for i in pair} == set(range(1, 17))


def test_flip_index_is_its_own_inverse():
    index = COCO_17.flip_index
    assert index[index].tolist() == list(range(17))
    assert Skeleton.from_dict(HAND).flip_index.tolist() == [0, 2, 1]


def test_a_skeleton_survives_its_file(tmp_path):
    path = tmp_path / "s.json"
    path.write_text(json.dumps(COCO_17.to_dict()))
    assert Skeleton.from_file(path) == COCO_17
    (tmp_path / "s.toml").write_text(HAND_TOML)
    assert Skeleton.from_file(tmp_path / "s.toml") == Skeleton.from_dict(HAND)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"keypoints": ["a", "a", "b"]}, "each name once"),
        ({"keypoints": [], "sigmas": []}, "one or more names"),
        ({"sigmas": [0.1, 0.1]}, "3 positive"),
        ({"sigmas": [0.1, 0.1, 0.0]}, "positive"),
        ({"sigmas": [0.1, 0.1, float("inf")]}, "positive"),
        ({"sigmas": [0.1, 0.1, float("nan")]}, "positive"),
        ({"limbs": [[0, 3]]}, r"limbs has \(0, 3\)"),
        ({"limbs": [[1, 1]]}, r"limbs has \(1, 1\)"),
        ({"limbs": [[0, -1]]}, "limbs"),
        ({"flip_pairs": [[1, 2], [2, 0]]}, "two flip_pairs"),
        ({"flip_pairs": [[1, 2, 0]]}, "flip_pairs"),
        ({"sigma": [1.0]}, "sigma"),
        ({"name": 3}, "name"),
    ],
)
def test_a_wrong_skeleton_is_named(change, word, tmp_path):
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(HAND | change))
    with pytest.raises(InputError, match=word):
        Skeleton.from_dict(HAND | change)
    with pytest.raises(InputError, match=r"wrong\.json|hand"):
        Skeleton.from_file(path)


@pytest.mark.parametrize(("name", "text"), [("absent.json", None), ("bad.json", "{"), ("bad.toml", "a = = 1")])
def test_a_file_that_cannot_be_read_is_named(name, text, tmp_path):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=name):
        Skeleton.from_file(tmp_path / name)
