"""Score thresholds for target precisions: the bound against scipy, counts by hand, refusals that say why."""

import math

import numpy as np
import pytest

from calipose.calibration.precision import PrecisionTable, PrecisionTarget, clopper_pearson_lower
from calipose.errors import InputError


@pytest.mark.parametrize(("hits", "trials"), [(0, 5), (1, 1), (3, 10), (59, 59), (58, 59), (4800, 5000)])
def test_the_bound_is_scipys(hits: int, trials: int) -> None:
    beta = pytest.importorskip("scipy.stats").beta
    expected = beta.ppf(0.05, hits, trials - hits + 1) if hits else 0.0
    assert clopper_pearson_lower(hits, trials) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("0.95@0.75", PrecisionTarget(0.95, 0.75)),
        (".9@.5", PrecisionTarget(0.9, 0.5)),
        (" 0.5@0.95 ", PrecisionTarget(0.5, 0.95)),
    ],
)
def test_targets(text: str, target: PrecisionTarget) -> None:
    assert PrecisionTarget.parse(text) == target


@pytest.mark.parametrize("text", ["", "0.95", "95@0.75", "95%@0.75", "1@0.5", "0@0.5", "0.9@0.77", "0.9@1", "a@b"])
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(InputError, match="precision"):
        PrecisionTarget.parse(text)


def test_counts_by_hand() -> None:
    """Poses of three images; two poses share a score."""
    table = PrecisionTable.count([0.9, 0.7, 0.7, 0.2], [0.96, 0.6, 0.4, 0.0], [5, 5, 8, 9], people=4)
    assert table.raw == (0.9, 0.7, 0.2)
    assert table.poses == (1, 3, 4)
    assert table.images == (1, 2, 3)
    assert table.trials == (1, 1, 2)  # 3^2 / (2^2 + 1), 4^2 / (2^2 + 1 + 1), rounded down
    assert table.num_correct[0] == (1, 2, 2)  # OKS 0.5
    assert table.num_correct[-1] == (1, 1, 1)  # OKS 0.95


def many(images: int, seed: int = 0) -> PrecisionTable:
    """One pose an image; P(OKS >= 0.5) is the score."""
    rng = np.random.default_rng(seed)
    score = rng.random(images)
    return PrecisionTable.count(score, np.where(rng.random(images) < score, 0.8, 0.0), np.arange(images), images)


def test_the_smallest_threshold_that_keeps_the_target() -> None:
    chosen = many(5000).choose(PrecisionTarget(0.8, 0.75))
    assert 0.55 < chosen.raw < 0.68  # the mean of the scores above 0.6 is 0.8; the bound asks for a little more
    assert chosen.bound >= 0.8
    assert chosen.precision > chosen.bound
    assert 0 < chosen.recall < chosen.full_recall < 1


def test_the_target_holds_for_new_images() -> None:
    """With 95 % confidence; over 60 data sets some may fail."""
    kept = []
    for seed in range(60):
        raw = many(400, seed).choose(PrecisionTarget(0.7, 0.5)).raw
        kept.append((1 + raw) / 2 >= 0.7)  # the true share above a threshold
    assert np.mean(kept) > 0.93


def test_the_best_of_many_thresholds_is_not_taken_by_chance() -> None:
    """The truth is just below the target at every threshold: 5 % may be granted, and not more."""
    granted = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        table = PrecisionTable.count(rng.random(200), np.where(rng.random(200) < 0.895, 0.8, 0.0), np.arange(200), 200)
        try:
            table.choose(PrecisionTarget(0.9, 0.5))
            granted += 1
        except InputError:
            pass
    assert granted <= 16  # 5 % are 10, with a spread of 3


def test_images_with_many_poses_count_for_less() -> None:
    """Sixty images with one pose and eight with twenty, right or wrong as a whole: about 12 independent poses."""
    image = np.concatenate([np.arange(60), np.repeat(np.arange(60, 68), 20)])
    table = PrecisionTable.count(np.full(220, 0.5), np.ones(220), image, 220)
    assert table.trials == (220**2 // (60 + 8 * 400),)


def test_a_long_table_is_thinned_out() -> None:
    table = many(5000)
    assert len(table.raw) == 200
    assert table.poses[-1] == 5000
    assert table.raw[0] == max(table.raw)


def test_what_the_data_cannot_support() -> None:
    with pytest.raises(
        InputError,
        match=r"0\.95@0\.75: the calibration data cannot support it.*the most that it supports is 0\.\d+@0\.75",
    ):
        many(40).choose(PrecisionTarget(0.95, 0.75))
    assert math.ceil(math.log(0.05 / 3) / math.log(0.95)) == 80  # three starts share the error


def test_a_model_that_was_never_calibrated() -> None:
    with pytest.raises(InputError, match=r"never calibrated.*calipose calibrate"):
        PrecisionTable().choose(PrecisionTarget(0.9, 0.5))


def test_no_poses() -> None:
    assert PrecisionTable.count([], [], [], 3).raw == ()
