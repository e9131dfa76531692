"""Average precision of COCO keypoint results, with intervals over images.

The figures are pycocotools'; hotcoco computes them (`coco_ap`), and the tests compare both. A bootstrap needs AP
hundreds of times: each image's poses are matched once, here, and only the accumulation is repeated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from calipose.evaluation.coco_ap import coco_figures, detected_areas
from calipose.evaluation.ground_truth import (
    LARGEST_AREA,
    Flags,
    GroundTruth,
    GroundTruthSource,
    Integers,
    read_ground_truth,
)
from calipose.evaluation.matching import POSES_PER_IMAGE, greedy_match, oks_matrices
from calipose.evaluation.results import DetectedPoses, ResultsSource, read_results
from calipose.geometry import Floats
from calipose.skeleton import COCO_17, Skeleton

if TYPE_CHECKING:
    from rich.table import Table

OKS_THRESHOLDS = np.linspace(0.5, 0.95, 10)  # pycocotools' `Params`
RECALLS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class AveragePrecision:
    """COCO's figures for one results file, 0 to 1; nan where no person is to be found (pycocotools says -1).

    Attributes:
        ap: mean over the OKS thresholds 0.50 : 0.05 : 0.95.
        ap50: at OKS 0.50.
        ap75: at OKS 0.75.
        ap_medium: of people of 32^2 to 96^2 pixels.
        ap_large: of people from 96^2 pixels.
        ar: average recall over the thresholds.
        images: all images of the ground truth, with people or without.
        people: those with labelled keypoints that are no crowd.
        poses: entries of the results.
        interval: 95 % bootstrap interval of `ap` over images, None where not asked for.
        setting: what the figures hold for (flip, scales, short side), as the caller names it.

    Example:
        >>> figures = calipose.evaluate("annotations.json", "results.json", bootstrap=1000).ap
        >>> print(figures)  # AP, its interval and companions, with what they hold for
    """

    ap: float
    ap50: float
    ap75: float
    ap_medium: float
    ap_large: float
    ar: float
    images: int
    people: int
    poses: int
    interval: tuple[float, float] | None = None
    setting: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and strings, fit for JSON: nan becomes None."""
        entries = asdict(self) | {"interval": None if self.interval is None else list(self.interval)}
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value for name, value in entries.items()
        }

    def rows(self) -> list[tuple[str, str]]:
        """Names and values as a table shows them; no figure stands without its counts and setting."""
        figures = {"AP": self.ap, "AP50": self.ap50, "AP75": self.ap75, "APM": self.ap_medium}
        figures |= {"APL": self.ap_large, "AR": self.ar}
        rows = [(name, "-" if math.isnan(value) else f"{value:.3f}") for name, value in figures.items()]
        if self.interval:
            rows.insert(1, ("AP, 95 %", f"{self.interval[0]:.3f} to {self.interval[1]:.3f}"))
        rows += [(name, str(getattr(self, name))) for name in ("images", "people", "poses")]
        return rows + [(str(name), str(value)) for name, value in self.setting.items()]

    def __str__(self) -> str:
        width = max(len(name) for name, _ in self.rows())
        return "\n".join(f"{name:<{width}}  {value}" for name, value in self.rows())

    def __rich__(self) -> Table:
        from rich.table import Table

        table = Table("", "value")
        for row in self.rows():
            table.add_row(*row)
        return table


@dataclass(frozen=True)
class PairedDifference:
    """AP of results a minus AP of results b, with its 95 % bootstrap interval over the same images."""

    difference: float
    interval: tuple[float, float]
    ap_a: float
    ap_b: float
    images: int


def evaluate_results(
    ground_truth: GroundTruthSource,
    results: ResultsSource,
    skeleton: Skeleton = COCO_17,
    bootstrap: int = 0,
    seed: int = 0,
    setting: Mapping[str, Any] | None = None,
) -> AveragePrecision:
    """COCO's keypoint figures over all images of the ground truth.

    Args:
        ground_truth: a COCO file or its content.
        results: likewise; no results at all give AP 0.
        skeleton: of both.
        bootstrap: resamples of the images for the interval of AP, 0 for none.
        seed: of the resamples.
        setting: shown beside the figures.

    Raises:
        InputError: an entry of either file is wrong (see `read_ground_truth`, `read_results`).
    """
    truth = read_ground_truth(ground_truth, skeleton)
    return evaluate_found(truth, read_results(results, truth), bootstrap, seed, setting)


def evaluate_found(
    truth: GroundTruth,
    found: list[DetectedPoses],
    bootstrap: int = 0,
    seed: int = 0,
    setting: Mapping[str, Any] | None = None,
    table: MatchTable | None = None,
) -> AveragePrecision:
    """`evaluate_results` of files that were read already: the one place where AP and its companions are computed.

    Args:
        truth: the annotated people.
        found: the poses of each image.
        bootstrap: as `evaluate_results`.
        seed: likewise.
        setting: likewise.
        table: the matches at all thresholds, where they are there already; the bootstrap needs them.
    """
    figures = coco_figures(truth, found)
    interval = None
    if bootstrap:
        table = MatchTable.match(truth, found) if table is None else table
        samples = _resamples(len(found), bootstrap, seed)
        interval = middle_95([table.average_precision(copies) for copies in samples])
    return AveragePrecision(
        **figures._asdict(),
        images=len(found),
        people=int(truth.wanted.sum()),
        poses=sum(len(image.scores) for image in found),
        interval=interval,
        setting=dict(setting or {}),
    )


