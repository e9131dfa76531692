"""The result type: validation, choosing, writing."""

import copy
import dataclasses
import json
import pickle

import numpy as np
import pytest

from calipose.calibration.regions import RegionGroup, RegionMap
from calipose.errors import InputError
from calipose.poses import Poses
from calipose.skeleton import COCO_17, Skeleton

TWO = Skeleton("two", ("head", "tail"), (), ((0, 1),), (0.1, 0.1))
POINTS = np.arange(12.0).reshape(3, 2, 2)
SCORES = np.array([0.2, 0.9, 0.5])
JOINTS = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])


OPTIONAL = {
    "keypoint_scores": JOINTS,
    "raw_scores": np.array([1.5, -2.0, 7.0]),
    "track_ids": np.array([4, 1, 9]),
    "filled": np.array([False, True, False]),
}


@pytest.fixture
def poses():
    return Poses(POINTS, SCORES, (640, 480), JOINTS, TWO)


@pytest.fixture
def full():
    return Poses(POINTS, SCORES, (640, 480), skeleton=TWO, **OPTIONAL)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"keypoints_img": POINTS[:2]}, "keypoints_img has shape"),
        ({"keypoints_img": np.zeros((3, 17, 2))}, r"\(3, 2, 2\)"),
        ({"keypoints_img": POINTS * np.nan}, "keypoints_img .* finite"),
        ({"scores": np.array([0.1, np.inf, 0.2])}, "scores .* finite"),
        ({"scores": np.ones((3, 1))}, "scores has shape"),
        ({"keypoint_scores": JOINTS[:, :1]}, "keypoint_scores has shape"),
        ({"raw_scores": SCORES[:2]}, "raw_scores has shape"),
        ({"raw_scores": [0, 1, np.nan]}, "raw_scores .* finite"),
        ({"track_ids": [1, 2]}, "track_ids has shape"),
        ({"track_ids": [0, 1, 2]}, "track_ids .* at least 1"),
        ({"track_ids": [1.5, 1, 2]}, "track_ids are whole"),
        ({"filled": [True]}, "filled has shape"),
    ],
)
def test_wrong_numbers_are_named(change, word, poses):
    with pytest.raises(InputError, match=word):
        dataclasses.replace(poses, **change)


@pytest.mark.parametrize("through", [copy.deepcopy, lambda poses: pickle.loads(pickle.dumps(poses))])
def test_a_copy_does_not_change_either(full, through):
    back = through(full)
    np.testing.assert_array_equal(back.keypoints_img, full.keypoints_img)
    assert (back.track_ids.tolist(), back.p_oks50, back.skeleton) == (full.track_ids.tolist(), None, TWO)
    with pytest.raises(ValueError, match="read-only"):
        back.scores[0] = 1


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
        (lambda p: p.sorted(), [0.9, 0.5, 0.2]),
    ],
)
@pytest.mark.parametrize("carried", [(), *((field,) for field in OPTIONAL), tuple(OPTIONAL)])
def test_choosing_keeps_everything_together(choose, expected, carried, full):
    poses = dataclasses.replace(full, **{field: None for field in OPTIONAL if field not in carried})
    chosen = choose(poses)
    assert chosen.scores.tolist() == expected
    index = [SCORES.tolist().index(s) for s in expected]
    assert chosen.keypoints_img.tolist() == POINTS[index].tolist()
    for field, values in OPTIONAL.items():
        got = getattr(chosen, field)
        assert got is None if field not in carried else got.tolist() == values[index].tolist()
    assert (chosen.image_size, chosen.skeleton) == ((640, 480), TWO)


def test_optional_fields_have_their_kinds(full):
    assert (full.raw_scores.dtype, full.track_ids.dtype, full.filled.dtype) == (np.float64, np.int64, np.bool_)
    with pytest.raises(ValueError, match="read-only"):
        full.track_ids[0] = 3


def test_equal_scores_keep_their_order():
    poses = Poses(POINTS, [0.5, 0.9, 0.5], (640, 480), skeleton=TWO).sorted()
    assert poses.keypoints_img[:, 0, 0].tolist() == [4, 0, 8]


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
    assert (plain["image_size"], plain["skeleton"]) == ([640, 480], "two")
    assert plain["poses"][0] == {
        "score": 0.2,
        "keypoints": {"head": {"x": 0, "y": 1, "score": 0.1}, "tail": {"x": 2, "y": 3, "score": 0.2}},
    }


def test_what_is_optional_is_written_only_where_present(poses, full):
    assert set(poses.to_dict()["poses"][0]) == {"score", "keypoints"}
    pose = json.loads(json.dumps(full.to_dict()))["poses"][1]
    assert {key: pose[key] for key in ("raw_score", "track_id", "filled")} == {
        "raw_score": -2.0,
        "track_id": 1,
        "filled": True,
    }


