"""Angles: known ones, intervals that hold in simulation, the formula for small errors, refusals."""

from dataclasses import replace

import numpy as np
import pytest

from calipose.angles import angles_of
from calipose.calibration.regions import RegionGroup, RegionMap
from calipose.errors import InputError
from calipose.poses import Poses
from calipose.skeleton import COCO_17, Skeleton

STICK = Skeleton("stick", ("a", "b", "c"), (), ((0, 1),), (0.1, 0.1, 0.1))
BEND = {"bend": ("a", "b", "c")}


def standing(knee=(0.0, 0.0)):
    """A person with arms hanging, legs straight but for the left knee."""
    points = np.zeros((17, 2))
    places = {"shoulder": (10, 50), "elbow": (10, 75), "wrist": (10, 100), "hip": (8, 100), "knee": (8, 140)}
    places["ankle"] = (8, 180)
    for name, (x, y) in places.items():
        points[COCO_17.keypoints.index(f"left_{name}")] = 100 + x, y
        points[COCO_17.keypoints.index(f"right_{name}")] = 100 - x, y
    points[COCO_17.keypoints.index("left_knee")] += knee
    return Poses(points[None], [0.9], (200, 200))


@pytest.mark.parametrize(
    ("points", "degrees"),
    [([(1, 0), (0, 0), (0, 5)], 90), ([(1, 0), (0, 0), (-3, 0)], 180), ([(2, 1), (0, 0), (4, 2)], 0)],
)
def test_known_angles(points, degrees):
    found = angles_of(np.array([points], float), STICK, BEND)
    assert found["bend"] == pytest.approx([degrees])
    assert found.low_deg is None


def test_a_standing_person():
    angles = standing(knee=(40.0, 0.0)).angles(coverage=None)
    assert angles["left_elbow"] == pytest.approx([180])
    assert angles["left_knee"] == pytest.approx([90])
    assert angles["right_knee"] == pytest.approx([180])
    assert angles["trunk"] == pytest.approx([0])
    assert len(angles.names) == 9
    leaning = Poses(standing().keypoints_img @ np.array([[0.0, 1.0], [-1.0, 0.0]]), [0.9], (200, 200))
    assert leaning.angles(coverage=None)["trunk"] == pytest.approx([90])  # lying, head to the right


def test_coinciding_keypoints_have_no_angle():
    assert np.isnan(angles_of(np.zeros((1, 3, 2)), STICK, BEND)["bend"]).all()


@pytest.mark.parametrize("coverage", [0.8])
@pytest.mark.parametrize("size", [0.03, 0.2])  # of the error beside a limb: small; so large that no formula holds
@pytest.mark.parametrize("bend", [15.0, 90.0, 178.0])
def test_intervals_hold_in_simulation(bend, size, coverage):
    """Observed are erring keypoints; the true angle lies within the interval around theirs."""
    rng = np.random.default_rng(1)
    turned = np.radians(bend)
    truth = np.array([(10.0, 0.0), (0.0, 0.0), (12 * np.cos(turned), 12 * np.sin(turned))])
    sigma = np.array([0.7, 1.0, 1.4]) * size * 10
    n = 300
    seen = truth + sigma[:, None] * rng.standard_normal((n, 3, 2))
    radii = np.broadcast_to(sigma * np.sqrt(-2 * np.log(1 - coverage)), (n, 3))
    found = angles_of(seen, STICK, BEND, radii, coverage, coverage)
    share = ((found.low_deg <= bend) & (bend <= found.high_deg)).mean()
    assert share > coverage - 0.06
    if size < 0.1 and 20 < bend < 160:  # elsewhere angles are folded at 0 and 180, and the interval is cautious
        assert share < coverage + 0.06


def test_small_errors_are_those_of_the_formula():
    points = np.array([(10.0, 0.0), (0.0, 0.0), (3.0, 7.0)])
    sigma, coverage = np.array([0.05, 0.08, 0.1]), 0.9
    radii = sigma * np.sqrt(-2 * np.log(1 - coverage))
    found = angles_of(points[None], STICK, BEND, radii[None], coverage, coverage)
    ab, bc = 10.0, np.hypot(3, 7)
    cos = np.cos(np.radians(found.degrees[0, 0]))
    variance = (sigma[0] / ab) ** 2 + (sigma[2] / bc) ** 2
    variance += sigma[1] ** 2 * (1 / ab**2 + 1 / bc**2 - 2 * cos / (ab * bc))
    half_width = np.degrees(1.6449 * np.sqrt(variance))
    assert found.high_deg[0, 0] - found.degrees[0, 0] == pytest.approx(half_width, rel=0.04)


def test_unknown_radii_give_no_interval():
    found = angles_of(np.array([[(1.0, 0), (0, 0), (0, 1)]]), STICK, BEND, np.array([[1.0, np.nan, 1.0]]), 0.9)
    assert np.isnan(found.low_deg).all()
    assert found.to_dict() == [{"bend": {"degrees": pytest.approx(90.0)}}]


@pytest.mark.parametrize(
    ("triples", "words"),
    [
        ({"x": ("a", "b", "d")}, "no keypoint 'd'"),
        ({"x": ("a", "b", "a")}, "three different"),
        ({"x": ("a", "b")}, "three different"),
        (None, "name the keypoints"),
    ],
)
def test_refusals(triples, words):
    with pytest.raises(InputError, match=words):
        angles_of(np.zeros((1, 3, 2)), STICK, triples)


def test_intervals_need_regions():
    with pytest.raises(InputError, match="calipose calibrate"):
        standing().angles()
    with pytest.raises(KeyError, match="no angle 'nose'"):
        standing().angles(coverage=None)["nose"]


def test_poses_take_the_regions_that_they_know():
    """Those of 0.5 of a model; of a file, those that it holds: the same intervals where errors are Gaussian."""
    quantiles = np.sqrt(-2 * np.log(1 - np.arange(50, 91) / 100))
    group = RegionGroup(quantiles=tuple(quantiles.tolist()), images=10, keypoints=170)
    regions = RegionMap(group=group, by_score=False, labelled=(10,) * 17, kind_factors=(0.1,) * 17)
    poses = replace(standing(knee=(20.0, 0.0)), regions=regions)
    found = poses.angles(coverage=0.8)
    assert (found.low_deg < found.degrees).all()
    back = Poses.from_dict(poses.with_regions(0.9).to_dict())
    np.testing.assert_allclose(back.angles(coverage=0.8).high_deg, found.high_deg)
    with pytest.raises(InputError, match=r"from 0\.5 to 0\.95"):
        poses.angles(coverage=0.99)
