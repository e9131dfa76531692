"""The map from a network's raw score to the expected OKS, and its fit (numpy only)."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from calipose.errors import InputError
from calipose.geometry import Floats

TIE_SLOPE = 1e-6  # of the map where the data says "flat", and beyond its ends: a better raw score is a better score
MOST_KNOTS = 32
LEAST_STEP = 1e-3  # between the knots' raw scores: a steeper map would turn rounding errors into other scores

Count = Annotated[int, msgspec.Meta(ge=0)]


class Setting(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the poses were predicted that a score map was fitted on; it holds for that setting.

    Attributes:
        short_side: input pixels of a picture's short side.
        flip: averaged with the mirrored picture.
        scales: number of input sizes merged.
        nms_threshold: of the pose NMS.
    """

    short_side: Annotated[int, msgspec.Meta(ge=1)]
    flip: bool
    scales: Annotated[int, msgspec.Meta(ge=1)] = 1
    nms_threshold: float


class ScoreMap(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A strictly increasing, piecewise linear map from raw score to expected OKS.

    Beyond the first and the last knot it goes on with a slope of 1e-6, so it may leave [0, 1] by some millionths.
    Without knots it changes nothing: the scores are the network's own.

    Attributes:
        x: raw scores of the knots, strictly increasing.
        y: expected OKS at the knots, strictly increasing, in [0, 1].
        setting: for which the map holds; None where it changes nothing.
        data: name of the data set that it was fitted on.
        poses, pictures: how many it was fitted on.

    Raises:
        InputError: x and y do not fit together, or do not increase, or y leaves [0, 1].
    """

    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()
    setting: Setting | None = None
    data: str = ""
    poses: Count = 0
    pictures: Count = 0

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise InputError(f"score map: {len(self.x)} knots in x, {len(self.y)} in y")
        for name, values in (("x", self.x), ("y", self.y)):
            if not np.isfinite(values).all() or not (np.diff(values) > 0).all():
                raise InputError(f"score map: {name} must be finite and strictly increasing")
        if self.y and not 0 <= self.y[0] <= self.y[-1] <= 1:
            raise InputError("score map: y is an expected OKS and must lie in [0, 1]")

    @classmethod
    def identity(cls) -> ScoreMap:
        """The map that changes nothing."""
        return cls()

    @property
    def is_identity(self) -> bool:
        """True where nothing was fitted, so that the scores are the network's own."""
        return not self.x

    def __call__(self, raw: ArrayLike) -> Floats:
        """Expected OKS of raw scores, any shape; -inf stays -inf."""
        raw = np.asarray(raw, np.float64)
        if self.is_identity:
            return raw.copy()
        beyond = np.minimum(raw - self.x[0], 0) + np.maximum(raw - self.x[-1], 0)
        mapped: Floats = np.interp(raw, self.x, self.y) + TIE_SLOPE * beyond
        return mapped

    def inverse(self, scores: ArrayLike) -> Floats:
        """Raw scores that the map gives these scores, any shape."""
        scores = np.asarray(scores, np.float64)
        if self.is_identity:
            return scores.copy()
        beyond = np.minimum(scores - self.y[0], 0) + np.maximum(scores - self.y[-1], 0)
        raw: Floats = np.interp(scores, self.y, self.x) + beyond / TIE_SLOPE
        return raw

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, as checkpoints and ONNX files hold them."""
        return dict(msgspec.to_builtins(self))

    @classmethod
    def from_dict(cls, entries: object, source: str = "score map") -> ScoreMap:
        """Score map from plain lists and numbers; `source` is named in errors.

        Raises:
            InputError: a field is unknown or of the wrong type, or the map contradicts itself.
        """
        try:
            return msgspec.convert(entries, cls)
        except msgspec.ValidationError as error:
            raise InputError(f"{source}: {error}") from None


def fit_score_map(
    raw: ArrayLike,
    oks: ArrayLike,
    setting: Setting,
    data: str = "",
    pictures: int = 0,
    most_knots: int = MOST_KNOTS,
) -> ScoreMap:
    """The increasing map that is nearest to the poses' OKS: isotonic regression, reduced to a few knots.

    Args: `raw` (p,) scores of the network; `oks` (p,) of the same poses, 0 for those that match nobody; the rest as
    in `ScoreMap`.

    Raises:
        InputError: no poses, or numbers that are not finite, or an OKS outside of [0, 1].
    """
    raw, oks = np.asarray(raw, np.float64), np.asarray(oks, np.float64)
    if raw.ndim != 1 or raw.shape != oks.shape or not len(raw):
        raise InputError(f"a score map is fitted on raw scores and OKS of the same poses, not {raw.shape}, {oks.shape}")
    if not np.isfinite(raw).all() or not ((oks >= 0) & (oks <= 1)).all():
        raise InputError("a score map is fitted on finite raw scores, and on OKS in [0, 1]")
    values, place, poses = np.unique(raw, return_inverse=True, return_counts=True)
    weights = poses.astype(np.float64)
    fitted = isotonic(np.bincount(place, oks) / weights, weights)
    rises = np.diff(fitted) > 0
    ends = np.append(True, rises) | np.append(rises, True)  # both ends of every flat piece
    x, y = _thin_out(values[ends], fitted[ends], np.cumsum(weights)[ends], most_knots)
    x, y = _strictly_increasing(x, y)
    return ScoreMap(
        x=tuple(x.tolist()), y=tuple(y.tolist()), setting=setting, data=data, poses=len(raw), pictures=pictures
    )


def isotonic(values: Floats, weights: Floats) -> Floats:
    """The non-decreasing sequence nearest to `values` (n,) in weighted least squares: pool adjacent violators.

    Source: Barlow et al., Statistical inference under order restrictions, 1972.
    """
    means: list[float] = []
    masses: list[float] = []
    lengths: list[int] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        mean, mass, length = value, weight, 1
        while means and means[-1] >= mean:  # the block before is not lower: one block of both
            before = masses.pop()
            mean = (mean * mass + means.pop() * before) / (mass + before)
            mass += before
            length += lengths.pop()
        means.append(mean)
        masses.append(mass)
        lengths.append(length)
    return np.repeat(means, lengths)


def _thin_out(x: Floats, y: Floats, poses: Floats, most: int) -> tuple[Floats, Floats]:
    """At most `most` knots: the one that matters least goes, until few are left.

    A knot matters by how far the map moves there without it, times the poses between its neighbours. `poses` counts
    those up to each knot.
    """
    while len(x) > max(most, 2):
        straight = y[:-2] + (y[2:] - y[:-2]) * (x[1:-1] - x[:-2]) / (x[2:] - x[:-2])
        least = 1 + int(np.argmin(np.abs(y[1:-1] - straight) * (poses[2:] - poses[:-2])))
        x, y, poses = (np.delete(values, least) for values in (x, y, poses))
    return x, y


def _strictly_increasing(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Knots moved as little as needed: x by steps of LEAST_STEP or more, y by slopes of TIE_SLOPE or more, y <= 1."""
    x, y = x.copy(), y.copy()
    for i in range(1, len(x)):
        x[i] = max(x[i], x[i - 1] + LEAST_STEP)
    y = np.minimum(y, 1 - TIE_SLOPE * (x[-1] - x))
    for i in range(1, len(y)):
        y[i] = max(y[i], y[i - 1] + TIE_SLOPE * (x[i] - x[i - 1]))
    return x, np.minimum(y, 1)
