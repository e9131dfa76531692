"""Average precision of COCO keypoint results, with intervals over pictures.

The figures are faster-coco-eval's. A bootstrap needs AP hundreds of times, so there each picture's poses are
matched once and only the accumulation is repeated; the tests hold both to pycocotools.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from calipose.errors import CaliposeError
from calipose.evaluation.coco_files import (
    LARGEST_AREA,
    Flags,
    Found,
    GroundTruth,
    GroundTruthSource,
    Integers,
    ResultsSource,
    read_ground_truth,
    read_results,
)
from calipose.evaluation.matching import POSES_PER_PICTURE, greedy_match, oks_matrix
from calipose.geometry import pose_area
from calipose.skeleton import COCO_17, Skeleton

if TYPE_CHECKING:
    from rich.table import Table

OKS_THRESHOLDS = np.linspace(0.5, 0.95, 10)  # pycocotools' `Params`
RECALLS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class AveragePrecision:
    """COCO's figures for one results file, 0 to 1; nan where there is nobody to find (pycocotools says -1).

    Attributes:
        ap, ap50, ap75, ap_medium, ap_large, ar: means over OKS 0.50 : 0.05 : 0.95 unless named.
        pictures: all pictures of the ground truth, with people or without.
        people: those with labelled keypoints that are no crowd.
        poses: entries of the results.
        interval: 95 % bootstrap interval of `ap` over pictures, None where not asked for.
        setting: what the figures hold for (flip, scales, short side), as the caller names it.
    """

    ap: float
    ap50: float
    ap75: float
    ap_medium: float
    ap_large: float
    ar: float
    pictures: int
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
        rows += [(name, str(getattr(self, name))) for name in ("pictures", "people", "poses")]
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
    """AP of results a minus AP of results b, with its 95 % bootstrap interval over the same pictures."""

    difference: float
    interval: tuple[float, float]
    ap_a: float
    ap_b: float
    pictures: int


def evaluate_results(
    ground_truth: GroundTruthSource,
    results: ResultsSource,
    skeleton: Skeleton = COCO_17,
    bootstrap: int = 0,
    seed: int = 0,
    setting: Mapping[str, Any] | None = None,
) -> AveragePrecision:
    """COCO's keypoint figures over all pictures of the ground truth.

    `ground_truth` and `results` are COCO files or their content; no results at all give AP 0. `bootstrap` is
    the number of resamples of the pictures for the interval of AP, 0 for none. `setting` is shown beside the
    figures.

    Raises:
        InputError: an entry of either file is wrong (see `read_ground_truth`, `read_results`).
        CaliposeError: faster-coco-eval is not installed.
    """
    truth = read_ground_truth(ground_truth, skeleton)
    found = read_results(results, truth)
    figures = _library_figures(truth, found)
    interval = None
    if bootstrap:
        table = MatchTable.of(truth, found)
        samples = _resamples(len(found), bootstrap, seed)
        interval = _interval([table.average_precision(copies) for copies in samples])
    return AveragePrecision(
        ap=figures["AP_all"],
        ap50=figures["AP_50"],
        ap75=figures["AP_75"],
        ap_medium=figures["AP_medium"],
        ap_large=figures["AP_large"],
        ar=figures["AR_all"],
        pictures=len(found),
        people=int(truth.wanted.sum()),
        poses=sum(len(picture.scores) for picture in found),
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
    """Difference of AP between two results files; each resample takes the same pictures for both.

    Raises:
        InputError: as `evaluate_results`.
    """
    truth = read_ground_truth(ground_truth, skeleton)
    a, b = (MatchTable.of(truth, read_results(results, truth)) for results in (results_a, results_b))
    pictures = len(truth.image_ids)
    once = np.ones(pictures, np.int64)
    ap_a, ap_b = a.average_precision(once), b.average_precision(once)
    samples = _resamples(pictures, bootstrap, seed)
    interval = _interval([a.average_precision(copies) - b.average_precision(copies) for copies in samples])
    return PairedDifference(ap_a - ap_b, interval, ap_a, ap_b, pictures)


@dataclass(frozen=True)
class MatchTable:
    """The evaluated poses of all pictures, best first.

    Attributes: `picture` (n,) position of the pose's picture; `hit`, `false` (10, n) at each OKS threshold
    (neither where the pose is ignored); `wanted` (pictures,) people to find.
    """

    picture: Integers
    hit: Flags
    false: Flags
    wanted: Integers

    @classmethod
    def of(cls, truth: GroundTruth, found: list[Found]) -> MatchTable:
        """Match the best 20 poses of each picture."""
        hits, falses, scores, pictures = [], [], [], []
        for i, (people, poses) in enumerate(zip(truth.people, found, strict=True)):
            keypoints = poses.keypoints_img[:POSES_PER_PICTURE]
            similarity = oks_matrix(keypoints, people, truth.skeleton)
            match = greedy_match(similarity, people.ignored, people.crowd, OKS_THRESHOLDS)
            ignored = np.append(people.ignored, False)[match]  # the last stands for nobody, -1
            hits.append((match >= 0) & ~ignored)
            falses.append((match < 0) & (_areas(keypoints) <= LARGEST_AREA))  # larger ones COCO ignores
            scores.append(poses.scores[:POSES_PER_PICTURE])
            pictures.append(np.full(len(keypoints), i))
        order = np.argsort(-np.concatenate(scores), kind="stable")
        hit, false = (np.concatenate(flags, axis=1)[:, order] for flags in (hits, falses))
        return cls(np.concatenate(pictures)[order], hit, false, truth.wanted)

    def average_precision(self, copies: Integers) -> float:
        """AP where picture i stands `copies[i]` times, nan if nobody is wanted (`COCOeval.accumulate`)."""
        people = int(copies @ self.wanted)
        if people == 0:
            return math.nan
        rank = np.repeat(np.arange(len(self.picture)), copies[self.picture])
        hits, falses = self.hit[:, rank].cumsum(1), self.false[:, rank].cumsum(1)
        precision = hits / (hits + falses + np.spacing(1))
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        precision = np.pad(precision, ((0, 0), (0, 1)))  # 0 where a recall is never reached
        at = [np.searchsorted(recall, RECALLS, side="left") for recall in hits / people]
        return float(np.take_along_axis(precision, np.array(at), axis=1).mean())


def _areas(keypoints: Any) -> Any:
    with np.errstate(over="ignore"):  # an absurdly large pose has an infinite area
        return pose_area(keypoints)


def _resamples(pictures: int, number: int, seed: int) -> Integers:
    """`(number, pictures)`: how often each picture stands in each sample drawn with replacement."""
    return np.random.default_rng(seed).multinomial(pictures, np.full(pictures, 1 / pictures), size=number)


def _interval(values: list[float]) -> tuple[float, float]:
    """The middle 95 %; resamples with nobody to find do not count."""
    finite = np.array(values)[np.isfinite(values)]
    if len(finite) == 0:
        return math.nan, math.nan
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)


def _library_figures(truth: GroundTruth, found: list[Found]) -> dict[str, float]:
    """faster-coco-eval's figures by its own names, nan where it says -1."""
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError:
        raise CaliposeError("evaluation needs faster-coco-eval: pip install 'calipose[evaluate]'") from None

    annotations: list[dict[str, Any]] = []
    poses: list[dict[str, Any]] = []
    # Ids count anew from 1: pycocotools takes an id of 0 for "unmatched", and files have ids twice.
    for image_id, people, picture in zip(truth.image_ids, truth.people, found, strict=True):
        common = {"image_id": image_id, "category_id": truth.category_id}
        joints = np.concatenate([people.keypoints_img, people.labelled[..., None]], axis=-1)
        for g, joint in enumerate(joints):
            annotations.append(
                common
                | {
                    "id": len(annotations) + 1,
                    "keypoints": joint.ravel().tolist(),
                    "num_keypoints": int(not people.ignored[g]),
                    "area": float(people.area[g]),
                    "bbox": people.box[g].tolist(),
                    "iscrowd": int(people.crowd[g]),
                }
            )
        joints = np.pad(picture.keypoints_img, ((0, 0), (0, 0), (0, 1)))
        for joint, score, area in zip(joints, picture.scores, _areas(picture.keypoints_img), strict=True):
            pose = {"id": len(poses) + 1, "keypoints": joint.ravel().tolist(), "iscrowd": 0}
            poses.append(common | pose | {"score": float(score), "area": float(area)})

    def silent(*_: object) -> None:
        """The library's progress lines."""

    head = {"images": [{"id": i} for i in truth.image_ids], "categories": [{"id": truth.category_id}]}
    data = [COCO(head | {"annotations": entries}, print_function=silent) for entries in (annotations, poses)]
    sigmas = truth.skeleton.sigmas_array
    evaluation = COCOeval_faster(*data, "keypoints", kpt_oks_sigmas=sigmas, print_function=silent)
    with np.errstate(over="ignore"):
        evaluation.run()
    return {name: value if value >= 0 else math.nan for name, value in evaluation.stats_as_dict.items()}
