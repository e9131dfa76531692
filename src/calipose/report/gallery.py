"""The gallery: poses whose score and OKS differ most, and annotations that may be wrong."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path

import cv2
import numpy as np

from calipose.draw import draw_poses
from calipose.evaluation.evaluation import Evaluation
from calipose.evaluation.ground_truth import People
from calipose.evaluation.matching import oks_matrix
from calipose.evaluation.results import drawable_poses
from calipose.geometry import Floats, apply_affine, oks, resize_affine
from calipose.io.images import Image, read_image, warp
from calipose.poses import Poses
from calipose.skeleton import Skeleton

PANEL = 200  # pixels; a tile has two: what is annotated, and what was found
MAX_TILES = 16  # of each section
QUALITY = 76  # of JPEG
MARGIN = 0.18  # around a person, of their longer side
SURE = 0.3  # calibrated score from which a false positive is suspected to be a person without annotation
NEAR_BOX = 0.3  # IoU
GAIN = 0.3  # of OKS by exchanging left and right
REST_GOOD, KEYPOINT_BAD, KEYPOINT_SURE = 0.8, 0.05, 0.5

SECTIONS = {
    "over": (
        "Over-confident",
        "High score, low OKS: the poses with the largest calibrated score minus OKS. A duplicate, a second pose of a"
        " person, counts as OKS 0, as it does for AP; the OKS shown is that with the person.",
    ),
    "under": (
        "Under-confident",
        "Low score, high OKS: the poses with the largest OKS minus calibrated score.",
    ),
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
    """One pose of the gallery.

    Attributes:
        row: of the pose in the matches.
        reason: why its annotation is suspected; empty where it is not.
    """

    row: int
    reason: str = ""


def choose_tiles(evaluation: Evaluation, max_tiles: int = MAX_TILES) -> dict[str, list[Tile]]:
    """The poses of each section of the gallery, worst first; a suspected one is in no other section."""
    score = evaluation.matches.score if evaluation.cross_fitted is None else evaluation.cross_fitted.score
    surprise = score - evaluation.matches.oks
    suspected = sorted(_suspects(evaluation, score), key=lambda tile: -score[tile.row])[:max_tiles]
    free = evaluation.shown.copy()
    free[[tile.row for tile in suspected]] = False
    rows = np.flatnonzero(free)
    rows = rows[np.argsort(-surprise[rows], kind="stable")]
    over = [Tile(int(row)) for row in rows[:max_tiles] if surprise[row] > 0]
    under = [Tile(int(row)) for row in rows[::-1][:max_tiles] if surprise[row] < 0]
    return {"over": over, "under": under, "suspected": suspected}


def _suspects(evaluation: Evaluation, score: Floats) -> Iterator[Tile]:
    matches, skeleton = evaluation.matches, evaluation.skeleton
    first = np.cumsum([0, *(len(people.area) for people in evaluation.truth.people)])
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
        person = matches.person[row] - first[matches.image[row]]
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


def gallery(evaluation: Evaluation, images: Path) -> dict[str, list[str]]:
    """Each section's tiles as HTML.

    Raises:
        ImageError: an image cannot be read.
    """
    truth = evaluation.truth.in_folder(images)

    @cache
    def image(index: int) -> Image:
        file = images / truth.files[truth.image_ids[index]]
        return read_image(file, ignore_orientation=True)  # annotations count in stored pixels

    return {
        section: [_tile(evaluation, tile, image(int(evaluation.matches.image[tile.row]))) for tile in tiles]
        for section, tiles in choose_tiles(evaluation).items()
    }


def _tile(evaluation: Evaluation, tile: Tile, image: Image) -> str:
    row, matches = tile.row, evaluation.matches
    name = evaluation.file_name(matches.image[row])
    ok, data = cv2.imencode(".jpg", draw_tile(evaluation, row, image)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert ok
    score = f"{matches.score[row]:.2f}"
    if evaluation.cross_fitted is not None:
        score += f" <small>(calibrated {evaluation.cross_fitted.score[row]:.2f})</small>"
    reason = f"<br><b>{escape(tile.reason)}</b>" if tile.reason else ""
    agreement = f"OKS {matches.oks[row]:.2f}"
    if matches.duplicate_of[row] >= 0:
        agreement = f"OKS {matches.duplicate_oks[row]:.2f}<br>duplicate: a better pose is matched with this person"
    elif matches.person[row] < 0 and not reason:
        agreement += "<br>false positive (background)"
    return (
        f'<figure class="tile"><img src="data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"'
        f' width="{2 * PANEL}" height="{PANEL}" loading="lazy" alt="Left: the annotation. Right: the pose found.">'
        f'<figcaption><span class="file">{escape(name)}</span><br>score {score} · {agreement}'
        f"{reason}</figcaption></figure>\n"
    )


def draw_tile(evaluation: Evaluation, row: int, image: Image) -> Image:
    """Annotated people (left) and the pose (right) around the pose and its person: `(PANEL, 2 PANEL, 3)`."""
    matches = evaluation.matches
    people = evaluation.truth.people[matches.image[row]]
    corners = [evaluation.keypoints_img[row]]
    shown = max(matches.person[row], matches.duplicate_of[row])
    if shown >= 0:
        first = sum(len(earlier.area) for earlier in evaluation.truth.people[: matches.image[row]])
        person = shown - first
        corners.append(people.keypoints_img[person][people.labelled[person]])
        corners.append(people.box[person, :2] + np.outer([0, 1], people.box[person, 2:]))
    points = np.concatenate(corners)
    low, high = np.nanmin(points, 0), np.nanmax(points, 0)
    side = max(float((high - low).max()) * (1 + 2 * MARGIN), 24.0)
    corner = (low + high - side) / 2
    room = np.array(image.shape[1::-1]) - side
    corner = np.where(room >= 0, corner.clip(0, np.maximum(room, 0)), corner)  # inside the image where that is wide
    panel_from_img = resize_affine(PANEL / side)
    panel_from_img[:, 2] -= PANEL / side * corner
    crop = warp(image, panel_from_img, (PANEL, PANEL), (30, 30, 34))
    seen = people.labelled.any(1)
    annotated = Poses(
        apply_affine(panel_from_img, people.keypoints_img[seen]),
        np.ones(int(seen.sum())),
        (PANEL, PANEL),
        people.labelled[seen].astype(np.float64),  # unlabelled keypoints are not drawn
        evaluation.skeleton,
    )
    points = apply_affine(panel_from_img, evaluation.keypoints_img[[row]])
    pose = drawable_poses(points, np.ones(1), (PANEL, PANEL), evaluation.skeleton)
    left = draw_poses(crop, annotated, min_keypoint_score=0.5, show_scores=False)
    right = draw_poses(crop, pose, min_keypoint_score=0.5, show_scores=False)
    right[:, :2] = 30
    return np.concatenate([left, right], axis=1)