@pytest.mark.parametrize("carried", [(), *((field,) for field in OPTIONAL), tuple(OPTIONAL)])
def test_there_and_back(carried, full):
    poses = dataclasses.replace(full, **{field: None for field in OPTIONAL if field not in carried})
    entry = {"file": "a.jpg", "drawing": "a.png", **json.loads(json.dumps(poses.to_dict()))}
    back = Poses.from_dict(entry, TWO)
    assert (back.image_size, back.skeleton) == ((640, 480), TWO)
    for field in ("keypoints_img", "scores", *OPTIONAL):
        first, second = getattr(poses, field), getattr(back, field)
        assert (first is None) == (second is None)
        assert first is None or (first.dtype, first.tolist()) == (second.dtype, second.tolist())


@pytest.mark.parametrize("skeleton", [TWO, COCO_17])
def test_nobody_there_and_back(skeleton):
    back = Poses.from_dict(Poses.empty((640, 480), skeleton).to_dict(), skeleton)
    assert (len(back), back.image_size, back.keypoints_img.shape) == (0, (640, 480), (0, len(skeleton), 2))


def drop(entry, *path):
    for key in path[:-1]:
        entry = entry[key]
    del entry[path[-1]]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda e: e.update(skeleton="coco-17"), "'coco-17', not 'two'"),
        (lambda e: drop(e, "image_size"), "lacks 'image_size'"),
        (lambda e: e.update(image_size=[640]), "not what Poses.to_dict"),
        (lambda e: drop(e, "poses"), "lacks 'poses'"),
        (lambda e: e.update(poses=3), "not what Poses.to_dict"),
        (lambda e: drop(e, "poses", 1, "score"), "lacks 'score'"),
        (lambda e: drop(e, "poses", 1, "keypoints", "tail"), "lacks 'tail'"),
        (lambda e: drop(e, "poses", 1, "keypoints", "tail", "y"), "lacks 'y'"),
        (lambda e: drop(e, "poses", 1, "keypoints", "tail", "score"), "lacks 'score'"),
        (lambda e: drop(e, "poses", 1, "track_id"), "lacks 'track_id'"),
        (lambda e: e["poses"][0].update(keypoints=[]), "not what Poses.to_dict"),
        (lambda e: e["poses"][0].update(score="good"), "scores is no array of numbers"),
        (lambda e: e["poses"][0].update(score=None), "scores is no array of numbers"),
        (lambda e: e["poses"][0].update(score="0.5"), "scores is no array of numbers"),
        (lambda e: e["poses"][0].update(score=10**400), "scores is no array of numbers"),
        (lambda e: e["poses"][0].update(track_id=10**300), "track_ids is no array|below 2"),
        (lambda e: e["poses"][0]["keypoints"]["tail"].update(x="1"), "keypoints_img is no array of numbers"),
        (lambda e: e.update(image_size=[640, 0]), "image_size is 640 x 0"),
        (lambda e: e.update(image_size=["640", 480]), "image_size is '640' x 480"),
        (lambda e: e.update(image_size=[float("inf"), 480]), "image_size is inf"),
        (lambda e: e.update(skeleton=["\ud800"]), r"skeleton \['.ud800'\], not"),
        (lambda e: e["poses"][0].update(score=float("nan")), "scores .* finite"),
        (lambda e: e["poses"][0].update(track_id=0), "at least 1"),
    ],
)
def test_wrong_entries_are_named(change, word, full):
    entry = full.to_dict()
    change(entry)
    with pytest.raises(InputError, match=word):
        Poses.from_dict(entry, TWO)


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        (0, [0]),
        (-1, [2]),
        (np.int64(1), [1]),
        (np.uint8(2), [2]),
        (np.array(1), [1]),
        (slice(1, None), [1, 2]),
        ([2, 0], [2, 0]),
        ((p for p in ()), None),
        (range(2), [0, 1]),
        ([], []),
        (np.array([-1, -1]), [2, 2]),
        ([True, False, True], [0, 2]),
        (np.array([False, False, False]), []),
    ],
)
def test_what_people_type_to_choose_poses(full, index, rows):
    if rows is None:
        with pytest.raises(TypeError, match="generator is no index of poses"):
            full[index]
        return
    chosen = full[index]
    assert len(chosen) == len(rows)
    for field in ("keypoints_img", "scores", *OPTIONAL):
        np.testing.assert_array_equal(getattr(chosen, field), getattr(full, field)[rows], err_msg=field)
    assert (chosen.image_size, chosen.skeleton) == (full.image_size, full.skeleton)


