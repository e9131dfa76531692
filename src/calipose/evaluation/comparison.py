"""Two results files side by side: the difference of their AP, and the images that it comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from calipose.draw import contact_sheet, draw_poses, save_image
from calipose.errors import InputError
from calipose.evaluation.ap import AveragePrecision, MatchTable, PairedDifference, difference_of
from calipose.evaluation.coco_ap import AT_50
from calipose.evaluation.evaluation import Evaluation
from calipose.evaluation.ground_truth import GroundTruth
from calipose.evaluation.matching import POSES_PER_IMAGE
from calipose.evaluation.results import DetectedPoses, drawable_poses
from calipose.evaluation.scores import ScoreDifference, ScoreFigures, score_differences, score_figures, with_chance
from calipose.geometry import Floats
from calipose.io.atomic import make_folder, write_errors
from calipose.io.images import Image, read_image
from calipose.poses import Poses

CELL_SIZE = (640, 480)  # pixels of an image on the sheets; COCO's are of about this size


@dataclass(frozen=True)
class Side:
    """What one results file has in one image.

    Attributes:
        found: people that one of the shown poses is matched with at OKS 0.5.
        false: shown poses that are false positives at OKS 0.5.
        share: the image's share of the file's AP (see `ap_shares`).
    """

    found: int
    false: int
    share: float


@dataclass(frozen=True)
class ImageChange:
    """One image in both files.

    Attributes:
        image_id: of the image.
        people: to be found in it.
        same: both files have the same poses there.
        a: what the first file has.
        b: what the second file has.
    """

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
        a: the figures of the first.
        b: the figures of the second.
        images: all images in the order of their ids.
        min_scores: of a and b. The shown poses are those of this score or more: as many as there are people to
            find, which shows as much of either although two models' scores mean different things. -inf where there
            are fewer poses than people.
        truth: the annotated people, for drawing.
        found: the poses of both, for drawing.
        scores: what the scores of a and of b are worth, of as many best poses as there are people to find: the scores
            need not mean the same, so a score that chooses poses would choose others of either.
        score_differences: of b minus a by the keys of `METRICS`, with 95 % intervals over the same images.

    Example:
        >>> old = calipose.evaluate("annotations.json", "old.json")
        >>> new = calipose.evaluate(old.truth, "new.json")
        >>> print(calipose.compare(old, new).verdict())
    """

    difference: PairedDifference
    a: AveragePrecision
    b: AveragePrecision
    images: tuple[ImageChange, ...]
    min_scores: tuple[float, float]
    truth: GroundTruth = field(repr=False)
    found: tuple[list[DetectedPoses], list[DetectedPoses]] = field(repr=False)
    scores: tuple[ScoreFigures, ...] = ()
    score_differences: Mapping[str, ScoreDifference] = field(default_factory=dict)

    def largest_changes(self, number: int = 10) -> tuple[list[ImageChange], list[ImageChange]]:
        """The images that speak most for either model.

        Where both have the same poses, shares differ only by what else the files hold; such images are left out.

        Args:
            number: at most so many images of either kind.

        Returns:
            The images where b gains most on a, and those where a gains most on b; each list has the greatest change
            first.
        """
        ordered = sorted((p for p in self.images if not p.same), key=lambda image: image.change)
        better = [image for image in ordered[::-1][:number] if image.change > 0]
        worse = [image for image in ordered[:number] if image.change < 0]
        return better, worse

    def verdict(self) -> str:
        """What the interval says, in a sentence.

        Returns:
            A sentence on the difference and its interval; points are hundredths of AP.
        """
        difference = 100 * self.difference.difference
        low, high = (100 * bound for bound in self.difference.interval)
        if math.isnan(difference):
            return "The ground truth has no people to find, so no figure says which is better."
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


def compare(a: Evaluation, b: Evaluation, bootstrap: int = 1000, seed: int = 0) -> Comparison:
    """Compare two evaluations of the same images: which is better, by how much, and in which images.

    Args:
        a: results of a model; see `evaluate`.
        b: results of another model.
        bootstrap: resamples of the images, each the same for both, for the 95 % interval of the difference.
        seed: of the resamples.

    Returns:
        The difference in AP with its interval, the differences of the score figures, and the change in each image.

    Raises:
        InputError: the two are not of the same ground truth.

    Example:
        >>> old = calipose.evaluate("annotations.json", "old.json")
        >>> new = calipose.evaluate(old.truth, "new.json")  # the annotations are read once
        >>> comparison = calipose.compare(old, new)
        >>> comparison.difference.difference, comparison.difference.interval
    """
    truth = a.truth
    if not _same_truth(truth, b.truth):
        raise InputError("the two evaluations are of different ground truths; evaluate both on the same file")
    people = int(truth.wanted.sum())
    min_scores = _min_score(a.found, people), _min_score(b.found, people)
    sides = [_sides(each.table, each.found, least) for each, least in zip((a, b), min_scores, strict=True)]
    same = [
        np.array_equal(in_a.keypoints_img, in_b.keypoints_img, equal_nan=True)
        and np.array_equal(in_a.scores, in_b.scores)
        for in_a, in_b in zip(a.found, b.found, strict=True)
    ]
    best_a, best_b = (each.matches[each.populations["people"]] for each in (a, b))
    return Comparison(
        difference=difference_of(b.table, a.table, bootstrap, seed),
        a=a.ap,
        b=b.ap,
        images=tuple(map(ImageChange, truth.image_ids, truth.wanted.tolist(), same, *sides)),
        min_scores=min_scores,
        truth=truth,
        found=(a.found, b.found),
        scores=tuple(with_chance(score_figures(matches), matches) for matches in (best_a, best_b)),
        score_differences=score_differences(best_a, best_b, len(truth.image_ids), bootstrap, seed),
    )


