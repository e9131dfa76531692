"""Fitting the map from raw score to expected OKS (numpy only).

Isotonic regression asks nothing of the map but that it rises, and needs many people for it; a logistic curve has two
numbers and needs few. Which of them is taken says the squared error on images left out of the fit.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calipose.calibration.isotonic import isotonic
from calipose.calibration.maps import CalibrationMap, Setting, tie_slope
from calipose.errors import InputError
from calipose.geometry import Floats

MAX_KNOTS = 32
EDGE = 1e-5  # how near scores come to 0 and 1
MIN_STEP = 1e-3  # between the knots, of the raw scores' range: a steeper map would turn rounding into other scores
FOLDS = 5  # of the images, to choose the kind of map with
PRIOR_POSES = 4.0  # weight of "the raw score is the expected OKS" in the logistic fit
LOGIT_CLIP = 0.01  # raw scores nearer to 0 and 1 count as this near

Kind = Literal["auto", "isotonic", "logistic"]


def fit_calibration_map(
    raw: ArrayLike,
    oks: ArrayLike,
    image: ArrayLike | None = None,
    kind: Kind = "auto",
    setting: Setting | None = None,
    data: str = "",
) -> CalibrationMap:
    """The increasing map from raw score to expected OKS.

    Args:
        raw: (n,) scores of the network.
        oks: (n,) of the same poses, 0 for false positives; or another target in [0, 1].
        image: (n,) the image of each pose; by default each pose is in an image of its own.
        kind: "auto" selects the map with the lower squared error in a cross-validation over images.
        setting: stored in the map.
        data: name of the data set, stored in the map.

    Raises:
        InputError: no poses, or numbers that are not finite, or an OKS outside of [0, 1].
    """
    raw, oks = np.asarray(raw, np.float64), np.asarray(oks, np.float64)
    if raw.ndim != 1 or raw.shape != oks.shape or not len(raw):
        raise InputError(
            f"a calibration map is fitted on raw scores and OKS of the same poses, not {raw.shape}, {oks.shape}"
        )
    if not np.isfinite(raw).all() or not ((oks >= 0) & (oks <= 1)).all():
        raise InputError("a calibration map is fitted on finite raw scores, and on OKS in [0, 1]")
    place = np.unique(np.arange(len(raw)) if image is None else np.asarray(image), return_inverse=True)[1]
    images = int(place.max()) + 1
    if kind == "auto":
        kind = _better_kind(raw, oks, place, images)
    x, y = _isotonic_knots(raw, oks) if kind == "isotonic" else _logistic_knots(raw, oks)
    x, y = _strictly_increasing(x, y)
    return CalibrationMap(
        x=tuple(x.tolist()),
        y=tuple(y.tolist()),
        kind=kind,
        setting=setting,
        data=data,
        poses=len(raw),
        images=images,
    )


def assign_folds(images: int, folds: int, seed: int = 0) -> NDArray[np.int64]:
    """A fold for each of `images`, all folds equally full."""
    return np.random.default_rng(seed).permutation(np.arange(images) % folds)


def _better_kind(raw: Floats, oks: Floats, place: NDArray[np.int64], images: int) -> Literal["isotonic", "logistic"]:
    """By the squared error on the images of each fold, of maps fitted on the other folds."""
    folds = min(FOLDS, images)
    if folds < 2:
        return "logistic"
    fold = assign_folds(images, folds)[place]
    error = {"isotonic": 0.0, "logistic": 0.0}
    for i in range(folds):
        here, others = fold == i, fold != i
        for kind, knots in (("isotonic", _isotonic_knots), ("logistic", _logistic_knots)):
            x, y = _strictly_increasing(*knots(raw[others], oks[others]))
            error[kind] += float(((np.interp(raw[here], x, y) - oks[here]) ** 2).sum())
    return "isotonic" if error["isotonic"] < error["logistic"] else "logistic"


def _isotonic_knots(raw: Floats, oks: Floats) -> tuple[Floats, Floats]:
    """Isotonic regression, reduced to a few knots."""
    values, place, poses = np.unique(raw, return_inverse=True, return_counts=True)
    weights = poses.astype(np.float64)
    fitted = isotonic(np.bincount(place, oks) / weights, weights)
    rises = np.diff(fitted) > 0
    ends = np.append(True, rises) | np.append(rises, True)  # both ends of every flat piece
    return _thin_out(values[ends], fitted[ends], np.cumsum(weights)[ends])


def _logistic_knots(raw: Floats, oks: Floats) -> tuple[Floats, Floats]:
    """Expected OKS = 1 / (1 + exp(-(a t + b))), at some raw scores; a > 0.

    t is the raw score's logit where raw scores look like a share, else the score itself. The cross-entropy, in which
    an OKS counts as that share of a success, is least; poses that say "score = OKS" are added as a prior, so that few
    poses do not make a step. Source: Platt, 1999; Kull et al., AISTATS 2017 for the logit.
    """
    share = raw.min() >= -0.25 and raw.max() <= 1.25 and np.ptp(raw) > 0.3

    def feature(values: Floats) -> Floats:
        if not share:
            return values
        values = values.clip(LOGIT_CLIP, 1 - LOGIT_CLIP)
        return np.asarray(np.log(values / (1 - values)))

    t, weight = feature(raw), np.ones(len(raw))
    if share:
        prior = np.linspace(0.05, 0.95, 19)
        t, oks = np.append(t, feature(prior)), np.append(oks, prior)
        weight = np.append(weight, np.full(len(prior), PRIOR_POSES / len(prior)))
    mean, spread = float(t.mean()), float(t.std()) or 1.0
    columns = np.stack([(t - mean) / spread, np.ones(len(t))], 1)
    a_b = np.array([1.0, 0.0])
    ridge = 1e-3 * np.eye(2)
    for _ in range(50):
        p = sigmoid(columns @ a_b)
        slope = columns.T @ (weight * (oks - p)) - ridge @ a_b
        curve = (columns * (weight * p * (1 - p))[:, None]).T @ columns + ridge
        step = np.linalg.solve(curve, slope)
        a_b += step.clip(-2, 2)
        if np.abs(step).max() < 1e-9:
            break
    a_b[0] = max(a_b[0], 0.0)  # a score that falls with the OKS is worth nothing; the map then is its mean
    # Half of the knots where the poses are, half where the curve may be.
    half = MAX_KNOTS // 2
    quantiles, even = np.quantile(raw, np.linspace(0, 1, half)), np.linspace(raw.min(), raw.max(), half)
    x = np.unique(np.concatenate([quantiles, even]))
    return x, sigmoid(a_b[0] * (feature(x) - mean) / spread + a_b[1])


def sigmoid(values: Floats) -> Floats:
    """1 / (1 + exp(-v)) of values v of any shape; beyond +-30 as there."""
    return np.asarray(1 / (1 + np.exp(-values.clip(-30, 30))))


def _thin_out(x: Floats, y: Floats, poses: Floats) -> tuple[Floats, Floats]:
    """At most MAX_KNOTS knots: the one that matters least goes, until few are left.

    A knot matters by how far the map moves there without it, times the poses between its neighbours. `poses` counts
    those up to each knot.
    """
    while len(x) > MAX_KNOTS:
        straight = y[:-2] + (y[2:] - y[:-2]) * (x[1:-1] - x[:-2]) / (x[2:] - x[:-2])
        least = 1 + int(np.argmin(np.abs(y[1:-1] - straight) * (poses[2:] - poses[:-2])))
        x, y, poses = (np.delete(values, least) for values in (x, y, poses))
    return x, y


def _strictly_increasing(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Knots moved as little as needed: x rises by MIN_STEP of its range or more, y by the least slope.

    y stays `EDGE` away from 0 and 1, so that scores do, too: beyond the knots the map goes on with the least slope.
    """
    x, y = x.copy(), y.copy()
    step = MIN_STEP * (x[-1] - x[0])
    for i in range(1, len(x)):
        x[i] = max(x[i], x[i - 1] + step)
    slope = tie_slope(x)
    y = np.clip(y, EDGE, 1 - EDGE - slope * (x[-1] - x))
    for i in range(1, len(y)):
        y[i] = max(y[i], y[i - 1] + slope * (x[i] - x[i - 1]))
    return x, np.minimum(y, 1 - EDGE)
