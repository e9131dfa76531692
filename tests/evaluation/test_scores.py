"""What scores are worth: figures with an oracle each."""

import numpy as np
import pytest

from calipose.evaluation.matching import match_poses
from calipose.evaluation.scores import pearson, rank_correlation, ranks, score_quality
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


def test_both_populations():
    poses = [pose(0, 0.9), *(pose(300 + i, 0.01 + i / 1000) for i in range(24)), pose(0.5, 0.06, 2)]
    quality = score_quality(match_poses(truth_of(person(0), person(0, image_id=2)), poses, FOUR))
    assert {name: q.poses for name, q in quality.items()} == {"score": 2, "best": 21}
    assert quality["score"].mean_score == pytest.approx(0.48)
    assert quality["score"].mean_oks == pytest.approx((1 + similarity(0.5)) / 2)
    assert quality["score"].spearman == pytest.approx(1)
    assert quality["best"].spearman > 0


def test_nothing_found_has_no_correlation():
    quality = score_quality(match_poses(truth_of(person(0)), [], FOUR))
    assert quality["best"].poses == 0
    assert np.isnan(quality["best"].spearman)
