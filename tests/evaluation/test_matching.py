"""Matching of poses with people."""

import numpy as np
import pytest

from calipose.evaluation.ap import OKS_THRESHOLDS, evaluate_results
from calipose.evaluation.matching import greedy_match, match_poses
from square_people import FOUR, person, pose, similarity, truth_of


@pytest.mark.parametrize(
    ("people", "poses", "expected"),
    [
        ([person(0)], [pose(0, 0.9)], {0: 1.0}),
        ([person(0)], [pose(3, 0.9), pose(0, 0.5)], {0: similarity(3), 1: 0.0}),  # each person once
        ([person(0)], [pose(0, 0.5), pose(3, 0.9)], {0: 0.0, 1: similarity(3)}),  # whatever their order
        ([person(0)], [pose(12, 0.9)], {0: similarity(12)}),  # below 0.5, yet of that person
        ([person(0)], [pose(300, 0.9)], {0: 0.0}),
        ([], [pose(0, 0.9)], {0: 0.0}),
        # The first pose lies badly on person 0; it must not take the person whom the second has right.
        ([person(0)], [pose(12, 0.9), pose(1, 0.5)], {0: 0.0, 1: similarity(1)}),
        # Two bad poses, one person: the better score takes it.
        ([person(0)], [pose(14, 0.5), pose(12, 0.9)], {0: 0.0, 1: similarity(12)}),
        ([person(0, crowd=1)], [pose(0, 0.9), pose(1, 0.8), pose(300, 0.7)], {2: 0.0}),
        ([person(0, v=0)], [pose(0, 0.9), pose(300, 0.7)], {1: 0.0}),  # an unlabelled person is no judge
        ([person(0, v=0), person(5)], [pose(4, 0.9)], {0: similarity(1)}),  # but a labelled one goes before
        ([person(0, image_id=2)], [pose(0, 0.9)], {0: 0.0}),
    ],
)
def test_match(people, poses, expected):
    assert similarity(12) < 0.5 < similarity(5)
    assert similarity(14) > 0.1
    matches = match_poses(truth_of(*people), poses, FOUR)
    assert dict(zip(matches.entry.tolist(), matches.oks.tolist(), strict=True)) == pytest.approx(expected)


def test_what_stands_beside_the_oks():
    small = person(0, image_id=2)
    small["keypoints"][2] = 0
    poses = [pose(0, 0.2, 2), pose(500, 0.9, 2), pose(0, 0.4, 1)]
    matches = match_poses(truth_of(small), poses, FOUR)
    assert matches.entry.tolist() == [2, 1, 0]
    assert matches.image.tolist() == [0, 1, 1]
    assert matches.rank.tolist() == [0, 0, 1]
    assert matches.score.tolist() == [0.4, 0.9, 0.2]
    assert matches.labelled.tolist() == [0, 0, 3]
    np.testing.assert_array_equal(matches.area, [np.nan, np.nan, 1600])


@pytest.mark.parametrize(
    ("people", "poses", "expected"),
    [
        ([person(0)], [pose(0, 0.9), pose(3, 0.8), pose(300, 0.7)], {0: (-1, 0), 1: (0, similarity(3)), 2: (-1, 0)}),
        # Of two people that have their poses, the nearer one.
        ([person(0), person(10)], [pose(0, 0.9), pose(10, 0.8), pose(7, 0.7)], {2: (1, similarity(3))}),
        ([person(0)], [pose(0, 0.9), pose(20, 0.8)], {1: (-1, 0)}),  # an OKS below 0.1 is background
        ([person(300, image_id=2), person(0)], [pose(0, 0.9), pose(3, 0.8)], {1: (0, similarity(3))}),
        ([person(0), person(300, image_id=2)], [pose(300, 0.9, 2), pose(303, 0.8, 2)], {1: (1, similarity(3))}),
        ([person(0, crowd=1), person(300)], [pose(300, 0.9), pose(0, 0.8)], {0: (-1, 0)}),
        ([person(0, v=0)], [pose(0, 0.9), pose(1, 0.8), pose(300, 0.7)], {2: (-1, 0)}),  # no duplicates of the ignored
    ],
)
def test_duplicates(people, poses, expected):
    """A second pose of a person is a false positive with the OKS that it has with them."""
    assert similarity(20) < 0.1
    matches = match_poses(truth_of(*people), poses, FOUR)
    found = dict(
        zip(matches.entry.tolist(), zip(matches.duplicate_of, matches.duplicate_oks, strict=True), strict=True)
    )
    assert {entry: found[entry] for entry in expected} == {e: (p, pytest.approx(o)) for e, (p, o) in expected.items()}


def test_half_means_right_in_ap50():
    """With poses of oks >= 0.5 alone, AP50 has no false pose left and its recall does not fall."""
    rng = np.random.default_rng(0)
    people = [person(float(x), image_id=i) for i in (1, 2) for x in rng.uniform(0, 200, 6)]
    poses = [pose(float(x), float(rng.uniform()), i) for i in (1, 2) for x in rng.uniform(-20, 260, 18)]
    truth = truth_of(*people)
    matches = match_poses(truth, poses, FOUR)
    right = matches.entry[matches.oks >= 0.5]
    found = len(right) / len(people)
    assert 0.3 < found < 1
    only_right = evaluate_results(truth, [poses[i] for i in right], FOUR)
    assert only_right.ap50 == pytest.approx((np.linspace(0, 1, 101) <= found).mean())


def test_greedy_match_against_the_loops_it_replaces():
    """COCO's rules, written as they read: pose by pose, person by person."""
    rng = np.random.default_rng(1)
    for _ in range(100):
        p, g = rng.integers(0, 6, 2)
        values = rng.integers(0, 21, (p, g)) / 20  # ties are common
        crowd = rng.uniform(size=g) < 0.2
        ignored = crowd | (rng.uniform(size=g) < 0.2)
        for t, row in zip(OKS_THRESHOLDS, greedy_match(values, ignored, crowd, OKS_THRESHOLDS), strict=True):
            taken = set()
            for i in range(p):
                best = -1
                for some in (False, True):
                    bar = t
                    for j in range(g):
                        if ignored[j] == some and j not in taken and values[i, j] >= bar:
                            bar, best = values[i, j], j
                    if best >= 0:
                        break
                assert row[i] == best
                if best >= 0 and not crowd[best]:
                    taken.add(best)
