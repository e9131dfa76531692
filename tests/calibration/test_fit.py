"""Fitting calibration maps: by hand, against scikit-learn, and on scores whose meaning is known."""

import numpy as np
import pytest

from calipose.calibration.fit import MIN_STEP, assign_folds, fit_calibration_map
from calipose.calibration.isotonic import isotonic
from calipose.calibration.maps import Setting
from calipose.errors import InputError

SETTING = Setting(short_side=512, flip=False, nms_threshold=0.3)


def poses(n: int, seed: int, bent: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Raw scores, some of them equal, and an OKS that is a power of them, with noise."""
    rng = np.random.default_rng(seed)
    raw = np.round(rng.beta(1, 2, n), 3)
    return raw, np.clip(raw**bent + rng.normal(0, 0.1, n), 0, 1)


@pytest.mark.parametrize(
    ("values", "weights", "expected"),
    [
        ([1, 2, 3], [1, 1, 1], [1, 2, 3]),
        ([3, 2, 1], [1, 1, 1], [2, 2, 2]),
        ([1, 3, 2], [1, 1, 1], [1, 2.5, 2.5]),
        ([1, 3, 2], [1, 3, 1], [1, 2.75, 2.75]),
        ([1, 5, 4, 0], [1, 1, 1, 1], [1, 3, 3, 3]),  # the last drags two blocks down
        ([0.5], [7], [0.5]),
    ],
)
def test_isotonic_by_hand(values: list[float], weights: list[float], expected: list[float]) -> None:
    np.testing.assert_allclose(isotonic(np.array(values, float), np.array(weights, float)), expected)


@pytest.mark.parametrize("seed", range(3))
def test_isotonic_equals_scikit_learn(seed: int) -> None:
    oracle = pytest.importorskip("sklearn.isotonic")
    rng = np.random.default_rng(seed)
    values, weights = np.sort(rng.random(500)) + rng.normal(0, 0.3, 500), rng.integers(1, 9, 500).astype(float)
    expected = oracle.isotonic_regression(values, sample_weight=weights)
    np.testing.assert_allclose(isotonic(values, weights), expected, atol=1e-12)


def test_fit_by_hand() -> None:
    """0.2 and 0.4 violate the order: one flat piece at 0.35, whose ends differ by the tie's slope alone."""
    fitted = fit_calibration_map(
        [0.1, 0.2, 0.4, 0.9, 0.9], [0.1, 0.5, 0.2, 0.8, 1.0], [1, 1, 1, 2, 2], "isotonic", SETTING, "by hand"
    )
    assert fitted.x == pytest.approx((0.1, 0.2, 0.4, 0.9))
    assert fitted.y == pytest.approx((0.1, 0.35, 0.35 + 0.25e-6, 0.9), abs=1e-12)
    assert fitted.kind == "isotonic"
    assert (fitted.setting, fitted.data, fitted.poses, fitted.images) == (SETTING, "by hand", 5, 2)


@pytest.mark.parametrize("oks", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("n", [1, 2, 50])
def test_poses_that_are_all_alike(oks: float, n: int) -> None:
    fitted = fit_calibration_map(np.linspace(0, 1, n), np.full(n, oks), kind="isotonic")
    assert np.abs(fitted(np.linspace(-1, 2, 100)) - oks).max() < 2e-5
    assert (np.diff(fitted(np.linspace(-1, 2, 100))) > 0).all()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n", [200, 5000])
def test_fit_finds_the_expected_oks(n: int, seed: int) -> None:
    raw, oks = poses(n, seed)
    fitted = fit_calibration_map(raw, oks, kind="isotonic")
    assert len(fitted.x) <= 32
    assert (np.diff(fitted.x) >= MIN_STEP * np.ptp(fitted.x) * (1 - 1e-9)).all()
    assert (np.diff(fitted.y) >= fitted.tie_slope * np.diff(fitted.x) * (1 - 1e-6)).all()
    # Few knots are nearly as good as isotonic regression itself, and right on the average.
    order = np.argsort(raw, kind="stable")
    _, place, count = np.unique(raw, return_inverse=True, return_counts=True)
    best = isotonic(np.bincount(place, oks) / count, count.astype(float))[place]
    assert np.abs(fitted(raw) - best).mean() < 0.01
    assert abs(fitted(raw).mean() - oks.mean()) < 0.005
    assert np.abs(fitted(raw) - oks).mean() < np.abs(raw - oks).mean()
    again = fit_calibration_map(raw[order], oks[order], kind="isotonic")  # the order of the poses does not matter
    assert again.x == pytest.approx(fitted.x)


@pytest.mark.parametrize(
    ("raw", "oks"),
    [([], []), ([0.1], [0.1, 0.2]), ([0.1], [1.5]), ([0.1], [np.nan]), ([np.inf], [0.5]), ([[0.1]], [[0.2]])],
)
def test_a_fit_needs_poses(raw: list[float], oks: list[float]) -> None:
    with pytest.raises(InputError, match="calibration map is fitted on"):
        fit_calibration_map(raw, oks, kind="isotonic")


@pytest.mark.parametrize("kind", ["isotonic", "logistic"])
@pytest.mark.parametrize("spread", [1e-3, 1.0, 17.0])
def test_any_range_of_raw_scores(kind: str, spread: float) -> None:
    rng = np.random.default_rng(0)
    chance = rng.random(4000)
    oks = (rng.random(4000) < chance).astype(float)
    fitted = fit_calibration_map(spread * (chance - 0.3), oks, kind=kind)  # type: ignore[arg-type]
    assert fitted.kind == kind
    assert (np.diff(fitted(np.linspace(-2 * spread, 2 * spread, 999))) > 0).all()
    assert np.abs(fitted(spread * (chance - 0.3)) - chance).mean() < 0.04


def test_the_logistic_curve_is_found() -> None:
    rng = np.random.default_rng(1)
    raw = rng.uniform(0.02, 0.98, 20000)
    expected = 1 / (1 + np.exp(-(1.7 * np.log(raw / (1 - raw)) - 0.8)))
    fitted = fit_calibration_map(raw, (rng.random(20000) < expected).astype(float), kind="logistic")
    np.testing.assert_allclose(fitted(raw), expected, atol=0.02)


def test_a_score_that_falls_with_the_oks_becomes_its_mean() -> None:
    raw = np.linspace(0, 1, 400)
    fitted = fit_calibration_map(raw, 1 - raw, kind="logistic")
    assert np.ptp(fitted(raw)) < 1e-4
    assert fitted(0.5) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("images", "kind"), [(12, "logistic"), (3000, "isotonic")])
def test_few_images_get_a_curve_and_many_a_free_form(images: int, kind: str) -> None:
    """The truth is a step, which a logistic curve cannot be."""
    rng = np.random.default_rng(2)
    raw = rng.random(images)
    chance = np.where(raw < 0.5, 0.35, 0.65)
    fitted = fit_calibration_map(raw, (rng.random(images) < chance).astype(float), np.arange(images))
    assert fitted.kind == kind
    assert fitted.images == images


def test_folds_are_equally_full() -> None:
    counts = np.bincount(assign_folds(103, 10, seed=1))
    assert sorted(counts) == [10] * 7 + [11] * 3
