"""What chance does to calibration errors: draws with the right means, oracles by hand, level and power of a test."""

from statistics import NormalDist

import numpy as np
import pytest

from calipose.evaluation.chance import calibration_p, draw_oks, ece_by_chance, largest_sum, normal_cdf
from calipose.evaluation.matching import match_poses
from calipose.evaluation.metrics import METRICS, ece
from calipose.evaluation.scores import best_poses, keypoint_parts, score_differences, score_figures, slices
from square_people import FOUR, person, pose, truth_of


def poses(seed: int, images: int = 60, too_high: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, OKS of 0 or about 0.9, and images of two poses each, which are good or bad together."""
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(images), 2)
    score = rng.uniform(0.1, 0.85, 2 * images)
    share = np.where(rng.random(2 * images) < 0.5, np.repeat(rng.random(images), 2), rng.random(2 * images))
    return score, np.where(share < (score - too_high) / 0.9, rng.uniform(0.8, 1, 2 * images), 0.0), image


def test_each_drawn_oks_has_its_score_as_mean() -> None:
    score, oks, image = poses(0)
    drawn = draw_oks(score, oks, image, draws=2000)
    assert drawn.shape == (2000, 120)
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    np.testing.assert_allclose(drawn.mean(0), score, atol=0.06)  # a standard error is 0.01
    assert set(np.unique(drawn)) <= set(np.unique([*oks, 0.0, 1.0]))  # the shape is that of the data


def test_drawn_oks_of_an_image_are_as_alike_as_the_given_ones() -> None:
    score, oks, image = poses(0, 400)

    def together(values: np.ndarray) -> float:
        pairs = values.reshape(-1, 400, 2)
        return float((pairs[..., 0] * pairs[..., 1]).mean() / (pairs**2).mean())

    drawn = draw_oks(score, oks, image, draws=50)
    assert together(drawn - score) == pytest.approx(together((oks - score)[None]), abs=0.08)
    assert together(oks - score) > 0.1


def test_scores_that_are_no_shares() -> None:
    drawn = draw_oks([-3.0, 17.0], [0.2, 0.9], [0, 1], draws=5)
    assert drawn[:, 0].max() < 1e-6
    assert drawn[:, 1].min() > 1 - 1e-6


def test_the_error_by_chance_falls_with_the_number_of_poses() -> None:
    few, many = (ece_by_chance(*poses(1, images)) for images in (30, 480))
    assert 0.02 < many.mean < many.bound < few.mean < few.bound < 0.3
    assert few.mean / many.mean == pytest.approx(4, rel=0.3)  # as the square root of 16
    assert np.isnan(ece_by_chance([], [], []).mean)


def test_the_error_by_chance_is_that_of_perfect_scores() -> None:
    """The mean ECE of sets whose scores are right is what one set says of it."""
    assert np.mean([ece(*poses(seed)[:2]) for seed in range(40)]) == pytest.approx(
        ece_by_chance(*poses(99)).mean, abs=0.015
    )


def test_the_largest_sum_by_hand() -> None:
    deviation = np.array([[0.6, -1.0, 0.25], [0.1, 0.2, -0.1]])
    assert largest_sum(deviation, np.arange(3)).tolist() == pytest.approx([0.6, 0.3])  # 0.6, -0.4, -0.15
    assert largest_sum(deviation, np.array([1, 2])).tolist() == pytest.approx([0.4, 0.3])  # the first two share a score


def test_the_test_of_calibrated_has_its_level_and_finds_what_is_wrong() -> None:
    right = [calibration_p(*poses(seed), flips=199) <= 0.05 for seed in range(100)]
    assert np.mean(right) <= 0.11  # 5 %, with a standard error of 2
    wrong = [calibration_p(*poses(seed, too_high=0.15), flips=199) <= 0.05 for seed in range(20)]
    assert np.mean(wrong) >= 0.8


def test_images_are_the_units_of_the_test() -> None:
    """Twenty poses that are wrong together in one of three images prove little."""
    score, oks = np.full(60, 0.5), np.repeat([0.1, 0.6, 0.4], 20)
    assert calibration_p(score, oks, np.repeat(np.arange(3), 20)) > 0.2
    assert calibration_p(score, oks, np.arange(60)) < 0.05
    assert np.isnan(calibration_p(score, oks, np.zeros(60)))


def test_the_normal_distribution() -> None:
    z = np.array([-6.0, -1.959964, 0.0, 1.644854])
    assert normal_cdf(z) == pytest.approx([NormalDist().cdf(value) for value in z], rel=1e-6, abs=1e-15)


def matches(*results):  # type: ignore[no-untyped-def]
    hidden = person(0, image_id=2)
    hidden["keypoints"][2] = hidden["keypoints"][5] = 1.0
    return match_poses(truth_of(person(0), hidden), list(results), FOUR)


def test_a_calibration_chooses_the_same_best_poses() -> None:
    given = matches(pose(0, 0.2), pose(300, 0.04), pose(0, 0.03, 2))
    assert best_poses(given, 2).tolist() == [True, True, False]
    assert best_poses(given, 9).all()


def test_people_with_hidden_keypoints_are_a_part_of_their_own() -> None:
    given = matches(pose(0, 0.9), pose(300, 0.3), pose(0, 0.8, 2))
    parts = slices(given)["occlusion"]
    assert parts["visible"].tolist() == [True, False, False]  # the false positive is in neither
    assert parts["occluded"].tolist() == [False, False, True]
    assert given.visible.sum(1).tolist() == [4, 0, 2]
    assert keypoint_parts(given) == {}  # their third numbers are no scores


def test_paired_differences_of_scores() -> None:
    a = matches(pose(0, 0.9), pose(300, 0.3), pose(0, 0.8, 2))
    b = matches(pose(0, 0.9), pose(300, 0.1), pose(0, 0.8, 2))
    same, better = score_differences(a, a, 2, 50), score_differences(a, b, 2, 50)
    assert all(each.difference == 0 for key, each in same.items() if key != "resolution")
    assert better["brier"].difference == pytest.approx((0.01 - 0.09) / 3)
    assert better["brier"].interval[0] < better["brier"].difference < better["brier"].interval[1] + 1e-9
    assert set(better) == set(METRICS)


def test_figures_without_a_bootstrap_have_no_test() -> None:
    given = matches(pose(0, 0.9), pose(0, 0.8, 2))
    assert score_figures(given).by_chance is None
    assert np.isnan(score_figures(given).p)
    figures = score_figures(given, 20)
    assert figures.by_chance is not None
    assert 0 < figures.p <= 1
    assert figures.to_dict()["ece_by_chance"]["bound"] == figures.by_chance.bound
