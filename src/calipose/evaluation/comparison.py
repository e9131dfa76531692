"""Two results files side by side: the difference of their AP, and the images that it comes from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from calipose.draw import contact_sheet, draw_poses, save_image
from calipose.errors import InputError
from calipose.evaluation.ap import (
    AT_50,
    AveragePrecision,
    MatchTable,
    PairedDifference,
    difference_of,
    evaluate_found,
    oks_matrices,
)
from calipose.evaluation.coco_files import (
    Found,
    GroundTruth,
    GroundTruthSource,
    ResultsSource,
    read_ground_truth,
    read_results,
)
from calipose.evaluation.matching import POSES_PER_IMAGE
from calipose.geometry import Floats
from calipose.io.atomic import write_errors
from calipose.io.images import Image, read_image
from calipose.poses import Poses
from calipose.skeleton import COCO_17, Skeleton

CELL_SIZE = (640, 480)  # pixels of an image on the sheets; COCO's are of about this size


@dataclass(frozen=True)
class Side:
    """What one results file has in one image.

    Attributes:
        found: people whom one of the shown poses has with OKS 0.5 or more.
        false: shown poses of nobody at OKS 0.5.
        share: the image's share of the file's AP (see `ap_shares`).
    """

    found: int
    false: int
    share: float


@dataclass(frozen=True)
class ImageChange:
    """One image in both files; `people` are those to be found, `same` says that both have the same poses there."""

    image_id: int
    people: int
    same: bool
    a: Side
    b: Side

    @property
    def change(self) -> float:
        """What the image adds to AP of b minus AP of a; above 0 where b is better."""
        return self.b.share - self.a.share


@dataclass(frozen=True)
class Comparison:
    """Results a and b on the same ground truth.

    Attributes:
        difference: AP of b minus AP of a (so b is its first), with its 95 % bootstrap interval over the same images.
        a, b: the figures of each.
        images: all images in the order of their ids.
        min_scores: of a and b. The shown poses are those of this score or more: as many as there are people to
            find, which shows as much of either although two models' scores mean different things. -inf where there
            are fewer poses than people.
        truth, found: what the files hold, for drawing.
    """

    difference: PairedDifference
    a: AveragePrecision
    b: AveragePrecision
    images: tuple[ImageChange, ...]
    min_scores: tuple[float, float]
    truth: GroundTruth = field(repr=False)
    found: tuple[list[Found], list[Found]] = field(repr=False)

    def largest_changes(self, number: int = 10) -> tuple[list[ImageChange], list[ImageChange]]:
        """The images where b gains most on a, and those where a does on b; the greatest change first.

        Where both have the same poses, shares differ only by what else the files hold; such images are left out.
        """
        ordered = sorted((p for p in self.images if not p.same), key=lambda image: image.change)
        better = [image for image in ordered[::-1][:number] if image.change > 0]
        worse = [image for image in ordered[:number] if image.change < 0]
        return better, worse

    def verdict(self) -> str:
        """What the interval says, in a sentence; points are hundredths of AP."""
        difference = 100 * self.difference.difference
        low, high = (100 * bound for bound in self.difference.interval)
        if math.isnan(difference):
            return "The ground truth has nobody to find, so no figure says which is better."
        if low == high == 0:
            return "A and B have the same AP, in every sample of the images."
        if low <= 0 <= high:
            return (
                f"The data cannot tell them apart: B minus A is {difference:+.1f} points of AP,"
                f" 95 % interval {low:+.1f} to {high:+.1f}."
            )
        near, far = sorted((abs(low), abs(high)))
        better = "B" if difference > 0 else "A"
        return f"{better} is better by {abs(difference):.1f} points of AP, 95 % interval {near:.1f} to {far:.1f}."


def compare_results(
    ground_truth: GroundTruthSource,
    results_a: ResultsSource,
    results_b: ResultsSource,
    skeleton: Skeleton = COCO_17,
    bootstrap: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Results a and b on one ground truth: COCO files or their content.

    `bootstrap` is the number of resamples of the images; each takes the same images for both.

    Raises:
        InputError: an entry of a file is wrong (see `read_ground_truth`, `read_results`).
    """
    truth = read_ground_truth(ground_truth, skeleton)
    found_a, found_b = (read_results(results, truth) for results in (results_a, results_b))
    oks_a, oks_b = (oks_matrices(truth, found) for found in (found_a, found_b))
    table_a, table_b = MatchTable.of(truth, found_a, oks_a), MatchTable.of(truth, found_b, oks_b)
    people = int(truth.wanted.sum())
    min_score_a, min_score_b = (_min_score(found, people) for found in (found_a, found_b))
    sides = _sides(table_a, found_a, min_score_a), _sides(table_b, found_b, min_score_b)
    same = [
        np.array_equal(of_a.keypoints_img, of_b.keypoints_img) and np.array_equal(of_a.scores, of_b.scores)
        for of_a, of_b in zip(found_a, found_b, strict=True)
    ]
    return Comparison(
        difference=difference_of(table_b, table_a, bootstrap, seed),
        a=evaluate_found(truth, found_a, oks=oks_a),
        b=evaluate_found(truth, found_b, oks=oks_b),
        images=tuple(map(ImageChange, truth.image_ids, truth.wanted.tolist(), same, *sides)),
        min_scores=(min_score_a, min_score_b),
        truth=truth,
        found=(found_a, found_b),
    )


