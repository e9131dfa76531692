"""Poses of images as a pose model gives them, with a truth that is known: for simulations of tests and rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from calipose.evaluation.chance import normal_cdf

GOOD_OKS, SPREAD = 0.82, 8.0  # of matched poses: mean at low scores, and concentration of the beta distribution


@dataclass(frozen=True)
class SimulatedPoses:
    """Poses of some images.

    Attributes:
        score: (n,).
        mean: (n,) the expected OKS at that score, which nobody knows.
        oks: (n,).
        image: (n,).
    """

    score: np.ndarray
    mean: np.ndarray
    oks: np.ndarray
    image: np.ndarray


def poses_per_image(rng: np.random.Generator, images: int, mean: float = 3.0) -> np.ndarray:
    """As on COCO: most images hold one or two poses, a few hold twenty (negative binomial)."""
    return 1 + rng.negative_binomial(0.6, 0.6 / (0.6 + mean - 1), images).clip(max=19)


def simulate(
    rng: np.random.Generator,
    images: int,
    truth: Callable[[np.ndarray], np.ndarray] = lambda score: score,
    alike: float = 0.2,
    ease: float = 0.3,
    good: float = GOOD_OKS,
) -> SimulatedPoses:
    """Poses whose expected OKS is `truth(score)`.

    An OKS is 0 (false positive) or beta distributed about `good` or more, mixed to have the mean wanted. Whether it is
    0 correlates within images by `alike` (Gaussian copula); scores correlate within images by `ease`.
    """
    number = poses_per_image(rng, images)
    image = np.repeat(np.arange(images), number)
    n = len(image)
    logit = 1.6 * (np.sqrt(ease) * rng.standard_normal(images)[image] + np.sqrt(1 - ease) * rng.standard_normal(n))
    score = 0.95 / (1 + np.exp(-logit))
    mean = truth(score).clip(0, 1)
    hit = np.minimum(mean / good, 1)
    shared = np.sqrt(alike) * rng.standard_normal(images)[image]
    share = normal_cdf(shared + np.sqrt(1 - alike) * rng.standard_normal(n))
    matched = np.maximum(mean, good).clip(0.02, 0.98)
    oks = np.where(share > 1 - hit, rng.beta(SPREAD * matched, SPREAD * (1 - matched)), 0.0)
    return SimulatedPoses(score, mean, oks, image)
