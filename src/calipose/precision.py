"""A threshold from a wish: "95 % of the poses kept shall have OKS 0.75 or more" (numpy only)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from calipose.errors import InputError

CONFIDENCE = 0.95  # of the one-sided bound
OKS_LEVELS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))  # those of COCO's AP
MOST_THRESHOLDS = 200
WISH = re.compile(r"(0?\.\d+|0|1(?:\.0*)?)@(0?\.\d+)")

Count = Annotated[int, msgspec.Meta(ge=0)]


@dataclass(frozen=True)
class Wish:
    """That a share `precision` of the poses kept have an OKS of at least `oks`; written "0.95@0.75"."""

    precision: float
    oks: float

    @classmethod
    def parse(cls, text: str) -> Wish:
        """From text such as "0.95@0.75".

        Raises:
            InputError: not of that form, no share between 0 and 1, or an OKS other than 0.5, 0.55, ... 0.95.
        """
        found = WISH.fullmatch(text.strip())
        if not found:
            raise InputError(f"precision '{text}': write PRECISION@OKS, for example 0.95@0.75")
        precision, oks = float(found[1]), float(found[2])
        if not 0 < precision < 1:
            raise InputError(f"precision '{text}': the share before the @ lies between 0 and 1")
        if oks not in OKS_LEVELS:
            raise InputError(f"precision '{text}': the OKS after the @ is one of 0.5, 0.55, ... 0.95")
        return cls(precision, oks)

    def __str__(self) -> str:
        return f"{self.precision:g}@{self.oks:g}"


@dataclass(frozen=True)
class Threshold:
    """What the calibration data say of keeping the poses from a raw score on.

    Attributes:
        raw: the threshold.
        poses, pictures: kept of the calibration data, and pictures that have such poses.
        precision: share of the poses kept with the wished OKS; `bound`, its lower bound with a confidence of 95 %.
        recall: share of the annotated people found with that OKS; `full_recall`, that of all poses.
    """

    raw: float
    poses: int
    pictures: int
    precision: float
    bound: float
    recall: float
    full_recall: float


class PrecisionTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Counts over the calibration data from which thresholds are chosen.

    Attributes:
        raw: raw scores, falling.
        poses, pictures: poses with at least that score, and the pictures they are in.
        right: of these poses, those with an OKS of at least each of `OKS_LEVELS`.
        people: annotated.
    """

    raw: tuple[float, ...] = ()
    poses: tuple[Count, ...] = ()
    pictures: tuple[Count, ...] = ()
    right: tuple[tuple[Count, ...], ...] = ()
    people: Count = 0

    def __post_init__(self) -> None:
        lengths = {len(self.raw), len(self.poses), len(self.pictures), *map(len, self.right)}
        if len(self.right) not in {0, len(OKS_LEVELS)} or (self.raw and lengths != {len(self.raw)}):
            raise InputError("precision table: its columns are not of equal length; calibrate again")

    @classmethod
    def of(cls, raw: ArrayLike, oks: ArrayLike, picture: ArrayLike, people: int) -> PrecisionTable:
        """Count. Args: `raw`, `oks`, `picture` (n,) of poses; `people` that were to be found."""
        raw, oks = np.asarray(raw, np.float64), np.asarray(oks, np.float64)
        order = np.argsort(-raw, kind="stable")
        falling = raw[order]
        last = np.flatnonzero(np.append(np.diff(falling) < 0, True)) if len(raw) else np.zeros(0, np.int64)
        _, first = np.unique(np.asarray(picture)[order], return_index=True)  # the pictures' best poses
        last = last[np.unique(np.linspace(0, max(len(last) - 1, 0), MOST_THRESHOLDS).round().astype(int))[: len(last)]]
        right = (oks[order][None] >= np.array(OKS_LEVELS)[:, None]).cumsum(1)
        return cls(
            raw=tuple(falling[last].tolist()),
            poses=tuple((last + 1).tolist()),
            pictures=tuple(np.searchsorted(np.sort(first), last, side="right").tolist()),
            right=tuple(tuple(row[last].tolist()) for row in right),
            people=people,
        )

    def at(self, wish: Wish) -> list[Threshold]:
        """What each threshold gives, the strictest first."""
        right: NDArray[np.int64] = np.array(self.right[OKS_LEVELS.index(wish.oks)], np.int64)
        people = max(self.people, 1)
        found = []
        for i, (raw, poses, pictures) in enumerate(zip(self.raw, self.poses, self.pictures, strict=True)):
            precision = int(right[i]) / poses
            # Poses of one picture are alike, so pictures are counted, not poses.
            bound = clopper_pearson_lower(math.floor(precision * pictures + 1e-9), pictures)
            recall, full = int(right[i]) / people, int(right[-1]) / people
            found.append(Threshold(raw, poses, pictures, precision, bound, recall, full))
        return found

    def choose(self, wish: Wish) -> Threshold:
        """The smallest threshold whose lower bound of the precision fulfils the wish.

        Raises:
            InputError: nothing was calibrated, or the data cannot support the wish; says why.
        """
        if not self.raw:
            raise InputError(
                f"precision {wish}: the model was never calibrated with this; calipose calibrate MODEL --data DATA"
            )
        every = self.at(wish)
        good = [one for one in every if one.bound >= wish.precision]
        if good:
            return good[-1]
        best = max(every, key=lambda one: one.bound)
        least = math.ceil(math.log(1 - CONFIDENCE) / math.log(wish.precision))
        raise InputError(
            f"precision {wish}: the calibration data cannot support it. At best {_percent(best.precision)} of"
            f" {best.poses} poses in {best.pictures} pictures have OKS {wish.oks:g}, from which at least"
            f" {_percent(best.bound)} follows with {_percent(CONFIDENCE)} confidence. Even without an error {least}"
            " pictures with such poses are needed; wish less, or calibrate with more pictures"
        )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def clopper_pearson_lower(hits: int, trials: int, confidence: float = CONFIDENCE) -> float:
    """One-sided lower bound of a probability after `hits` in `trials` (Clopper and Pearson, 1934)."""
    if hits <= 0:
        return 0.0

    def at_least(p: float) -> float:
        """P(hits or more) of a binomial."""
        logs = [
            math.lgamma(trials + 1) - math.lgamma(i + 1) - math.lgamma(trials - i + 1)
            + i * math.log(p) + (trials - i) * math.log1p(-p)
            for i in range(hits, trials + 1)
        ]  # fmt: skip
        return sum(map(math.exp, logs))

    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if at_least(middle) < 1 - confidence else (low, middle)
    return low
