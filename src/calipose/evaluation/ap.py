"""Average precision of COCO keypoint results, with intervals over pictures.

The figures themselves are faster-coco-eval's, whose own tests hold it to pycocotools. A bootstrap needs AP thousands of
times, so poses are matched here once a picture and only the accumulation is repeated; the tests hold both to the
library.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from calipose.errors import CaliposeError, InputError
from calipose.geometry import keypoint_similarity, oks, pose_area
from calipose.skeleton import COCO_17, Skeleton

if TYPE_CHECKING:
    from rich.table import Table

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]
GroundTruthSource = str | Path | Mapping[str, Any]
ResultsSource = str | Path | Sequence[Mapping[str, Any]]

# pycocotools' `Params.setKpParams`
POSES_PER_PICTURE = 20
OKS_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
LARGEST_AREA = 1e5**2  # pixels; a pose larger than this and without a person is not counted as false


class _Image(msgspec.Struct):
    id: int


class _Category(msgspec.Struct):
    id: int
    keypoints: list[str] | None = None


class _Annotation(msgspec.Struct):
    image_id: int
    category_id: int
    area: float
    keypoints: list[float] = []  # noqa: RUF012 - msgspec copies it
    bbox: tuple[float, float, float, float] | None = None
    num_keypoints: int | None = None
    iscrowd: int = 0


class _GroundTruthFile(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


class _Result(msgspec.Struct):
    image_id: int
    category_id: int
    keypoints: list[float]
    score: float


@dataclass(frozen=True)
class People:
    """The annotated people of one picture.

    Attributes: `keypoints_img` (g, k, 2); `labelled` (g, k); `area` (g,) pixels; `box` (g, 4) left, top, width, height;
    `crowd` (g,); `ignored` (g,): crowds and people without labelled keypoints, which COCO neither wants found nor
    punishes.
    """

    keypoints_img: Floats
    labelled: Flags
    area: Floats
    box: Floats
    crowd: Flags
    ignored: Flags


@dataclass(frozen=True)
class Found:
    """The poses of one picture, best first: `keypoints_img` (p, k, 2), `scores` (p,), `entries` (p,) in the file."""

    keypoints_img: Floats
    scores: Floats
    entries: Integers


@dataclass(frozen=True)
class GroundTruth:
    """All pictures of a COCO keypoint file in order of their ids, with their people."""

    image_ids: tuple[int, ...]
    category_id: int
    people: tuple[People, ...]
    skeleton: Skeleton

    @cached_property
    def position(self) -> dict[int, int]:
        """Picture id -> position in `image_ids`."""
        return {image_id: i for i, image_id in enumerate(self.image_ids)}

    @cached_property
    def wanted(self) -> Integers:
        """`(pictures,)`: people that count, those with labelled keypoints that are no crowd."""
        return np.array([(~p.ignored).sum() for p in self.people], np.int64)


def _load(source: Any, what: str, kind: Any) -> tuple[str, Any]:
    """A JSON file or plain objects -> name for errors, checked structs."""
    name = what
    if isinstance(source, str | Path):
        name = f"{what} {source}"
        try:
            source = json.loads(Path(source).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{name}: {error}") from None
    try:
        return name, msgspec.convert(source, kind)
    except msgspec.ValidationError as error:
        raise InputError(f"{name}: {error}") from None


def _by_picture(positions: Integers, pictures: int) -> list[Integers]:
    """Indices of the entries of each picture, in their order."""
    order = np.argsort(positions, kind="stable")
    return np.split(order, np.searchsorted(positions[order], np.arange(1, pictures)))


def read_ground_truth(source: GroundTruthSource, skeleton: Skeleton = COCO_17) -> GroundTruth:
    """A COCO keypoint file (or its content) as arrays; annotations of other categories are left out.

    Raises:
        InputError: unreadable; no pictures or one twice; not exactly one category with the skeleton's number of
            keypoints; an annotation with an unknown picture, a wrong number of keypoints, numbers that are not finite,
            or neither keypoints nor box.
    """
    name, content = _load(source, "ground truth", _GroundTruthFile)
    k = len(skeleton)
    fitting = [c.id for c in content.categories if c.keypoints is None or len(c.keypoints) == k]
    if len(fitting) != 1:
        raise InputError(
            f"{name}: {len(fitting)} categories with {k} keypoints; keep the one that skeleton '{skeleton.name}' fits"
        )
    image_ids = sorted(image.id for image in content.images)
    if not image_ids or len(set(image_ids)) != len(image_ids):
        raise InputError(f"{name}: 'images' is empty or has an id twice; list each picture once")
    position = {image_id: i for i, image_id in enumerate(image_ids)}

    triples, numbers, positions = [], [], []
    for i, entry in enumerate(content.annotations):
        if entry.category_id != fitting[0]:
            continue
        where = f"{name}: annotations[{i}]"
        if entry.image_id not in position:
            raise InputError(f"{where}: image_id {entry.image_id} is not among 'images'")
        triple = np.array(entry.keypoints or [0.0] * 3 * k, np.float64)
        if len(triple) != 3 * k:
            raise InputError(f"{where}: {len(triple)} numbers in 'keypoints'; {k} keypoints have {3 * k}")
        labelled = int((triple[2::3] > 0).sum())
        if entry.bbox is None and labelled == 0:
            raise InputError(f"{where}: neither labelled keypoints nor 'bbox'; give one of them")
        box = entry.bbox or (0.0, 0.0, 0.0, 0.0)
        if not (np.isfinite(triple).all() and np.isfinite(box).all() and 0 <= entry.area <= LARGEST_AREA):
            raise InputError(f"{where}: 'keypoints', 'bbox' or 'area' is not finite, or the area is negative or absurd")
        nobody = (labelled if entry.num_keypoints is None else entry.num_keypoints) == 0
        triples.append(triple)
        numbers.append([entry.area, *box, entry.iscrowd != 0, nobody or entry.iscrowd != 0])
        positions.append(position[entry.image_id])

    keypoints = np.array(triples, np.float64).reshape(-1, k, 3)
    table = np.array(numbers, np.float64).reshape(-1, 7)
    flags = table[:, 5:] > 0
    people = tuple(
        People(
            keypoints[i, :, :2], keypoints[i, :, 2] > 0, table[i, 0], table[i, 1:5], flags[i, 0], flags[i, 1]
        )
        for i in _by_picture(np.array(positions, np.int64), len(image_ids))
    )  # fmt: skip
    return GroundTruth(tuple(image_ids), fitting[0], people, skeleton)


def read_results(source: ResultsSource, truth: GroundTruth) -> list[Found]:
    """A COCO keypoint results file (or its entries), one `Found` a picture of the ground truth.

    Raises:
        InputError: unreadable, or an entry with an unknown picture or category, a wrong number of keypoints, or numbers
            that are not finite.
    """
    name, results = _load(source, "results", list[_Result])
    k = len(truth.skeleton)
    for i, entry in enumerate(results):
        where = f"{name}: entry {i}"
        if entry.image_id not in truth.position:
            raise InputError(f"{where}: image_id {entry.image_id} is not a picture of the ground truth; remove it")
        if entry.category_id != truth.category_id:
            raise InputError(f"{where}: category_id {entry.category_id}; the ground truth's is {truth.category_id}")
        if len(entry.keypoints) != 3 * k:
            raise InputError(
                f"{where}: {len(entry.keypoints)} numbers in 'keypoints'; skeleton '{truth.skeleton.name}' has {3 * k}"
            )
        if not (math.isfinite(entry.score) and all(map(math.isfinite, entry.keypoints))):
            raise InputError(f"{where}: 'score' or 'keypoints' is not finite; remove the entry or mend the model")
    keypoints = np.array([r.keypoints for r in results], np.float64).reshape(-1, k, 3)[..., :2]
    scores = np.array([r.score for r in results], np.float64)
    positions = np.array([truth.position[r.image_id] for r in results], np.int64)
    found = []
    for entries in _by_picture(positions, len(truth.image_ids)):
        best_first = entries[np.argsort(-scores[entries], kind="stable")]
        found.append(Found(keypoints[best_first], scores[best_first], best_first))
    return found


def oks_matrix(keypoints_img: Floats, people: People, skeleton: Skeleton) -> Floats:
    """OKS of poses `(p, k, 2)` with people: `(p, g)`.

    Where a person has no labelled joint, distances are those to the person's box made three times as wide and high
    about its centre, as in pycocotools' `computeOks`.
    """
    with np.errstate(over="ignore"):  # a joint very far off has OKS 0
        similarity = oks(
            keypoints_img[:, None], people.keypoints_img, people.labelled, people.area, skeleton.sigmas_array
        )
        for g in np.flatnonzero(~people.labelled.any(1)):
            corner, size = people.box[g, :2], people.box[g, 2:]
            outside = np.maximum(corner - size - keypoints_img, 0) + np.maximum(
                keypoints_img - corner - 2 * size, 0
            )
            terms = keypoint_similarity((outside**2).sum(-1), people.area[g], skeleton.sigmas_array)
            similarity[:, g] = terms.mean(-1)
    return similarity


def greedy_match(similarity: Floats, ignored: Flags, crowd: Flags, thresholds: Floats) -> Integers:
    """COCO's matching in one picture: each pose in turn takes the free person of highest OKS.

    A person is taken once, a crowd any number of times; an ignored person is taken only if no other will do. Of equal
    ones the last is taken (pycocotools' `evaluateImg`).

    Args: `similarity` (p, g), best pose first; `ignored`, `crowd` (g,); `thresholds` (t,) of the OKS.

    Returns: `(t, p)`, the person's index or -1.
    """
    poses, people = similarity.shape
    match = np.full((len(thresholds), poses), -1, np.int64)
    if people == 0:
        return match
    rows = np.arange(len(thresholds))
    least = np.minimum(thresholds, 1 - 1e-10)
    taken = np.zeros((len(thresholds), people), bool)
    for p in range(poses):
        for group in (~ignored, ignored):
            value = np.where(group & ~taken, similarity[p], -1.0)
            best = people - 1 - value[:, ::-1].argmax(1)
            match[:, p] = np.where((match[:, p] < 0) & (value[rows, best] >= least), best, match[:, p])
        matched = match[:, p] >= 0
        taken[rows[matched], match[matched, p]] = ~crowd[match[matched, p]]
    return match


@dataclass(frozen=True)
class MatchTable:
    """The evaluated poses of all pictures, best first.

    Attributes: `picture` (n,) position of the pose's picture; `hit`, `false` (10, n) at each OKS threshold (neither:
    ignored); `wanted` (pictures,) people to find.
    """

    picture: Integers
    hit: Flags
    false: Flags
    wanted: Integers

    @classmethod
    def of(cls, truth: GroundTruth, found: list[Found]) -> MatchTable:
        """Match each picture's best 20 poses."""
        hits, falses, scores, pictures = [], [], [], []
        for i, (people, poses) in enumerate(zip(truth.people, found, strict=True)):
            keypoints = poses.keypoints_img[:POSES_PER_PICTURE]
            similarity = oks_matrix(keypoints, people, truth.skeleton)
            match = greedy_match(similarity, people.ignored, people.crowd, OKS_THRESHOLDS)
            ignored = np.append(people.ignored, False)[match]  # index -1: unmatched
            hits.append((match >= 0) & ~ignored)
            with np.errstate(over="ignore"):
                falses.append((match < 0) & (pose_area(keypoints) <= LARGEST_AREA))
            scores.append(poses.scores[:POSES_PER_PICTURE])
            pictures.append(np.full(len(keypoints), i))
        order = np.argsort(-np.concatenate(scores), kind="stable")
        return cls(
            np.concatenate(pictures)[order],
            np.concatenate(hits, axis=1)[:, order],
            np.concatenate(falses, axis=1)[:, order],
            truth.wanted,
        )

    def average_precision(self, copies: Integers) -> float:
        """AP where picture i stands `copies[i]` times; nan if nobody is to be found (pycocotools' `accumulate`)."""
        people = int(copies @ self.wanted)
        if people == 0:
            return math.nan
        rank = np.repeat(np.arange(len(self.picture)), copies[self.picture])
        hits, falses = self.hit[:, rank].cumsum(1), self.false[:, rank].cumsum(1)
        precision = hits / (hits + falses + np.spacing(1))
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        precision = np.pad(precision, ((0, 0), (0, 1)))  # 0 at recalls that are not reached
        at = [np.searchsorted(recall, RECALLS, side="left") for recall in hits / people]
        return float(np.take_along_axis(precision, np.array(at), axis=1).mean())


