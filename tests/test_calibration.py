"""Score maps: strictly increasing, inverse, refusal of nonsense; the fit by hand and against scikit-learn."""

from typing import Any

import numpy as np
import pytest

from calipose.calibration import LEAST_STEP, TIE_SLOPE, ScoreMap, Setting, fit_score_map, isotonic
from calipose.errors import InputError

SETTING = Setting(short_side=512, flip=False, nms_threshold=0.3)
BENT = ScoreMap(x=(0.1, 0.4, 0.8), y=(0.05, 0.5, 0.7), setting=SETTING, data="val", poses=900, pictures=100)


def poses(n: int, seed: int, bent: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Raw scores, some of them equal, and an OKS that is a power of them, with noise."""
    rng = np.random.default_rng(seed)
    raw = np.round(rng.beta(1, 2, n), 3)
    return raw, np.clip(raw**bent + rng.normal(0, 0.1, n), 0, 1)


@pytest.mark.parametrize(
    ("raw", "score"),
    [
        (0.1, 0.05), (0.4, 0.5), (0.8, 0.7), (0.25, 0.275), (0.6, 0.6),
        (0.0, 0.05 - 1e-7), (-0.9, 0.05 - 1e-6), (1.8, 0.7 + 1e-6), (-np.inf, -np.inf),
    ],
)  # fmt: skip
def test_values(raw: float, score: float) -> None:
    assert BENT(raw) == pytest.approx(score, abs=1e-12)
    if np.isfinite(raw):
        assert BENT.inverse(score) == pytest.approx(raw, abs=1e-9)


def test_strictly_increasing_far_beyond_its_ends() -> None:
    raw = np.linspace(-5, 5, 10001)
    assert (np.diff(BENT(raw)) > 0).all()
    assert BENT(raw.reshape(-1, 1)).shape == (10001, 1)
    np.testing.assert_allclose(BENT.inverse(BENT(raw)), raw, atol=1e-8)


def test_identity() -> None:
    raw = np.array([-2.0, 0.3, 7.0, -np.inf])
    assert ScoreMap.identity().is_identity
    assert np.array_equal(ScoreMap.identity()(raw), raw)
    assert np.array_equal(ScoreMap.identity().inverse(raw), raw)
    assert not BENT.is_identity


@pytest.mark.parametrize("score_map", [ScoreMap.identity(), BENT])
def test_to_dict_and_back(score_map: ScoreMap) -> None:
    assert ScoreMap.from_dict(score_map.to_dict()) == score_map


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": [0.1, 0.4]}, "2 knots in x, 3 in y"),
        ({"x": [0.1, 0.4, 0.4]}, "x must be finite and strictly increasing"),
        ({"y": [0.1, 0.3, 0.2]}, "y must be finite and strictly increasing"),
        ({"y": [0.1, 0.3, 1.2]}, r"in \[0, 1\]"),
        ({"y": [-0.1, 0.3, 0.9]}, r"in \[0, 1\]"),
        ({"x": [0.1, 0.4, float("nan")]}, "x must be finite"),
        ({"y": "high"}, "array"),
        ({"slope": 1}, "unknown field `slope`"),
        ({"poses": -1}, "poses"),
        ({"setting": {"short_side": 512}}, "missing"),
    ],
)
def test_nonsense_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as raised:
        ScoreMap.from_dict(BENT.to_dict() | change, "file.safetensors")
    assert "file.safetensors" in str(raised.value)


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
    fitted = fit_score_map([0.1, 0.2, 0.4, 0.9, 0.9], [0.1, 0.5, 0.2, 0.8, 1.0], SETTING, "by hand", 2)
    assert fitted.x == pytest.approx((0.1, 0.2, 0.4, 0.9))
    assert fitted.y == pytest.approx((0.1, 0.35, 0.35 + 0.2e-6, 0.9), abs=1e-12)
    assert (fitted.setting, fitted.data, fitted.poses, fitted.pictures) == (SETTING, "by hand", 5, 2)


@pytest.mark.parametrize("oks", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("n", [1, 2, 50])
def test_poses_that_are_all_alike(oks: float, n: int) -> None:
    fitted = fit_score_map(np.linspace(0, 1, n), np.full(n, oks), SETTING)
    assert np.abs(fitted(np.linspace(-1, 2, 100)) - oks).max() < 4e-6
    assert (np.diff(fitted(np.linspace(-1, 2, 100))) > 0).all()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n", [200, 5000])
def test_fit_finds_the_expected_oks(n: int, seed: int) -> None:
    raw, oks = poses(n, seed)
    fitted = fit_score_map(raw, oks, SETTING)
    assert len(fitted.x) <= 32
    assert (np.diff(fitted.x) >= LEAST_STEP * (1 - 1e-9)).all()
    assert (np.diff(fitted.y) >= TIE_SLOPE * np.diff(fitted.x) * (1 - 1e-6)).all()
    # Few knots are nearly as good as isotonic regression itself, and right on the average.
    order = np.argsort(raw, kind="stable")
    _, place, count = np.unique(raw, return_inverse=True, return_counts=True)
    best = isotonic(np.bincount(place, oks) / count, count.astype(float))[place]
    assert np.abs(fitted(raw) - best).mean() < 0.01
    assert abs(fitted(raw).mean() - oks.mean()) < 0.005
    assert np.abs(fitted(raw) - oks).mean() < np.abs(raw - oks).mean()
    again = fit_score_map(raw[order], oks[order], SETTING)  # the order of the poses does not matter
    assert again.x == pytest.approx(fitted.x)


@pytest.mark.parametrize(
    ("raw", "oks"),
    [([], []), ([0.1], [0.1, 0.2]), ([0.1], [1.5]), ([0.1], [np.nan]), ([np.inf], [0.5]), ([[0.1]], [[0.2]])],
)
def test_a_fit_needs_poses(raw: list[float], oks: list[float]) -> None:
    with pytest.raises(InputError, match="score map is fitted on"):
        fit_score_map(raw, oks, SETTING)