def paired_difference(
    ground_truth: GroundTruthSource,
    results_a: ResultsSource,
    results_b: ResultsSource,
    skeleton: Skeleton = COCO_17,
    bootstrap: int = 1000,
    seed: int = 0,
) -> PairedDifference:
    """Difference of AP between two results files; each resample takes the same images for both.

    Raises:
        InputError: as `evaluate_results`.
    """
    truth = read_ground_truth(ground_truth, skeleton)
    a, b = (MatchTable.match(truth, read_results(results, truth)) for results in (results_a, results_b))
    return difference_of(a, b, bootstrap, seed)


def difference_of(a: MatchTable, b: MatchTable, bootstrap: int = 1000, seed: int = 0) -> PairedDifference:
    """`paired_difference` of results that were matched already, with the same ground truth."""
    images = len(a.wanted)
    once = np.ones(images, np.int64)
    ap_a, ap_b = a.average_precision(once), b.average_precision(once)
    samples = _resamples(images, bootstrap, seed)
    interval = middle_95([a.average_precision(copies) - b.average_precision(copies) for copies in samples])
    return PairedDifference(ap_a - ap_b, interval, ap_a, ap_b, images)


@dataclass(frozen=True)
class MatchTable:
    """The evaluated poses of all images, best first.

    Attributes:
        image: (n,) index of the pose's image.
        hit: (10, n) matched at each OKS threshold.
        false: (10, n) a false positive there; neither of the two where the pose is ignored.
        wanted: (images,) people to find.
    """

    image: Integers
    hit: Flags
    false: Flags
    wanted: Integers

    @classmethod
    def match(cls, truth: GroundTruth, found: list[DetectedPoses], oks: list[Floats] | None = None) -> MatchTable:
        """Match the best 20 poses of each image (`COCOeval.evaluateImg`).

        Args:
            truth: the annotated people.
            found: the poses of each image.
            oks: what `oks_matrices` gives, where it is there already.
        """
        oks = oks_matrices(truth, found) if oks is None else oks
        # A person's index counts the people of all images; one more stands for background, which -1 finds.
        ignored, persons, offset = [], [], 0
        for people, similarity in zip(truth.people, oks, strict=True):
            ignored.append(people.ignored)
            match = greedy_match(similarity[:POSES_PER_IMAGE], ignored[-1], people.crowd, OKS_THRESHOLDS)
            persons.append(np.where(match < 0, -1, match + offset))
            offset += len(people.area)
        person = np.concatenate(persons, axis=1)
        best = [poses.keypoints_img[:POSES_PER_IMAGE] for poses in found]
        area = detected_areas(np.concatenate(best))
        hit = (person >= 0) & ~np.concatenate([*ignored, [False]])[person]
        false = (person < 0) & (area <= LARGEST_AREA)  # pycocotools ignores poses that are larger
        image = np.repeat(np.arange(len(found)), [len(poses) for poses in best])
        order = np.argsort(-np.concatenate([poses.scores[:POSES_PER_IMAGE] for poses in found]), kind="stable")
        wanted = np.array([(~flags).sum() for flags in ignored], np.int64)
        return cls(image[order], hit[:, order], false[:, order], wanted)

    def precision(self, copies: Integers) -> Floats:
        """`(10, 101)`: the best precision at each recall or beyond (`COCOeval.accumulate`).

        Image i stands `copies[i]` times. nan where there is no person to find.
        """
        people = int(copies @ self.wanted)
        if people == 0:
            return np.full((len(OKS_THRESHOLDS), len(RECALLS)), np.nan)
        # A hit that stands twice is one step of two people: between them, no precision is higher than after them.
        times = copies[self.image]
        hits, falses = (self.hit * times).cumsum(1), (self.false * times).cumsum(1)
        precision = hits / (hits + falses + np.spacing(1))
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        precision = np.pad(precision, ((0, 0), (0, 1)))  # 0 where a recall is never reached
        at = [np.searchsorted(recall, RECALLS, side="left") for recall in hits / people]
        return np.take_along_axis(precision, np.array(at), axis=1)

    def average_precision(self, copies: Integers) -> float:
        """AP, the mean of `precision`."""
        return float(self.precision(copies).mean())

    def recall(self, copies: Integers) -> Floats:
        """`(10,)`: the share of the people that is found; nan where there is no person to find."""
        people = int(copies @ self.wanted)
        return self.hit @ copies[self.image] / people if people else np.full(len(OKS_THRESHOLDS), np.nan)


def _resamples(images: int, number: int, seed: int) -> Integers:
    """`(number, images)`: how often each image stands in each sample drawn with replacement."""
    return np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=number)


def middle_95(values: ArrayLike) -> tuple[float, float]:
    """The middle 95 % of a bootstrap's figures; resamples that gave none, nan, do not count."""
    values = np.asarray(values, np.float64)
    finite = values[np.isfinite(values)]
    if len(finite) == 0:
        return math.nan, math.nan
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)