def _same_truth(a: GroundTruth, b: GroundTruth) -> bool:
    """Whether the figures of two results files can be compared."""
    if a is b:
        return True
    return a.image_ids == b.image_ids and all(
        np.array_equal(in_a.keypoints_img, in_b.keypoints_img) and np.array_equal(in_a.ignored, in_b.ignored)
        for in_a, in_b in zip(a.people, b.people, strict=True)
    )


def ap_shares(table: MatchTable) -> Floats:
    """`(images,)`: what each image brings to AP; the sum is AP as the mean of the precisions at all hits.

    AP at one OKS threshold is the sum over hits of tp / (tp + fp), divided by the number of people, where tp and fp
    count the poses down to that hit. An image's share is the derivative by its weight: each of its hits brings its
    own precision, and fp / (tp + fp)^2 to every hit from there on; each of its false poses takes tp / (tp + fp)^2
    from every hit below. So a false pose costs much where it stands above many right ones and nothing at the end of
    the list, whatever the scale of the scores, and a missed person brings nothing. COCO's AP is slightly higher than
    the sum: it takes the best precision at each recall or beyond. nan where there is no person to find.
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


def draw_changes(comparison: Comparison, images: str | Path, folder: str | Path, number: int = 10) -> list[Path]:
    """Write `b_better.jpg` and `a_better.jpg`: the annotated people, A and B of the images that changed most.

    The shown poses of A and B are drawn (see `Comparison`). A sheet without an image is not written, and an earlier
    one is removed.

    Args:
        comparison: of two evaluations, whose ground truth names the files of the images.
        images: folder of the images.
        folder: for the sheets; need not exist.
        number: images on a sheet.

    Raises:
        InputError: the ground truth does not name the files, or the folder cannot be written to.
        ImageError: an image cannot be read.
    """
    images, folder = Path(images), Path(folder)
    names: Mapping[int, str] = comparison.truth.in_folder(images).files
    chosen = comparison.largest_changes(number)
    for change in (*chosen[0], *chosen[1]):
        if change.image_id not in names:
            raise InputError(f"{comparison.truth.source}: image {change.image_id} has no 'file_name'; drawing needs it")
    make_folder(folder)
    written = []
    for name, changes in zip(("b_better.jpg", "a_better.jpg"), chosen, strict=True):
        with write_errors(folder / name):
            (folder / name).unlink(missing_ok=True)
        if changes:
            shown = [panels(comparison, change, images / names[change.image_id]) for change in changes]
            labels = [label for row in shown for _, label in row]
            sheet = contact_sheet([image for row in shown for image, _ in row], 3, CELL_SIZE, labels)
            save_image(folder / name, sheet)
            written.append(folder / name)
    return written


def panels(comparison: Comparison, change: ImageChange, file: Path) -> list[tuple[Image, str]]:
    """The annotated people, A and B of one image, with their labels.

    Args:
        comparison: of both.
        change: the image.
        file: where it lies.

    Raises:
        ImageError: it cannot be read.
    """
    image = read_image(file, ignore_orientation=True)
    size = (image.shape[1], image.shape[0])
    truth, index = comparison.truth, comparison.truth.position[change.image_id]
    people = truth.people[index]
    wanted = ~people.ignored
    annotated = Poses(
        people.keypoints_img[wanted], np.ones(wanted.sum()), size, people.labelled[wanted].astype(float), truth.skeleton
    )
    drawn = draw_poses(image, annotated, min_keypoint_score=0.5, show_scores=False)
    drawings = [(drawn, f"image {change.image_id}, annotated: {change.people}")]
    for letter, side, found, min_score in zip(
        "AB", (change.a, change.b), comparison.found, comparison.min_scores, strict=True
    ):
        best = found[index]
        shown = np.flatnonzero(best.scores[:POSES_PER_IMAGE] >= min_score)
        poses = drawable_poses(best.keypoints_img[shown], best.scores[shown], size, truth.skeleton)
        label = f"{letter}: {side.found} found, {side.false} false"
        drawings.append((draw_poses(image, poses, min_keypoint_score=0.5), label))
    return drawings


def _sides(table: MatchTable, found: list[DetectedPoses], min_score: float) -> list[Side]:
    """Each image's `Side` in one results file."""
    shown = sum(int((poses.scores[:POSES_PER_IMAGE] >= min_score).sum()) for poses in found)

    def in_each(flags: Any) -> Sequence[int]:
        counts: list[int] = np.bincount(table.image[:shown][flags], minlength=len(table.wanted)).tolist()
        return counts

    columns = in_each(table.hit[AT_50, :shown]), in_each(table.false[AT_50, :shown])
    return list(map(Side, *columns, ap_shares(table).tolist()))


def _min_score(found: list[DetectedPoses], people: int) -> float:
    """The score of pose number `people` in the order of scores, -inf where there are fewer poses."""
    scores = np.sort(np.concatenate([poses.scores[:POSES_PER_IMAGE] for poses in found]))[::-1]
    return float(scores[people - 1]) if 0 < people <= len(scores) else -math.inf
