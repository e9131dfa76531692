"""Score thresholds for a target precision: "95 % of the poses kept have OKS 0.75 or more" (numpy only)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from calipose.calibration.isotonic import isotonic
from calipose.calibration.within_images import WithinImages
from calipose.errors import InputError
from calipose.geometry import Floats

CONFIDENCE = 0.95  # of the one-sided bound
OKS_LEVELS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))  # those of COCO's AP
MAX_THRESHOLDS = 200
STARTS = 3  # of the search for a threshold
EACH = (1 - CONFIDENCE) / STARTS  # chance of an error in the search from one start
TARGET = re.compile(r"(0?\.\d+|0|1(?:\.0*)?)@(0?\.\d+)")

Count = Annotated[int, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


@dataclass(frozen=True)
class PrecisionTarget:
    """That a share `precision` of the poses kept have an OKS of at least `oks`; written "0.95@0.75"."""

    precision: float
    oks: float

    @classmethod
    def parse(cls, text: str) -> PrecisionTarget:
        """From text such as "0.95@0.75".

        Raises:
            InputError: not of that form, no share between 0 and 1, or an OKS other than 0.5, 0.55, ... 0.95.
        """
        found = TARGET.fullmatch(text.strip())
        if not found:
            raise InputError(f"precision '{text}': write SHARE@OKS, for example 0.95@0.75")
        precision, oks = float(found[1]), float(found[2])
        if not 0 < precision < 1:
            raise InputError(f"precision '{text}': the share before the @ lies between 0 and 1")
        if oks not in OKS_LEVELS:
            raise InputError(f"precision '{text}': the OKS after the @ is one of 0.5, 0.55, ... 0.95")
        return cls(precision, oks)

    def __str__(self) -> str:
        return f"{self.precision:g}@{self.oks:g}"


@dataclass(frozen=True)
class ScoreThreshold:
    """What the calibration data say of keeping the poses from a raw score on.

    Attributes:
        raw: the threshold.
        poses, images: kept of the calibration data, and images that have such poses.
        precision: share of the poses kept that have the target's OKS.
        bound: lower bound of the precision, with a confidence of 95 %.
        recall: share of the annotated people found with that OKS; `full_recall`, that of all poses.
    """

    raw: float
    poses: int
    images: int
    precision: float
    bound: float
    recall: float
    full_recall: float


class PrecisionTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Counts over the calibration data from which thresholds are chosen.

    Attributes:
        raw: raw scores, falling.
        poses, images: poses with at least that score, and the images they are in.
        trials: as how many independent poses these count if those of an image are all alike: Kish's effective number
            of images, (sum of poses)^2 / sum of squares over images.
        alike: how alike they are, for each of `OKS_LEVELS`: the correlation within images of being correct, less what
            the score says of it. Empty in files of earlier versions, where it counts as 1.
        num_correct: of these poses, those with an OKS of at least each of `OKS_LEVELS`.
        people: annotated.
    """

    raw: tuple[float, ...] = ()
    poses: tuple[Count, ...] = ()
    images: tuple[Count, ...] = ()
    trials: tuple[Count, ...] = ()
    num_correct: tuple[tuple[Count, ...], ...] = ()
    people: Count = 0
    alike: tuple[Share, ...] = ()

    def __post_init__(self) -> None:
        lengths = {len(column) for column in (self.raw, self.poses, self.images, self.trials, *self.num_correct)}
        if len(self.alike) not in {0, len(OKS_LEVELS)}:
            raise InputError(f"precision table: {len(self.alike)} numbers in 'alike'; calibrate again")
        if len(self.num_correct) not in {0, len(OKS_LEVELS)} or (self.raw and lengths != {len(self.raw)}):
            raise InputError("precision table: its columns are not of equal length; calibrate again")

    @classmethod
    def count(cls, raw: ArrayLike, oks: ArrayLike, image: ArrayLike, people: int) -> PrecisionTable:
        """Count poses over falling score thresholds.

        Args:
            raw: (n,) raw scores of poses.
            oks: (n,) of the same poses.
            image: (n,) the image of each pose.
            people: annotated in all images.
        """
        raw, oks = np.asarray(raw, np.float64), np.asarray(oks, np.float64)
        order = np.argsort(-raw, kind="stable")
        falling, place = raw[order], np.unique(np.asarray(image)[order], return_inverse=True)[1]
        ends = np.flatnonzero(np.append(np.diff(falling) < 0, True)) if len(raw) else np.zeros(0, np.int64)
        if len(ends) > MAX_THRESHOLDS:
            ends = ends[np.linspace(0, len(ends) - 1, MAX_THRESHOLDS).round().astype(int)]
        each = [np.bincount(place[: end + 1]).astype(np.float64) for end in ends]  # poses of each image
        num_correct = (oks[order][None] >= np.array(OKS_LEVELS)[:, None]).cumsum(1)
        return cls(
            raw=tuple(falling[ends].tolist()),
            poses=tuple((ends + 1).tolist()),
            images=tuple(int((poses > 0).sum()) for poses in each),
            trials=tuple(int(poses.sum() ** 2 / (poses**2).sum()) for poses in each),
            num_correct=tuple(tuple(row[ends].tolist()) for row in num_correct),
            people=people,
            alike=tuple(likeness(raw, oks >= level, np.asarray(image)) for level in OKS_LEVELS),
        )

    def choose(self, target: PrecisionTarget) -> ScoreThreshold:
        """The smallest threshold from which on the data support the target, with a confidence of 95 % in all.

        Thresholds are tested one after the other, the stricter first, until one fails: fixed-sequence testing, with
        `STARTS` starts that depend on the number of images alone and share the error (Angelopoulos et al., Learn
        then test, 2021). So the best of many thresholds is not taken by chance.

        Raises:
            InputError: nothing was calibrated, or the data cannot support the target; says why.
        """
        if not self.raw:
            raise InputError(
                f"precision {target}: the model was never calibrated with this; calipose calibrate MODEL --data DATA"
            )
        chosen = self.search(target)
        num_correct = self.num_correct[OKS_LEVELS.index(target.oks)]
        if chosen >= 0:
            return self._threshold(chosen, target.oks)
        trials = self.independent(target.oks)
        most = max(range(len(self.raw)), key=lambda i: num_correct[i] / self.poses[i] * math.sqrt(trials[i]))
        best = self._threshold(most, target.oks)
        lesser = (
            PrecisionTarget(share / 20, target.oks) for share in range(19, 0, -1) if share / 20 < target.precision
        )
        possible = next((f"the most that it supports is {other}" for other in lesser if self.search(other) >= 0), "")
        raise InputError(
            f"precision {target}: the calibration data cannot support it. For example {_percent(best.precision)} of"
            f" {best.poses} poses in {best.images} images have OKS {target.oks:g}, from which at least"
            f" {_percent(best.bound)} follows with {_percent(CONFIDENCE)} confidence;"
            f" {possible or 'it supports no target precision at this OKS'}. More images to calibrate with support more"
        )

    def search(self, target: PrecisionTarget) -> int:
        """Position of the chosen threshold, -1 where the target is not supported."""
        return lowest_supported(self.shares(target.oks), self.independent(target.oks), target.precision)

    def shares(self, oks: float) -> Floats:
        """Share of correct poses from each raw score on, at an OKS of `OKS_LEVELS`, smoothed.

        A better score is not less often correct, so the counts are those of an isotonic fit: a few wrong poses among
        the best ones do not end the search for a threshold.
        """
        poses = np.array(self.poses, np.float64)
        steps = np.diff(poses, prepend=0)
        rates = np.diff(np.array(self.num_correct[OKS_LEVELS.index(oks)], np.float64), prepend=0) / steps
        smooth: Floats = np.cumsum(isotonic(rates[::-1], steps[::-1])[::-1] * steps) / poses
        return smooth

    def independent(self, oks: float) -> list[int]:
        """As how many independent poses those from each raw score on count, at an OKS of `OKS_LEVELS`.

        Their number by the design effect of images as clusters, 1 + (m - 1) alike, where m is the number of poses in a
        pose's image, on average over the poses (Kish, 1965).
        """
        alike = self.alike[OKS_LEVELS.index(oks)] if self.alike else 1.0
        return [
            max(trials, int(poses / (1 + (poses / trials - 1) * alike)))
            for poses, trials in zip(self.poses, self.trials, strict=True)
        ]

    def _threshold(self, i: int, oks: float) -> ScoreThreshold:
        """What the i-th threshold gives."""
        num_correct, trials = self.num_correct[OKS_LEVELS.index(oks)], self.independent(oks)[i]
        precision, people = num_correct[i] / self.poses[i], max(self.people, 1)
        hits = math.floor(float(self.shares(oks)[i]) * trials + 1e-9)
        bound = clopper_pearson_lower(hits, trials, 1 - EACH)
        recall, full = num_correct[i] / people, num_correct[-1] / people
        return ScoreThreshold(self.raw[i], self.poses[i], self.images[i], precision, bound, recall, full)


