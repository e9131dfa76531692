"""What scores are worth: figures with an oracle each."""

import numpy as np
import pytest

from calipose.evaluation.matching import match_poses
from calipose.evaluation.metrics import (
    area_under_risk_coverage,
    brier,
    ece,
    keypoint_auc,
    pearson,
    rank_correlation,
    ranks,
    reliability,
    resolution,
    risk_coverage,
)
from calipose.evaluation.scores import populations, score_figures, slices
from square_people import FOUR, person, pose, similarity, truth_of


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1, 2, 3], [10, 20, 1000], 1.0),
        ([1, 2, 3], [3, 2, 1], -1.0),
        ([1, 2, 2, 3], [1, 2, 3, 4], 0.9486832980505138),  # ranks 1, 2.5, 2.5, 4: sqrt(0.9)
        ([1, 2, 3, 4, 5], [5, 6, 7, 8, 7], 0.8207826816681233),  # scipy.stats.spearmanr's documentation
        ([1, 1, 1], [1, 2, 3], np.nan),
        ([], [], np.nan),
    ],
)
def test_rank_correlation(a, b, expected):
    assert rank_correlation(a, b) == pytest.approx(expected, nan_ok=True)


def test_rank_correlation_equals_scipy():
    stats = pytest.importorskip("scipy.stats")
    a, b = np.random.default_rng(0).integers(0, 9, (2, 200))
    assert rank_correlation(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)


def test_ranks_share_their_mean():
    assert ranks([3, 1, 3, 3, 0]).tolist() == [4, 2, 4, 4, 1]


def test_pearson():
    assert pearson([0, 1, 2], [1, 3, 5]) == pytest.approx(1)
    assert pearson([0, 1, 2], [1, 0, 1]) == pytest.approx(0)


def both(matches):
    """Figures of both populations."""
    return {name: score_figures(matches[mask]) for name, mask in populations(matches).items()}


def test_both_populations():
    poses = [pose(0, 0.9), *(pose(300 + i, 0.01 + i / 1000) for i in range(24)), pose(0.5, 0.06, 2)]
    quality = both(match_poses(truth_of(person(0), person(0, image_id=2)), poses, FOUR))
    assert {name: q.poses for name, q in quality.items()} == {"score": 2, "best": 21}
    assert quality["score"].mean_score == pytest.approx(0.48)
    assert quality["score"].mean_oks == pytest.approx((1 + similarity(0.5)) / 2)
    assert quality["score"]["spearman"] == pytest.approx(1)
    assert quality["best"]["spearman"] > 0


def test_nothing_found_has_no_correlation():
    quality = both(match_poses(truth_of(person(0)), [], FOUR))
    assert quality["best"].poses == 0
    assert np.isnan(quality["best"]["spearman"])


def test_ece_by_hand():
    """Two bins of two poses: |0.2 - 0.5| and |0.8 - 0.6|, half the poses each."""
    score, oks = [0.1, 0.9, 0.3, 0.7], [0.4, 0.5, 0.6, 0.7]
    binned = reliability(score, oks, bins=2)
    assert binned.mean_score.tolist() == pytest.approx([0.2, 0.8])
    assert binned.mean_oks.tolist() == pytest.approx([0.5, 0.6])
    assert binned.poses.tolist() == [2, 2]
    assert ece(score, oks, bins=2) == pytest.approx(0.25)
    assert brier(score, oks) == pytest.approx((0.09 + 0.16 + 0.09 + 0) / 4)
    assert resolution(score, oks, bins=2) == pytest.approx(0.0025)


@pytest.mark.parametrize(("poses", "bins", "sizes"), [(7, 3, [3, 2, 2]), (2, 15, [1, 1]), (0, 15, [])])
def test_bins_are_of_equal_mass(poses, bins, sizes):
    assert reliability(np.arange(poses), np.zeros(poses), bins).poses.tolist() == sizes


