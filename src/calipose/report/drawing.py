"""What the gallery shows: a person's annotation beside the pose found, and whole images."""

from __future__ import annotations

import base64

import cv2
import numpy as np

from calipose.draw import draw_poses
from calipose.evaluation.evaluation import Evaluation
from calipose.evaluation.ground_truth import Flags, People
from calipose.evaluation.results import drawable_poses
from calipose.geometry import Floats, apply_affine, resize_affine
from calipose.io.images import Image, warp
from calipose.poses import Poses

PANEL = 200  # pixels; a tile has two: what is annotated, and what was found
MARGIN = 0.18  # around a person, of their longer side
DARK = (30, 30, 34)  # beyond the image
RING = (255, 255, 255)  # around a keypoint that a tile is about
BOX = (64, 224, 140)  # of annotated people in whole images
WHOLE = 800  # pixels of a whole image's longer side, at most
QUALITY, WHOLE_QUALITY = 76, 60  # of JPEG, and of WebP


def draw_tile(evaluation: Evaluation, row: int, image: Image, marked: Flags | None = None) -> Image:
    """Annotated people (left) and the pose (right) around the pose and its person: `(PANEL, 2 PANEL, 3)`.

    Args:
        evaluation: whose pose it is.
        row: of the pose in `evaluation.matches`.
        image: of the pose.
        marked: (k,) keypoints of the pose that get a ring.
    """
    matches = evaluation.matches
    index = int(matches.image[row])
    corners = [evaluation.keypoints_img[row]]
    shown = max(matches.person[row], matches.duplicate_of[row])
    if shown >= 0:
        corners.append(_extent(evaluation.truth.people[index], int(shown) - evaluation.first_person[index]))
    panel_from_img = _around(np.concatenate(corners), image)
    points = apply_affine(panel_from_img, evaluation.keypoints_img[[row]])
    pose = drawable_poses(points, np.ones(1), (PANEL, PANEL), evaluation.skeleton)
    left, right = _annotated(evaluation, index, panel_from_img, image), _crop(panel_from_img, image)
    right = draw_poses(right, pose, min_keypoint_score=0.5, show_scores=False)
    for x, y in [] if marked is None else points[0][marked & np.isfinite(points[0]).all(1)].tolist():
        cv2.circle(right, (round(x), round(y)), 8, RING, 1, cv2.LINE_AA)
    return _side_by_side(left, right)


def draw_missed(evaluation: Evaluation, index: int, person: int, image: Image) -> Image:
    """An annotated person in a green box (left), and the shown poses that are near (right): `(PANEL, 2 PANEL, 3)`.

    Args:
        evaluation: in which nobody was found there.
        index: of the image, in the order of the ids.
        person: index of the person in the image.
        image: that image.
    """
    panel_from_img = _around(_extent(evaluation.truth.people[index], person), image)
    rows = np.flatnonzero((evaluation.matches.image == index) & evaluation.shown)
    points = apply_affine(panel_from_img, evaluation.keypoints_img[rows])
    poses = drawable_poses(points, np.ones(len(rows)), (PANEL, PANEL), evaluation.skeleton)
    right = draw_poses(_crop(panel_from_img, image), poses, min_keypoint_score=0.5, show_scores=False)
    left = _annotated(evaluation, index, panel_from_img, image)
    box = evaluation.truth.people[index].box[person]
    corners = apply_affine(panel_from_img, box[:2] + np.outer([0, 1], box[2:])).round().astype(int).tolist()
    for panel in (left, right):
        cv2.rectangle(panel, corners[0], corners[1], BOX, 1, cv2.LINE_AA)
    return _side_by_side(left, right)


def draw_whole(evaluation: Evaluation, index: int, image: Image) -> Image:
    """The image with its shown poses and their scores, and green boxes around the annotated people.

    Args:
        evaluation: of the image.
        index: of the image, in the order of the ids.
        image: of any size; the longer side of the drawing has at most `WHOLE` pixels.
    """
    drawing = fitted(image, WHOLE)
    size = drawing.shape[1], drawing.shape[0]
    factor = max(size) / max(image.shape[:2])
    people = evaluation.truth.people[index]
    for left, top, width, height in (people.box[~people.ignored] * factor).tolist():
        corners = [(round(left), round(top)), (round(left + width), round(top + height))]
        cv2.rectangle(drawing, corners[0], corners[1], BOX, 1, cv2.LINE_AA)
    rows = np.flatnonzero((evaluation.matches.image == index) & evaluation.shown)
    points = evaluation.keypoints_img[rows] * factor
    poses = drawable_poses(points, evaluation.matches.score[rows], size, evaluation.skeleton)
    return draw_poses(drawing, poses, min_keypoint_score=0.5)


def fitted(image: Image, side: int) -> Image:
    """The image made smaller, so that its longer side has at most `side` pixels; a small one stays."""
    factor = min(1.0, side / max(image.shape[:2]))
    size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def jpeg(image: Image) -> str:
    """As a data URI."""
    return _data_uri(image, ".jpg", "image/jpeg", [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


def webp(image: Image) -> str:
    """As a data URI, smaller than a JPEG."""
    return _data_uri(image, ".webp", "image/webp", [cv2.IMWRITE_WEBP_QUALITY, WHOLE_QUALITY])


def _data_uri(image: Image, suffix: str, kind: str, options: list[int]) -> str:
    ok, data = cv2.imencode(suffix, np.ascontiguousarray(image[..., ::-1]), options)
    assert ok
    return f"data:{kind};base64,{base64.b64encode(data.tobytes()).decode()}"


def _extent(people: People, person: int) -> Floats:
    """(m, 2): the person's labelled keypoints, and the corners of the box."""
    corners = people.box[person, :2] + np.outer([0, 1], people.box[person, 2:])
    return np.concatenate([people.keypoints_img[person][people.labelled[person]], corners])


def _around(points: Floats, image: Image) -> Floats:
    """(2, 3): from the image to a panel that shows the points, with a margin."""
    low, high = np.nanmin(points, 0), np.nanmax(points, 0)
    side = max(float((high - low).max()) * (1 + 2 * MARGIN), 24.0)
    corner = (low + high - side) / 2
    room = np.array(image.shape[1::-1]) - side
    corner = np.where(room >= 0, corner.clip(0, np.maximum(room, 0)), corner)  # inside the image where that is wide
    panel_from_img = resize_affine(PANEL / side)
    panel_from_img[:, 2] -= PANEL / side * corner
    return panel_from_img


def _crop(panel_from_img: Floats, image: Image) -> Image:
    return warp(image, panel_from_img, (PANEL, PANEL), DARK)


def _annotated(evaluation: Evaluation, index: int, panel_from_img: Floats, image: Image) -> Image:
    people = evaluation.truth.people[index]
    seen = people.labelled.any(1)
    annotated = Poses(
        apply_affine(panel_from_img, people.keypoints_img[seen]),
        np.ones(int(seen.sum())),
        (PANEL, PANEL),
        people.labelled[seen].astype(np.float64),  # unlabelled keypoints are not drawn
        evaluation.skeleton,
    )
    return draw_poses(_crop(panel_from_img, image), annotated, min_keypoint_score=0.5, show_scores=False)


def _side_by_side(left: Image, right: Image) -> Image:
    right[:, :2] = 30
    return np.concatenate([left, right], axis=1)
