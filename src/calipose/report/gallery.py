"""The gallery: missed people, surprising poses, kinds of keypoint errors, annotations that may be wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from calipose.evaluation.evaluation import Evaluation
from calipose.evaluation.ground_truth import People
from calipose.evaluation.keypoint_errors import INVERSION, JITTER, KINDS, MISS, SWAP
from calipose.evaluation.matching import oks_matrix
from calipose.geometry import Floats, oks
from calipose.io.images import Image, read_image
from calipose.report.drawing import PANEL, draw_missed, draw_tile, draw_whole, jpeg, webp
from calipose.skeleton import Skeleton

MAX_TILES = 12  # of each section
MAX_KIND_TILES = 8  # of each kind of keypoint error
MAX_NAMES = 3  # of keypoints under a tile
SURE = 0.3  # calibrated score from which a false positive is suspected to be a person without annotation
NEAR_BOX = 0.3  # IoU
GAIN = 0.3  # of OKS by exchanging left and right
REST_GOOD, KEYPOINT_BAD, KEYPOINT_SURE = 0.8, 0.05, 0.5

SECTIONS = {
    "missed": (
        "Missed people",
        "Annotated people with whom no pose of score 0.05 or more is matched, the largest first: the one in the green"
        " box. On the right the poses found there, if any: they are matched with others, or too far off.",
    ),
    "duplicates": (
        "Duplicates",
        "Second poses of a person: another pose is matched with that person. They count as false positives; the OKS"
        " shown is that with the person. The highest scores first.",
    ),
    "over": (
        "Over-confident",
        "High score, low OKS: the poses with the largest calibrated score minus OKS. Duplicates are above.",
    ),
    "under": (
        "Under-confident",
        "Low score, high OKS: the poses with the largest OKS minus calibrated score.",
    ),
    **{
        KINDS[kind]: (heading, f"{rule} The poses with the most such keypoints, which are ringed.")
        for kind, heading, rule in (
            (INVERSION, "Inversions", "Keypoints on the mirror image's place of the same person, left for right."),
            (SWAP, "Swaps", "Keypoints on another person."),
            (MISS, "Misses", "Keypoints that are near no annotated one."),
            (JITTER, "Jitter", "Keypoints that are near their own place, but not on it."),
        )
    },
    "suspected": (
        "Annotations to look at",
        f"Suspected by one of three rules. “Nobody annotated”: score {SURE} or more, yet no annotated person has an OKS"
        f" of 0.1 with the pose or a box that overlaps its box by {NEAR_BOX} (IoU). “Left and right”: with the sides"
        f" exchanged the OKS would be 0.5 or more, and higher by {GAIN}. A keypoint's name: its score is"
        f" {KEYPOINT_SURE} or more, but it lies far from its annotation (similarity below {KEYPOINT_BAD}) although the"
        f" other keypoints agree ({REST_GOOD} or more). The model may be wrong as well: look.",
    ),
}


@dataclass(frozen=True)
class Tile:
    """One pose of the gallery, or one person whom no pose found.

    Attributes:
        row: of the pose in the matches; -1 for a missed person.
        reason: why it is shown, where the section does not say it.
        kind: of the keypoint errors that are ringed, an index of `KINDS`; -1 for none.
        image: index of a missed person's image, in the order of the ids.
        person: index of a missed person there.
    """

    row: int
    reason: str = ""
    kind: int = -1
    image: int = -1
    person: int = -1


def choose_tiles(evaluation: Evaluation, max_tiles: int = MAX_TILES) -> dict[str, list[Tile]]:
    """What each section of the gallery shows, worst first.

    A pose is over-confident, under-confident, a duplicate or suspected, never two of them; it may be among the kinds of
    keypoint errors besides.
    """
    score = evaluation.matches.score if evaluation.cross_fitted is None else evaluation.cross_fitted.score
    surprise = score - evaluation.matches.oks
    suspected = sorted(_suspects(evaluation, score), key=lambda tile: -score[tile.row])[:max_tiles]
    free = evaluation.shown.copy()
    free[[tile.row for tile in suspected]] = False
    second = np.flatnonzero(free & (evaluation.matches.duplicate_of >= 0))
    second = second[np.argsort(-score[second], kind="stable")][:max_tiles]
    free[evaluation.matches.duplicate_of >= 0] = False
    rows = np.flatnonzero(free)
    rows = rows[np.argsort(-surprise[rows], kind="stable")]
    over = [Tile(int(row)) for row in rows[:max_tiles] if surprise[row] > 0]
    under = [Tile(int(row)) for row in rows[::-1][:max_tiles] if surprise[row] < 0]
    return {
        "missed": _missed(evaluation)[:max_tiles],
        "duplicates": [Tile(int(row)) for row in second],
        "over": over,
        "under": under,
        **{KINDS[kind]: _of_kind(evaluation, kind) for kind in (INVERSION, SWAP, MISS, JITTER)},
        "suspected": suspected,
    }


def _missed(evaluation: Evaluation) -> list[Tile]:
    """People to find with whom no shown pose is matched, largest first."""
    found = set(evaluation.matches.person[evaluation.shown].tolist())
    tiles: list[tuple[float, Tile]] = []
    for index, people in enumerate(evaluation.truth.people):
        for person in np.flatnonzero(~people.ignored).tolist():
            if evaluation.first_person[index] + person in found:
                continue
            near = evaluation.oks[index][:, person].max(initial=0.0)
            reason = f"nearest pose: OKS {near:.2f}" if near >= 0.01 else "no pose near"
            tiles.append((-people.area[person], Tile(-1, reason, image=index, person=person)))
    return [tile for _, tile in sorted(tiles, key=lambda entry: entry[0])]


def _of_kind(evaluation: Evaluation, kind: int) -> list[Tile]:
    """The shown poses with the most keypoint errors of a kind; of equals those of higher score."""
    wrong = (evaluation.error_kinds == kind) & evaluation.shown[:, None]
    number = wrong.sum(1)
    order = np.lexsort((-evaluation.matches.score, -number))
    names = [name.replace("_", " ") for name in evaluation.skeleton.keypoints]
    tiles = []
    for row in order[:MAX_KIND_TILES].tolist():
        if number[row]:
            which = [names[k] for k in np.flatnonzero(wrong[row])]
            more = f" and {len(which) - MAX_NAMES} more" if len(which) > MAX_NAMES else ""
            tiles.append(Tile(row, ", ".join(which[:MAX_NAMES]) + more, kind))
    return tiles


def _suspects(evaluation: Evaluation, score: Floats) -> Iterator[Tile]:
    matches, skeleton = evaluation.matches, evaluation.skeleton
    keypoint_score = (
        matches.keypoint_scores if evaluation.cross_fitted is None else evaluation.cross_fitted.keypoint_scores
    )
    for row in np.flatnonzero(evaluation.shown).tolist():
        people = evaluation.truth.people[matches.image[row]]
        points = evaluation.keypoints_img[row]
        if matches.person[row] < 0:
            if score[row] >= SURE and not _near_person(points, people, skeleton):
                yield Tile(row, "no person annotated")
            continue
        person = matches.person[row] - evaluation.first_person[matches.image[row]]
        flipped = oks(points[skeleton.flip_index], people.keypoints_img[person], people.labelled[person],
                      people.area[person], skeleton.sigmas_array)  # fmt: skip
        if flipped >= 0.5 and flipped - matches.oks[row] >= GAIN:
            yield Tile(row, f"left and right? OKS {flipped:.2f} exchanged")
            continue
        similarity = matches.similarity[row]
        known = np.flatnonzero(np.isfinite(similarity))
        if not evaluation.has_keypoint_scores or len(known) < 5:
            continue
        worst = known[np.argmin(similarity[known])]
        rest = similarity[known[known != worst]].mean()
        if similarity[worst] < KEYPOINT_BAD and rest >= REST_GOOD and keypoint_score[row, worst] >= KEYPOINT_SURE:
            yield Tile(row, f"{skeleton.keypoints[worst].replace('_', ' ')}?")


def _near_person(points: Floats, people: People, skeleton: Skeleton) -> bool:
    """Whether an annotated person or crowd is where the pose (k, 2) is."""
    if len(people.area) == 0:
        return False
    if oks_matrix(points[None], people, skeleton).max() >= 0.1:
        return True
    low, high = np.nanmin(points, 0), np.nanmax(points, 0)
    corner, size = people.box[:, :2], people.box[:, 2:]
    sides = np.minimum(high, corner + size) - np.maximum(low, corner)
    inside = sides.clip(min=0).prod(-1)
    union = (high - low).prod() + size.prod(-1) - inside
    in_crowd = people.crowd & (inside >= NEAR_BOX * max((high - low).prod(), 1e-9))
    return bool(((inside >= NEAR_BOX * np.maximum(union, 1e-9)) | in_crowd).any())


def gallery(evaluation: Evaluation, images: Path) -> tuple[dict[str, list[str]], list[str]]:
    """Each section's tiles as HTML, and the whole images that they open, which stand at the page's end.

    Raises:
        ImageError: an image cannot be read.
    """
    truth = evaluation.truth.in_folder(images)
    chosen = choose_tiles(evaluation)

    def index_of(tile: Tile) -> int:
        return tile.image if tile.row < 0 else int(evaluation.matches.image[tile.row])

    tiles: dict[tuple[str, int], str] = {}
    whole = []
    for index in sorted({index_of(tile) for section in chosen.values() for tile in section}):
        file = images / truth.files[truth.image_ids[index]]
        image = read_image(file, ignore_orientation=True)  # annotations count in stored pixels
        whole.append(_whole(evaluation, index, image))
        for section, each in chosen.items():
            for place, tile in enumerate(each):
                if index_of(tile) == index:
                    tiles[section, place] = _tile(evaluation, tile, index, image)
    html = {section: [tiles[section, place] for place in range(len(each))] for section, each in chosen.items()}
    return html, whole


def _whole(evaluation: Evaluation, index: int, image: Image) -> str:
    drawing = draw_whole(evaluation, index, image)
    height, width = drawing.shape[:2]
    name = escape(evaluation.file_name(index))
    return (
        f'<figure popover id="image-{index}" class="whole"><img src="{webp(drawing)}" width="{width}" height="{height}"'
        f' loading="lazy" alt="{name} with the poses found"><figcaption><span class="file">{name}</span>: poses of'
        f' score 0.05 or more, and green boxes around annotated people <button popovertarget="image-{index}"'
        ' popovertargetaction="hide">Close</button></figcaption></figure>\n'
    )


def _tile(evaluation: Evaluation, tile: Tile, index: int, image: Image) -> str:
    row, matches = tile.row, evaluation.matches
    if row < 0:
        drawing, alt = draw_missed(evaluation, index, tile.person, image), "Right: the poses found."
        said = f"{np.sqrt(evaluation.truth.people[index].area[tile.person]):.0f} px<br><b>{escape(tile.reason)}</b>"
    else:
        marked = evaluation.error_kinds[row] == tile.kind if tile.kind >= 0 else None
        drawing, alt = draw_tile(evaluation, row, image, marked), "Right: the pose found."
        score = f"{matches.score[row]:.2f}"
        if evaluation.cross_fitted is not None:
            score += f" <small>(calibrated {evaluation.cross_fitted.score[row]:.2f})</small>"
        reason = f"<br><b>{escape(tile.reason)}</b>" if tile.reason else ""
        agreement = f"OKS {matches.oks[row]:.2f}"
        if matches.duplicate_of[row] >= 0:
            agreement = f"OKS {matches.duplicate_oks[row]:.2f}<br>duplicate: a better pose is matched with this person"
        elif matches.person[row] < 0 and not reason:
            agreement += "<br>false positive (background)"
        said = f"score {score} · {agreement}{reason}"
    return (
        f'<figure class="tile"><button popovertarget="image-{index}" title="Show the whole image">'
        f'<img src="{jpeg(drawing)}" width="{2 * PANEL}" height="{PANEL}" loading="lazy"'
        f' alt="Left: the annotation. {alt}"></button>'
        f'<figcaption><span class="file">{escape(evaluation.file_name(index))}</span><br>{said}</figcaption></figure>\n'
    )