@pytest.mark.parametrize("poses", [300, 3000, 30000])
def test_a_perfectly_calibrated_score_is_off_by_chance_only(poses):
    """The mean gap of a bin of m poses is about sqrt(2 / pi) sigma / sqrt(m)."""
    rng = np.random.default_rng(poses)
    score = rng.beta(1, 2, poses)
    right = (rng.random(poses) < score).astype(float)
    sampling = np.sqrt(2 / np.pi) * np.sqrt((score * (1 - score)).mean() / (poses / 15))
    assert ece(score, right) < 1.8 * sampling
    assert ece(np.sqrt(score), right) > 0.15


def test_risk_coverage_by_hand():
    coverage, risk = risk_coverage([0.9, 0.2, 0.5], [1.0, 0.0, 0.5])
    assert coverage.tolist() == pytest.approx([1 / 3, 2 / 3, 1])
    assert risk.tolist() == pytest.approx([0, 0.25, 0.5])
    assert area_under_risk_coverage([0.9, 0.2, 0.5], [1.0, 0.0, 0.5]) == pytest.approx(0.25)


def test_poses_of_equal_score_come_in_no_order():
    _, risk = risk_coverage([0.5, 0.5], [1.0, 0.0])
    assert risk.tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("score", "right", "auc"),
    [([1, 2, 3, 4], [0, 0, 1, 1], 1.0), ([1, 2, 3, 4], [1, 0, 1, 0], 0.25), ([1, 1], [0, 1], 0.5), ([1], [1], np.nan)],
)
def test_joint_auc(score, right, auc):
    assert keypoint_auc(score, np.array(right, bool)) == pytest.approx(auc, nan_ok=True)


def test_joint_auc_equals_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    score, right = rng.integers(0, 20, 300), rng.random(300) < 0.4
    assert keypoint_auc(score, right) == pytest.approx(metrics.roc_auc_score(right, score))


def test_slices():
    """A large person alone with two labelled keypoints, a small one overlapped by another, and a pose of nobody."""
    large = person(0, image_id=1) | {"area": 10000.0}
    large["keypoints"][2] = large["keypoints"][5] = 0
    small, beside = (person(x, image_id=2) | {"area": 900.0} for x in (0, 5))
    poses = [pose(0, 0.9), pose(0, 0.8, 2), pose(400, 0.3, 2)]
    matches = match_poses(truth_of(large, small, beside), poses, FOUR)
    parts = {name: {part: mask.tolist() for part, mask in of.items()} for name, of in slices(matches).items()}
    assert parts["size"] == {"small": [False, True, True], "medium": [False] * 3, "large": [True, False, False]}
    assert parts["labelled keypoints"]["1-5"] == [True, True, False]
    assert parts["crowding"]["overlapped"] == [False, True, False]


def test_intervals_hold_the_figures_and_shrink():
    rng = np.random.default_rng(3)

    def matches(images):
        scores = rng.uniform(0.1, 0.9, images)
        poses = [pose(float(rng.normal(0, 8)), float(s), i) for i, s in enumerate(scores)]
        truth = truth_of(*(person(0, image_id=i) for i in range(images)), images=range(images))
        return score_figures(match_poses(truth, poses, FOUR), bootstrap=200)

    few, many = matches(40), matches(400)
    for figures in (few, many):
        assert set(figures.intervals) == {"ece", "brier", "resolution", "spearman", "pearson", "aurc"}
        low, high = figures.intervals["brier"]
        assert low < figures["brier"] < high
        assert figures.images == figures.poses
    assert np.ptp(many.intervals["spearman"]) < np.ptp(few.intervals["spearman"])


def test_equal_scores_make_no_calibration_error_by_their_order():
    oks = np.repeat([0.0, 1.0], 500)
    assert ece(np.full(1000, 0.5), oks) == pytest.approx(0)
    assert resolution(np.full(1000, 0.5), oks) == pytest.approx(0)
