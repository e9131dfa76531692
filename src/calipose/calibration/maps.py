"""What a model's scores mean: the maps from its raw scores to the expected OKS (numpy only)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from calipose.calibration.precision import PrecisionTable
from calipose.calibration.regions import RegionMap
from calipose.calibration.shift import ImageSummaries
from calipose.errors import InputError
from calipose.geometry import Floats
from calipose.plain_data import convert

TIE_RISE = (
    1e-6  # of the map over its range where the data says "flat", and beyond its ends: a better score stays better
)

Count = Annotated[int, msgspec.Meta(ge=0)]


class Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base: immutable, kept in checkpoints and ONNX files as plain lists and numbers."""

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        return dict(msgspec.to_builtins(self))

    @classmethod
    def from_dict(cls, entries: object, source: str = "calibration") -> Self:
        """From plain lists and numbers; `source` is named in errors.

        Raises:
            InputError: a field is unknown or of the wrong type, or what is there contradicts itself.
        """
        return convert(entries, cls, source)


class Setting(Stored, frozen=True, kw_only=True):
    """How the poses were predicted that a calibration map was fitted on; it holds for that setting.

    Attributes:
        short_side: input pixels of an image's short side.
        flip: averaged with the mirrored image.
        scales: multiples of the short side whose poses are put together.
        nms_threshold: of the pose NMS.
        second_look: a second network has looked at each pose again.
    """

    short_side: Annotated[int, msgspec.Meta(ge=1)]
    flip: bool
    scales: tuple[float, ...] = (1.0,)
    nms_threshold: float
    second_look: bool = False

    def __str__(self) -> str:
        more = " with flip" if self.flip else ""
        if self.second_look:
            more += " with a second look"
        if self.scales != (1.0,):
            more += f" at scales {', '.join(f'{scale:g}' for scale in self.scales)}"
        return f"short side {self.short_side}{more}"


class CalibrationMap(Stored, frozen=True, kw_only=True):
    """A strictly increasing, piecewise linear map from raw score to expected OKS.

    Beyond the first and the last knot it goes on with a slope of 1e-6 over the knots' range, so it may leave [0, 1] by
    some millionths.
    Without knots it changes nothing: the scores are the network's own.

    Attributes:
        x: raw scores of the knots, strictly increasing.
        y: expected OKS at the knots, strictly increasing, in [0, 1].
        kind: how it was fitted: isotonic regression, or a logistic curve where there are few images.
        setting: for which the map holds; None where it is not known.
        data: name of the data set that it was fitted on.
        poses, images: how many it was fitted on.

    Raises:
        InputError: x and y do not fit together, or do not increase, or y leaves [0, 1].

    Example:
        A map of three knots:

        >>> straight = CalibrationMap(x=(0.0, 0.5, 1.0), y=(0.0, 0.3, 0.9), kind="isotonic")
        >>> straight([0.25, 0.5])
        array([0.15, 0.3 ])
    """

    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()
    kind: Literal["", "isotonic", "logistic"] = ""
    setting: Setting | None = None
    data: str = ""
    poses: Count = 0
    images: Count = 0

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise InputError(f"calibration map: {len(self.x)} knots in x, {len(self.y)} in y")
        for name, values in (("x", self.x), ("y", self.y)):
            if not np.isfinite(values).all() or not (np.diff(values) > 0).all():
                raise InputError(f"calibration map: {name} must be finite and strictly increasing")
        if self.y and not 0 <= self.y[0] <= self.y[-1] <= 1:
            raise InputError("calibration map: y is an expected OKS and must lie in [0, 1]")

    @classmethod
    def identity(cls) -> CalibrationMap:
        """The map that changes nothing.

        Returns:
            A map without knots.
        """
        return cls()

    @property
    def is_identity(self) -> bool:
        """True where nothing was fitted, so that the scores are the network's own."""
        return not self.x

    @property
    def tie_slope(self) -> float:
        """The least slope."""
        return tie_slope(self.x)

    def __call__(self, raw: ArrayLike) -> Floats:
        """Expected OKS of raw scores, any shape; -inf stays -inf."""
        raw = np.asarray(raw, np.float64)
        if self.is_identity:
            return raw.copy()
        beyond = np.minimum(raw - self.x[0], 0) + np.maximum(raw - self.x[-1], 0)
        mapped: Floats = np.interp(raw, self.x, self.y) + self.tie_slope * beyond
        return mapped

    def inverse(self, scores: ArrayLike) -> Floats:
        """The map the other way round: from calibrated to raw scores.

        Args:
            scores: calibrated scores, any shape.

        Returns:
            The raw scores that the map takes to `scores`, in the same shape.
        """
        scores = np.asarray(scores, np.float64)
        if self.is_identity:
            return scores.copy()
        beyond = np.minimum(scores - self.y[0], 0) + np.maximum(scores - self.y[-1], 0)
        raw: Floats = np.interp(scores, self.y, self.x) + beyond / self.tie_slope
        return raw


def tie_slope(x: Sequence[float] | Floats) -> float:
    """The least slope of a map with knots at raw scores `x`, rising."""
    return TIE_RISE / ((x[-1] - x[0]) or 1.0)


class Calibration(Stored, frozen=True, kw_only=True):
    """All that is known of a model's scores from images apart from its training; by default nothing.

    Attributes:
        score: raw score -> expected OKS.
        oks50, oks75: raw score -> probability that the OKS is at least 0.5, 0.75.
        keypoint: a keypoint's raw score -> its expected similarity exp(-d^2 / 2 s^2 k^2), given that the pose is
            of a person.
        precision: the counts from which thresholds are chosen.
        regions: where keypoints may be: radii in pixels.
        images: what was found in its images, to say whether others are like them.

    Example:
        >>> calibration = calipose.Predictor().calibration
        >>> calibration.score([0.3, 0.6, 0.9])  # the expected OKS of these raw scores
        >>> calibration.regions.max_coverage  # the most that `Poses.keypoint_radius_img` can be asked for
    """

    score: CalibrationMap = CalibrationMap()
    oks50: CalibrationMap = CalibrationMap()
    oks75: CalibrationMap = CalibrationMap()
    keypoint: CalibrationMap = CalibrationMap()
    precision: PrecisionTable = PrecisionTable()
    regions: RegionMap = RegionMap()
    images: ImageSummaries = ImageSummaries()

    @property
    def is_identity(self) -> bool:
        """True where nothing was fitted."""
        return self.score.is_identity

    def calibrate_keypoints(self, raw: ArrayLike) -> Floats:
        """Calibrate keypoint scores.

        A linear layer gives the raw scores, so they are clipped to [0, 1] before the map, and again after it, since the
        map may leave [0, 1] by some millionths. The graph of an ONNX file does the same.

        Args:
            raw: raw keypoint scores, any shape.

        Returns:
            Calibrated keypoint scores within 0 and 1, in the same shape.
        """
        calibrated: Floats = self.keypoint(np.asarray(raw, np.float64).clip(0, 1)).clip(0, 1)
        return calibrated
