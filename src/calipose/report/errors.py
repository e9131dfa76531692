"""What is wrong with joints: kinds of errors in the manner of COCO's keypoint analysis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from calipose.evaluation.ap import MatchTable
from calipose.evaluation.coco_files import Found, GroundTruth, Integers
from calipose.evaluation.matching import Matches
from calipose.geometry import Floats, keypoint_similarity

KINDS = ("good", "jitter", "inversion", "swap", "miss")
GOOD, JITTER, INVERSION, SWAP, MISS = range(len(KINDS))
GOOD_SIMILARITY, NEAR_SIMILARITY = 0.85, 0.5


def keypoint_error_kinds(truth: GroundTruth, matches: Matches, keypoints_img: Floats) -> Integers:
    """Kind of each joint of each pose: `(n, k)` positions in `KINDS`, -1 where it is not labelled or the pose nobody's.

    A predicted joint is compared with the annotated joint of its own name and with that one's mirror image, of its own
    person and of every other person in the image, by exp(-d^2 / 2 s^2 k^2) with that person's area. The nearest
    decides; of equals the first of this list:

    - good: its own, similarity 0.85 or more;
    - jitter: its own, 0.5 to 0.85;
    - inversion: the mirror image on its own person (left taken for right), 0.5 or more;
    - swap: a joint of another person, 0.5 or more;
    - miss: nothing within 0.5.

    Args: `keypoints_img` (n, k, 2) of the poses of `matches`.

    Source: Ronchi and Perona, Benchmarking and error diagnosis in multi-instance pose estimation, ICCV 2017,
    section 3.1, and their code, which decides by the nearest.
    """
    kinds = np.full(matches.similarity.shape, -1, np.int64)
    twin, sigmas = truth.skeleton.flip_index, truth.skeleton.sigmas_array
    before = 0
    for i, people in enumerate(truth.people):
        rows = np.flatnonzero((matches.image == i) & (matches.person >= 0))
        own = matches.person[rows] - before
        before += len(people.area)
        if len(rows) == 0:
            continue
        points = np.stack([people.keypoints_img, people.keypoints_img[:, twin]])  # (2, g, k, 2)
        labelled = np.stack([people.labelled, people.labelled[:, twin]])
        with np.errstate(over="ignore"):
            d2 = ((keypoints_img[rows, None, None] - points) ** 2).sum(-1)  # (r, 2, g, k)
        near = np.where(labelled, keypoint_similarity(d2, people.area, sigmas), -1.0)
        each = np.arange(len(rows))
        best = near.max((1, 2))
        mine, mirrored = near[each, 0, own], near[each, 1, own]
        kind = np.where(mirrored == best, INVERSION, SWAP)
        kind = np.where(mine == best, np.where(mine >= GOOD_SIMILARITY, GOOD, JITTER), kind)
        kind[best < NEAR_SIMILARITY] = MISS
        kinds[rows] = np.where(people.labelled[own], kind, -1)
    return kinds


def kind_counts(kinds: Integers) -> Integers:
    """`(k, 5)`: joints of each name and kind."""
    return np.stack([(kinds == kind).sum(0) for kind in range(len(KINDS))], axis=1)


@dataclass(frozen=True)
class Repair:
    """What would be gained if one kind of error were gone: the figures then.

    Attributes: `name` of the repair; `ap`; `mean_oks` of the poses that are of a person.
    """

    name: str
    ap: float
    mean_oks: float


def repairs(
    truth: GroundTruth, found: Sequence[Found], matches: Matches, keypoints_img: Floats, kinds: Integers
) -> list[Repair]:
    """AP and mean OKS as they are, and with each kind of error repaired alone.

    A repaired joint lies exactly where it is annotated, which is more than a better network could give: an upper
    bound. "scores": each pose's score is its OKS. "background": poses of nobody are gone.

    Args: `keypoints_img` (n, k, 2) of the poses of `matches`; `kinds` as `keypoint_error_kinds` gives them.
    """
    once = np.ones(len(found), np.int64)
    entries = sum(len(image.entries) for image in found)
    annotated = np.concatenate([people.keypoints_img for people in truth.people])
    of_person = matches.person >= 0

    def precision(change: Callable[[Found], Found]) -> float:
        return MatchTable.of(truth, [change(image) for image in found]).average_precision(once)

    def mean_oks(right: Integers | None = None) -> float:
        similarity = matches.similarity[of_person]
        if right is not None:
            similarity = np.where(right[of_person], 1.0, similarity)
        return float(np.nanmean(similarity, axis=1).mean()) if of_person.any() else float("nan")

    made = [Repair("as it is", precision(lambda image: image), mean_oks())]
    for kind in (JITTER, INVERSION, SWAP, MISS):
        wrong = kinds == kind
        moved = np.full((entries, *keypoints_img.shape[1:]), np.nan)
        repaired = np.where(wrong[..., None], annotated[matches.person], keypoints_img) if len(annotated) else moved
        moved[matches.entry] = repaired

        def move(image: Found, moved: Floats = moved) -> Found:
            new = moved[image.entries]
            return replace(image, keypoints_img=np.where(np.isnan(new), image.keypoints_img, new))

        made.append(Repair(KINDS[kind], precision(move), mean_oks(wrong)))

    score = np.full(entries, np.nan)
    score[matches.entry] = matches.oks
    gone = np.zeros(entries, bool)
    gone[matches.entry[~of_person]] = True

    def rescored(image: Found) -> Found:
        new = np.where(np.isnan(score[image.entries]), image.scores, score[image.entries])
        return _chosen(replace(image, scores=new), np.argsort(-new, kind="stable"))

    made.append(Repair("scores", precision(rescored), mean_oks()))
    made.append(
        Repair(
            "background",
            precision(lambda image: _chosen(image, np.flatnonzero(~gone[image.entries]))),
            mean_oks(),
        )
    )
    return made


def _chosen(image: Found, rows: Integers) -> Found:
    """These poses, in this order."""
    return Found(image.keypoints_img[rows], image.keypoint_scores[rows], image.scores[rows], image.entries[rows])