@pytest.mark.parametrize(
    ("index", "error", "words"),
    [
        (3, IndexError, "pose 3 of 3"),
        (-4, IndexError, "pose -4 of 3"),
        (2**70, (IndexError, TypeError), "."),
        ([0, 5], IndexError, "pose 5 of 3"),
        ([True], IndexError, "a mask of 1 for 3 poses"),
        ("nose", TypeError, "str is no index of poses; use a whole number, a slice"),
        (0.0, TypeError, "float is no index"),
        (None, TypeError, "NoneType is no index"),
        (True, TypeError, "bool is no index"),
        ((0, 1), TypeError, "tuple is no index"),
        (..., TypeError, "ellipsis is no index"),
        ([[0], [1]], TypeError, r"list is no index .*shape \(2, 1\)"),
        ([0.5], TypeError, "holds float64"),
    ],
)
def test_what_chooses_no_poses(full, index, error, words):
    with pytest.raises(error, match=words):
        full[index]


def test_poses_are_gone_through_one_by_one(full):
    assert [len(pose) for pose in full] == [1, 1, 1]
    assert [pose.scores[0] for pose in reversed(full)] == SCORES[::-1].tolist()
    with pytest.raises(IndexError, match="pose 0 of 0"):
        Poses.empty((640, 480), TWO)[0]


# ---- regions


@pytest.fixture
def located():
    """Poses whose model knows where keypoints may be: constant by keypoint, 2 units at 0.5 and 3 at 0.51."""
    group = RegionGroup(quantiles=(2.0, 3.0), images=10, keypoints=30)
    regions = RegionMap(group=group, by_score=False, labelled=(15, 15), kind_factors=(1.0, 2.0))
    return Poses(POINTS, SCORES, (640, 480), skeleton=TWO, filled=[False, True, False], regions=regions)


def test_radii_by_hand(located):
    """2 units of f k s, k = 2 x 0.1, s = the root of 0.53 x 2 x 2; nobody has seen a pose that was filled in."""
    radii = located.keypoint_radius_img(0.5)
    want = 2 * 0.2 * np.sqrt(0.53 * 4) * np.array([1.0, 2.0])
    np.testing.assert_allclose(radii, [want, [np.nan, np.nan], want])
    np.testing.assert_allclose(located.keypoint_radius_img(0.51), 1.5 * radii)


@pytest.mark.parametrize("through", [lambda p: p, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_radii_follow_their_poses(located, through):
    poses = through(located.with_regions(0.5))[[2, 1]]
    np.testing.assert_array_equal(poses.radii_img, located.keypoint_radius_img(0.5)[[2, 1]])
    np.testing.assert_array_equal(poses.keypoint_radius_img(0.51), located.keypoint_radius_img(0.51)[[2, 1]])
    assert (poses.coverage, located.coverage, located.radii_img) == (0.5, None, None)


def test_radii_there_and_back(located):
    poses = located.with_regions(0.5)
    text = json.dumps(poses.to_dict(), allow_nan=False)
    assert json.loads(text)["coverage"] == 0.5
    assert "radius" not in json.loads(text)["poses"][1]["keypoints"]["tail"]
    back = Poses.from_dict(json.loads(text), TWO)
    np.testing.assert_array_equal(back.keypoint_radius_img(0.5), poses.radii_img)
    with pytest.raises(InputError, match=r"radii of coverage 0\.5 only; predict again"):
        back.keypoint_radius_img(0.51)
    nobody = Poses.from_dict(poses[[]].to_dict(), TWO)
    assert (nobody.radii_img.shape, nobody.coverage) == ((0, 2), 0.5)
    assert not any("radius" in str(part) for part in (located.to_dict(), located.to_coco(1)))


def test_radii_in_coco_results(located):
    entries = located.with_regions(0.5).to_coco(7)
    assert [entry["coverage"] for entry in entries] == [0.5] * 3
    assert entries[1]["keypoint_radii"] == [None, None]
    assert entries[2]["keypoint_radii"] == located.keypoint_radius_img(0.5)[2].tolist()


def test_poses_without_regions_say_so(poses):
    with pytest.raises(InputError, match="calipose calibrate fits them"):
        poses.keypoint_radius_img()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"radii_img": np.ones((3, 2))}, "go together"),
        ({"coverage": 0.9}, "go together"),
        ({"radii_img": np.ones((3, 1)), "coverage": 0.9}, "radii_img has shape"),
        ({"radii_img": -np.ones((3, 2)), "coverage": 0.9}, "radii below 0"),
        ({"radii_img": np.ones((3, 2)), "coverage": 1.0}, "between 0 and 1"),
        ({"radii_img": np.full((3, 2), np.inf), "coverage": 0.9}, "radii_img .* finite"),
    ],
)
def test_wrong_radii_are_named(change, word, poses):
    with pytest.raises(InputError, match=word):
        dataclasses.replace(poses, **change)
