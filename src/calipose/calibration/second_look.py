"""The score of a pose that was seen twice, from three numbers; and fitting it (numpy only).

The three are what the first look says of itself, how sure the second look is, and how far both agree. Their weights are
never negative: where nothing else differs, a pose of higher first score has a higher score. The result is a raw score
like any other; calibration maps it to the expected OKS.
"""

from __future__ import annotations

import sys
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from calipose.calibration.fit import LOGIT_CLIP, sigmoid
from calipose.calibration.maps import Stored
from calipose.errors import InputError
from calipose.geometry import Floats

MAX_SIZE = 4096  # of a crop's sides, in its pixels
RIDGE = 1.0  # weight of "no influence" in the fit, in poses
LARGEST = sys.float_info.max  # a bound, so that infinity and nan are refused
NotNegative = Annotated[float, msgspec.Meta(ge=0, le=LARGEST)]


class TwoLookScore(Stored, frozen=True, kw_only=True):
    """sigmoid(bias + first * logit(f) + confidence * logit(c) + agreement * a), a score in (0, 1).

    f is the first look's raw score, c the second look's confidence, a the agreement of both.

    Attributes:
        bias: the constant.
        first, confidence, agreement: the weights.
    """

    bias: Annotated[float, msgspec.Meta(ge=-LARGEST, le=LARGEST)]
    first: NotNegative
    confidence: NotNegative
    agreement: NotNegative

    def __call__(self, first: ArrayLike, confidence: ArrayLike, agreement: ArrayLike) -> Floats:
        """The score of any number of poses or keypoints, elementwise.

        Args:
            first: raw scores of the first look.
            confidence: of the second look, in [0, 1]; of a pose, the mean over its keypoints.
            agreement: exp(-d^2 / 2 s^2 k^2) of a keypoint's two places, in [0, 1]; of a pose, the mean over its
                keypoints.
        """
        columns = _columns(first, confidence, agreement)
        return sigmoid(columns @ np.array([self.first, self.confidence, self.agreement]) + self.bias)


class SecondLook(Stored, frozen=True, kw_only=True):
    """How a second look is taken, and what its result is worth.

    Attributes:
        crop: side of the square crop as a multiple of the longer side of the box around the first pose.
        size: side of the crop in its own pixels; 0 is the second network's own size.
        min_confidence: a keypoint of lower confidence stays where the first look saw it.
        pose: the score of a pose.
        keypoint: the score of a keypoint.

    Example:
        A wider crop, behind `onepass`:

        >>> look = SecondLook(crop=1.6)
        >>> predictor = calipose.Predictor("onepass", refiner=calipose.Refiner("thunder"), second_look=look)
    """

    crop: Annotated[float, msgspec.Meta(gt=0, le=100)] = 1.4
    size: Annotated[int, msgspec.Meta(ge=0, le=MAX_SIZE)] = 0
    min_confidence: Annotated[float, msgspec.Meta(ge=-LARGEST, le=LARGEST)] = 0.1
    pose: TwoLookScore = TwoLookScore(bias=0.0, first=0.6, confidence=0.8, agreement=1.3)
    keypoint: TwoLookScore = TwoLookScore(bias=0.0, first=0.6, confidence=0.8, agreement=1.3)


def fit_two_look_score(first: ArrayLike, confidence: ArrayLike, agreement: ArrayLike, oks: ArrayLike) -> TwoLookScore:
    """The weights of least cross-entropy, in which an OKS counts as that share of a success; none is negative.

    Args:
        first: (n,), raw scores of the first look.
        confidence: (n,), of the second look.
        agreement: (n,), of both.
        oks: (n,) of the same poses with their people, 0 for false positives; or the keypoints' similarities.

    Raises:
        InputError: there is nothing to fit on.
    """
    columns, target = _columns(first, confidence, agreement), np.asarray(oks, np.float64)
    if len(target) < 2 or columns.shape != (len(target), 3):
        raise InputError(f"a score of two looks is fitted on (n,) of everything, not {columns.shape}, {target.shape}")
    mean, spread = columns.mean(0), columns.std(0)
    standard = np.c_[(columns - mean) / np.where(spread > 0, spread, 1), np.ones(len(columns))]
    used = np.append(spread > 0, True)
    weights = np.zeros(4)
    while True:
        weights[:] = 0
        weights[used] = _logistic(standard[:, used], target)
        if (weights[:3] >= 0).all():
            break
        used[int(np.argmin(weights[:3]))] = False  # the most negative one has no influence; the others anew
    slopes = weights[:3] / np.where(spread > 0, spread, 1)
    return TwoLookScore(
        bias=float(weights[3] - slopes @ mean),
        first=float(slopes[0]),
        confidence=float(slopes[1]),
        agreement=float(slopes[2]),
    )


def _logistic(columns: Floats, target: Floats) -> Floats:
    """Weights of a logistic regression by Newton's method; the last column is the constant."""
    weights = np.zeros(columns.shape[1])
    ridge = np.append(np.full(len(weights) - 1, RIDGE), 1e-6)
    for _ in range(50):
        p = sigmoid(columns @ weights)
        slope = columns.T @ (target - p) - ridge * weights
        curve = (columns * (p * (1 - p))[:, None]).T @ columns + np.diag(ridge)
        step = np.linalg.solve(curve, slope)
        weights += step.clip(-2, 2)
        if np.abs(step).max() < 1e-9:
            break
    return weights


def _columns(first: ArrayLike, confidence: ArrayLike, agreement: ArrayLike) -> Floats:
    return np.stack([_logit(first), _logit(confidence), np.asarray(agreement, np.float64)], -1)


def _logit(share: ArrayLike) -> Floats:
    share = np.asarray(share, np.float64).clip(LOGIT_CLIP, 1 - LOGIT_CLIP)
    return np.asarray(np.log(share / (1 - share)))
