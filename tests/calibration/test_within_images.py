"""The correlation of one image's poses, against its definition over all pairs."""

import math

import numpy as np
import pytest

from calipose.calibration.within_images import WithinImages


def data(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    image = rng.permutation(np.repeat(np.arange(40), rng.integers(1, 5, 40)))
    return rng.normal(size=40)[image] + rng.normal(size=len(image)), 7 * image


def by_pairs(residual: np.ndarray, image: np.ndarray) -> float:
    n = len(image)
    products = [residual[i] * residual[j] for i in range(n) for j in range(n) if i != j and image[i] == image[j]]
    return float(np.mean(products) / np.mean(residual**2))


def test_equals_the_mean_over_all_pairs() -> None:
    residual, image = data()
    assert WithinImages.of(residual, image).correlation() == pytest.approx(by_pairs(residual, image))


def test_draws_are_averaged() -> None:
    image = data()[1]
    draws = np.stack([residual[: len(image)] for residual in np.random.default_rng(1).normal(size=(3, len(image)))])
    numerator = np.mean([by_pairs(row, image) * np.mean(row**2) for row in draws])
    assert WithinImages.of(draws, image).correlation() == pytest.approx(numerator / np.mean(draws**2))


def test_the_error_is_that_of_leaving_out_each_image() -> None:
    residual, image = data()
    without = [by_pairs(residual[image != left], image[image != left]) for left in np.unique(image)]
    expected = math.sqrt((len(without) - 1) * np.var(without))
    assert WithinImages.of(residual, image).standard_error() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("residual", "image"),
    [([], []), ([1.0, -1.0], [0, 1]), ([0.0, 0.0, 0.0], [0, 0, 1])],
    ids=["none", "single", "zero"],
)
def test_not_defined(residual: list[float], image: list[int]) -> None:
    sums = WithinImages.of(residual, np.array(image, int))
    assert math.isnan(sums.correlation())
    assert math.isnan(sums.standard_error())
