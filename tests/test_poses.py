"""The result type: validation, choosing, writing."""

import dataclasses
import json

import numpy as np
import pytest

from calipose.errors import InputError
from calipose.poses import Poses
from calipose.skeleton import Skeleton

TWO = Skeleton("two", ("head", "tail"), (), ((0, 1),), (0.1, 0.1))
POINTS = np.arange(12.0).reshape(3, 2, 2)
SCORES = np.array([0.2, 0.9, 0.5])
JOINTS = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])


@pytest.fixture
def poses():
    return Poses(POINTS, SCORES, (640, 480), JOINTS, TWO)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"keypoints_img": POINTS[:2]}, "keypoints_img has shape"),
        ({"keypoints_img": np.zeros((3, 17, 2))}, r"\(3, 2, 2\)"),
        ({"keypoints_img": POINTS * np.nan}, "keypoints_img .* finite"),
        ({"scores": np.array([0.1, np.inf, 0.2])}, "scores .* finite"),
        ({"scores": np.ones((3, 1))}, "scores has shape"),
        ({"keypoint_scores": JOINTS[:, :1]}, "keypoint_scores has shape"),
    ],
)
def test_wrong_numbers_are_named(change, word, poses):
    with pytest.raises(InputError, match=word):
        dataclasses.replace(poses, **change)


def test_a_result_does_not_change_under_its_owner():
    points = POINTS.copy()
    poses = Poses(points, SCORES, (640, 480), skeleton=TWO)
    points[:] = 0
    assert poses.keypoints_img.tolist() == POINTS.tolist()
    with pytest.raises(ValueError, match="read-only"):
        poses.scores[0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        poses.scores = SCORES


@pytest.mark.parametrize(
    ("choose", "expected"),
    [
        (lambda p: p[1:], [0.9, 0.5]),
        (lambda p: p[[2, 0]], [0.5, 0.2]),
        (lambda p: p[p.scores > 0.4], [0.9, 0.5]),
        (lambda p: p.above(0.5), [0.9, 0.5]),
        (lambda p: p.above(2), []),
    ],
)
@pytest.mark.parametrize("with_joints", [True, False])
def test_choosing_keeps_everything_together(choose, expected, with_joints, poses):
    if not with_joints:
        poses = dataclasses.replace(poses, keypoint_scores=None)
    chosen = choose(poses)
    assert chosen.scores.tolist() == expected
    index = [SCORES.tolist().index(s) for s in expected]
    assert chosen.keypoints_img.tolist() == POINTS[index].tolist()
    assert (chosen.keypoint_scores is not None) == with_joints
    if with_joints:
        assert chosen.keypoint_scores.tolist() == JOINTS[index].tolist()
    assert (chosen.picture_size, chosen.skeleton) == ((640, 480), TWO)


def test_one_at_a_time(poses):
    assert [(len(p), p.scores[0]) for p in poses] == [(1, 0.2), (1, 0.9), (1, 0.5)]


def test_boxes(poses):
    assert poses.boxes_img.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_nobody():
    poses = Poses.empty((640, 480))
    assert (len(poses), list(poses), poses.to_coco(1), poses.to_dict()["poses"]) == (0, [], [], [])
    assert poses.boxes_img.shape == (0, 4)
    assert len(poses.above(0.1)) == 0


def test_coco_entries(poses):
    entry = json.loads(json.dumps(poses.to_coco(7, 3)))[1]
    assert entry == {"image_id": 7, "category_id": 3, "keypoints": [4, 5, 0.3, 6, 7, 0.4], "score": 0.9}
    without = dataclasses.replace(poses, keypoint_scores=None).to_coco(7)[0]
    assert (without["keypoints"], without["category_id"]) == ([0, 1, 1, 2, 3, 1], 1)


def test_plain_lists(poses):
    plain = json.loads(json.dumps(poses.to_dict()))
    assert (plain["picture_size"], plain["skeleton"]) == ([640, 480], "two")
    assert plain["poses"][0] == {
        "score": 0.2,
        "keypoints": {"head": {"x": 0, "y": 1, "score": 0.1}, "tail": {"x": 2, "y": 3, "score": 0.2}},
    }