def lowest_supported(shares: ArrayLike, trials: Sequence[int], precision: float) -> int:
    """Position of the last threshold, of those from high to low, that a fixed-sequence test grants; -1 for none.

    Args:
        shares: (t,) of correct poses from each threshold on.
        trials: (t,) as how many independent poses they count.
        precision: that is asked for.
    """
    hits = [math.floor(share * n + 1e-9) for share, n in zip(np.asarray(shares).tolist(), trials, strict=True)]
    least = math.ceil(math.log(EACH) / math.log(precision))
    chosen = -1
    for start in range(STARTS):
        i = next((i for i, n in enumerate(trials) if n >= least * 2**start), len(hits))
        while i < len(hits) and hits[i] and binomial_tail(hits[i], trials[i], precision) <= EACH:
            chosen = max(chosen, i)
            i += 1
    return chosen


def likeness(raw: Floats, correct: NDArray[np.bool_], image: NDArray[Any]) -> float:
    """How alike poses of one image are in being correct, less what the score says of it; in [0, 1].

    The correlation of two poses of an image of correct - (isotonic fit of correct by score), and one standard error
    (jackknife over images) on top, since a likeness that is taken too low makes thresholds too low.

    Args:
        raw: (n,) raw scores.
        correct: (n,).
        image: (n,) the image of each pose.
    """
    order = np.argsort(raw, kind="stable")
    residual = np.empty(len(raw))
    residual[order] = correct[order] - isotonic(correct[order].astype(np.float64), np.ones(len(raw)))
    sums = WithinImages.of(residual, image)
    whole = sums.correlation()
    if math.isnan(whole):
        return 1.0  # one pose an image, or all are correct, or the score says which: nothing depends on it
    return min(max(whole + sums.standard_error(), 0.0), 1.0)


def binomial_tail(hits: int, trials: int, p: float) -> float:
    """P(`hits` or more of `trials`) where each has probability `p`, inside of (0, 1)."""
    i = np.arange(hits, trials + 1)
    log_factorial = np.cumsum(np.log(np.maximum(np.arange(trials + 1), 1)))
    log_choose = log_factorial[trials] - log_factorial[i] - log_factorial[trials - i]
    return float(np.exp(log_choose + i * math.log(p) + (trials - i) * math.log1p(-p)).sum())


def clopper_pearson_lower(hits: int, trials: int, confidence: float = CONFIDENCE) -> float:
    """One-sided lower bound of a probability after `hits` in `trials` (Clopper and Pearson, 1934)."""
    if hits <= 0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if binomial_tail(hits, trials, middle) < 1 - confidence else (low, middle)
    return low


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