def _resamples(pictures: int, number: int, seed: int) -> Integers:
    """`(number, pictures)`: how often each picture stands in each sample drawn with replacement."""
    return np.random.default_rng(seed).multinomial(pictures, np.full(pictures, 1 / pictures), size=number)


def _interval(values: list[float]) -> tuple[float, float]:
    """The middle 95 % of the resamples in which somebody is to be found."""
    finite = np.array(values)[np.isfinite(values)]
    if len(finite) == 0:
        return math.nan, math.nan
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True)
class AveragePrecision:
    """COCO's figures for one results file, between 0 and 1; nan where there is nobody to find (pycocotools says -1).

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
        entries = asdict(self) | {"interval": list(self.interval) if self.interval else None}
        return {name: None if value != value else value for name, value in entries.items()}

    def rows(self) -> list[tuple[str, str]]:
        """What a table shows: name and value, setting and counts last so that no figure stands without them."""
        names = {"AP": "ap", "AP50": "ap50", "AP75": "ap75", "APM": "ap_medium", "APL": "ap_large", "AR": "ar"}
        rows = [(name, f"{getattr(self, attribute):.3f}") for name, attribute in names.items()]
        if self.interval:
            rows.insert(1, ("95 % interval", f"{self.interval[0]:.3f} to {self.interval[1]:.3f}"))
        rows += [(name, f"{getattr(self, name)}") for name in ("pictures", "people", "poses")]
        return rows + [(str(name), str(value)) for name, value in self.setting.items()]

    def __str__(self) -> str:
        return "\n".join(f"{name:<16}{value}" for name, value in self.rows())

    def __rich__(self) -> Table:
        from rich.table import Table

        table = Table("figure", "value")
        for row in self.rows():
            table.add_row(*row)
        return table


@dataclass(frozen=True)
class PairedDifference:
    """AP of results a minus AP of results b on the same pictures, with its 95 % bootstrap interval over pictures."""

    difference: float
    interval: tuple[float, float]
    ap_a: float
    ap_b: float
    pictures: int


def _library_figures(truth: GroundTruth, found: list[Found]) -> dict[str, float]:
    """What faster-coco-eval says, by its names; -1 where there is nobody to find."""
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError:
        raise CaliposeError("evaluation needs faster-coco-eval: pip install 'calipose[evaluate]'") from None

    annotations: list[dict[str, Any]] = []
    poses: list[dict[str, Any]] = []
    # Ids are given anew from 1: to the library an id of 0 means "unmatched".
    for image_id, people, picture in zip(truth.image_ids, truth.people, found, strict=True):
        common = {"image_id": image_id, "category_id": truth.category_id}
        triples = np.concatenate([people.keypoints_img, people.labelled[..., None]], -1).reshape(-1, 3 * len(truth.skeleton))
        for g, triple in enumerate(triples):
            annotations.append(common | {
                "id": len(annotations) + 1, "keypoints": triple.tolist(), "area": float(people.area[g]),
                "bbox": people.box[g].tolist(), "iscrowd": int(people.crowd[g]),
                "num_keypoints": int(not people.ignored[g]),
            })  # fmt: skip
        triples = np.pad(picture.keypoints_img, ((0, 0), (0, 0), (0, 1))).reshape(-1, 3 * len(truth.skeleton))
        for triple, score, area in zip(triples, picture.scores, pose_area(picture.keypoints_img), strict=True):
            poses.append(common | {
                "id": len(poses) + 1, "keypoints": triple.tolist(), "score": float(score), "area": float(area), "iscrowd": 0,
            })  # fmt: skip

    def silent(*_: object) -> None: ...

    head = {"images": [{"id": i} for i in truth.image_ids], "categories": [{"id": truth.category_id}]}
    data = [COCO(head | {"annotations": entries}, print_function=silent) for entries in (annotations, poses)]
    evaluation = COCOeval_faster(
        *data, "keypoints", kpt_oks_sigmas=truth.skeleton.sigmas_array, print_function=silent
    )
    evaluation.run()
    return dict(evaluation.stats_as_dict)


def evaluate_results(
    ground_truth: GroundTruthSource,
    results: ResultsSource,
    skeleton: Skeleton = COCO_17,
    bootstrap: int = 0,
    seed: int = 0,
    setting: Mapping[str, Any] | None = None,
) -> AveragePrecision:
    """COCO's keypoint figures over all pictures of the ground truth.

    Args:
        ground_truth, results: COCO keypoint files, or their content. No results at all give AP 0.
        bootstrap: number of resamples of the pictures for the interval of AP; 0 for none.
        setting: shown beside the figures.

    Raises:
        InputError: an entry of either file is wrong (see `read_ground_truth`, `read_results`).
        CaliposeError: faster-coco-eval is not installed.
    """
    truth = read_ground_truth(ground_truth, skeleton)
    found = read_results(results, truth)
    with np.errstate(over="ignore"):
        figures = _library_figures(truth, found)
    interval = None
    if bootstrap:
        table = MatchTable.of(truth, found)
        samples = _resamples(len(found), bootstrap, seed)
        interval = _interval([table.average_precision(copies) for copies in samples])
    names = ("AP_all", "AP_50", "AP_75", "AP_medium", "AP_large", "AR_all")
    return AveragePrecision(
        *(figures[name] if figures[name] >= 0 else math.nan for name in names),
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
    """Difference of AP between two results files; both are resampled with the same pictures.

    Raises:
        InputError: as `evaluate_results`.
    """
    truth = read_ground_truth(ground_truth, skeleton)
    tables = [MatchTable.of(truth, read_results(results, truth)) for results in (results_a, results_b)]
    pictures = len(truth.image_ids)
    ap_a, ap_b = (table.average_precision(np.ones(pictures, np.int64)) for table in tables)
    samples = _resamples(pictures, bootstrap, seed)
    values = [tables[0].average_precision(copies) - tables[1].average_precision(copies) for copies in samples]
    return PairedDifference(ap_a - ap_b, _interval(values), ap_a, ap_b, pictures)