def ap_shares(table: MatchTable) -> Floats:
    """`(images,)`: what each image brings to AP; the sum is AP as the mean of the precisions at all hits.

    AP at one OKS threshold is the sum over hits of tp / (tp + fp), divided by the number of people, where tp and fp
    count the poses down to that hit. An image's share is the derivative by its weight: each of its hits brings its
    own precision, and fp / (tp + fp)^2 to every hit from there on; each of its false poses takes tp / (tp + fp)^2
    from every hit below. So a false pose costs much where it stands above many right ones and nothing at the end of
    the list, whatever the scale of the scores, and a missed person brings nothing. COCO's AP is slightly higher than
    the sum: it takes the best precision at each recall or beyond. nan if nobody is wanted.
    """
    people = table.wanted.sum()
    if people == 0:
        return np.full(len(table.wanted), np.nan)
    hits, falses = table.hit.cumsum(1), table.false.cumsum(1)
    counted = np.maximum(hits + falses, 1)

    def from_here_on(values: Floats) -> Floats:
        """Sum over the hits at this rank and below."""
        return np.where(table.hit, values, 0.0)[:, ::-1].cumsum(1)[:, ::-1]

    gain = hits / counted + from_here_on(falses / counted**2)
    loss = from_here_on(hits / counted**2)
    brought = np.where(table.hit, gain, 0.0) - np.where(table.false, loss, 0.0)
    shares: Floats = np.bincount(table.image, brought.mean(0), len(table.wanted)) / people
    return shares


def draw_changes(
    comparison: Comparison, ground_truth: GroundTruthSource, images: str | Path, folder: str | Path, number: int = 10
) -> list[Path]:
    """Write `b_better.jpg` and `a_better.jpg`: the annotated people, A and B of the images that changed most.

    The shown poses of A and B are drawn (see `Comparison`). `ground_truth` is what `compare_results` was given; it
    names the files in `images`. A sheet without an image is not written, and an earlier one is removed.

    Raises:
        InputError: the ground truth does not name the files, or the folder cannot be written to.
        ImageError: an image cannot be read.
    """
    images, folder = Path(images), Path(folder)
    names = _file_names(ground_truth)
    chosen = comparison.largest_changes(number)
    for change in (*chosen[0], *chosen[1]):
        if change.image_id not in names:
            raise InputError(f"{ground_truth}: image {change.image_id} has no 'file_name'; drawing needs it")
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for name, changes in zip(("b_better.jpg", "a_better.jpg"), chosen, strict=True):
            (folder / name).unlink(missing_ok=True)
            if changes:
                panels = [_panels(comparison, change, images / names[change.image_id]) for change in changes]
                labels = [label for row in panels for _, label in row]
                sheet = contact_sheet([image for row in panels for image, _ in row], 3, CELL_SIZE, labels)
                save_image(folder / name, sheet)
                written.append(folder / name)
    return written


def _panels(comparison: Comparison, change: ImageChange, file: Path) -> list[tuple[Image, str]]:
    """The annotated people, A and B of one image, with their labels."""
    image = read_image(file, ignore_orientation=True)
    size = (image.shape[1], image.shape[0])
    truth, place = comparison.truth, comparison.truth.position[change.image_id]
    people = truth.people[place]
    wanted = ~people.ignored
    annotated = Poses(
        people.keypoints_img[wanted], np.ones(wanted.sum()), size, people.labelled[wanted].astype(float), truth.skeleton
    )
    drawn = draw_poses(image, annotated, min_keypoint_score=0.5, show_scores=False)
    panels = [(drawn, f"image {change.image_id}, annotated: {change.people}")]
    for letter, side, found, least in zip(
        "AB", (change.a, change.b), comparison.found, comparison.min_scores, strict=True
    ):
        best = found[place]
        shown = np.flatnonzero(best.scores[:POSES_PER_IMAGE] >= least)
        poses = Poses(best.keypoints_img[shown], best.scores[shown], size, skeleton=truth.skeleton)
        label = f"{letter}: {side.found} found, {side.false} false"
        panels.append((draw_poses(image, poses), label))
    return panels


def _sides(table: MatchTable, found: list[Found], min_score: float) -> list[Side]:
    """Each image's `Side` in one results file."""
    shown = sum(int((poses.scores[:POSES_PER_IMAGE] >= min_score).sum()) for poses in found)

    def in_each(flags: Any) -> Sequence[int]:
        counts: list[int] = np.bincount(table.image[:shown][flags], minlength=len(table.wanted)).tolist()
        return counts

    columns = in_each(table.hit[AT_50, :shown]), in_each(table.false[AT_50, :shown])
    return list(map(Side, *columns, ap_shares(table).tolist()))


def _min_score(found: list[Found], people: int) -> float:
    """The score of pose number `people` in the order of scores, -inf where there are fewer poses."""
    scores = np.sort(np.concatenate([poses.scores[:POSES_PER_IMAGE] for poses in found]))[::-1]
    return float(scores[people - 1]) if 0 < people <= len(scores) else -math.inf


def _file_names(ground_truth: GroundTruthSource) -> dict[int, str]:
    """Image id -> name of its file, of a COCO file that `read_ground_truth` accepts."""
    content = ground_truth
    if not isinstance(content, Mapping):
        content = json.loads(Path(content).read_text(encoding="utf-8"))
    return {image["id"]: str(image["file_name"]) for image in content["images"] if image.get("file_name")}
