"""Poses over an image."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike

from calipose.draw.strokes import (
    CASING,
    PAPER,
    SHIFT,
    Colour,
    checked_image,
    dashes,
    disc,
    fixed_point,
    line,
    put_text,
    ring,
    text_width,
)
from calipose.errors import InputError
from calipose.io.images import Image
from calipose.poses import Poses
from calipose.skeleton import Skeleton

Box = tuple[int, int, int, int]  # left, top, right, bottom

LEFT: Colour = (255, 142, 38)  # warm
RIGHT: Colour = (48, 160, 255)  # cool
MIDDLE: Colour = (226, 226, 214)
OUTLINE: Colour = (255, 255, 255)
QUERY: Colour = (255, 221, 20)  # the paper's Figure 2 draws keypoint queries as yellow circles

FARTHEST = 100_000  # pixels; joints beyond are drawn there, so that OpenCV's integers hold them
REGION_TINT = 0.22  # opacity of the inside of a keypoint's circle


def draw_poses(
    image: Image,
    poses: Poses,
    *,
    min_score: float = 0.0,
    min_keypoint_score: float = 0.0,
    queries_img: ArrayLike | None = None,
    show_scores: bool = True,
) -> Image:
    """Draw poses on a copy of an image: left side warm, right side cool, middle neutral.

    The best pose lies on top. A pose that a tracker filled in is dashed and has no score: it was not seen in this
    image. Where the poses carry `radii_img` (`Poses.with_regions`), a circle around each keypoint shows it.

    Args:
        image: `(h, w, 3)` uint8, RGB; it is not changed.
        poses: of this image.
        min_score: poses below are left out.
        min_keypoint_score: keypoints below are left out, where the poses carry scores of keypoints.
        queries_img: `(p, k, 2)` keypoint queries, drawn as yellow rings.
        show_scores: write each pose's score, and its track id where it has one, above the person.

    Returns:
        A new image `(h, w, 3)` uint8, RGB.

    Raises:
        InputError: not an RGB image, or queries whose shape is not that of the keypoints.

    Example:
        image = read_image("photo.jpg")
        save_image("drawing.jpg", draw_poses(image, predictor.predict(image), min_score=0.3))
    """
    drawing = checked_image(image).copy()
    queries = None if queries_img is None else np.asarray(queries_img, np.float64)
    if queries is not None and queries.shape != poses.keypoints_img.shape:
        raise InputError(f"queries_img has shape {queries.shape}; the poses have {poses.keypoints_img.shape}")
    sides = _sides(poses.skeleton)
    labels = []
    everything = np.ones((len(poses), len(poses.skeleton)), bool)
    if poses.keypoint_scores is not None:
        everything = poses.keypoint_scores >= min_keypoint_score
    everything &= (poses.scores >= min_score)[:, None]
    if poses.radii_img is not None:
        _draw_regions(drawing, poses.keypoints_img, poses.radii_img, everything, sides)
    for p in np.argsort(poses.scores, kind="stable"):
        shown = everything[p]
        if not shown.any():
            continue
        points = poses.keypoints_img[p].clip(-FARTHEST, FARTHEST)
        low, high = points[shown].min(0), points[shown].max(0)
        width = _line_width(float(np.hypot(*(high - low))), drawing)
        filled = poses.filled is not None and bool(poses.filled[p])
        _draw_person(drawing, points, shown, poses.skeleton, sides, width, filled)
        if queries is not None:
            for query in queries[p, shown].clip(-FARTHEST, FARTHEST):
                ring(drawing, query, 1.3 * width + 1.5, QUERY, max(1.0, 0.4 * width))
        track = "" if poses.track_ids is None else f"#{poses.track_ids[p]}"
        labels.append((f"{track}  {'' if filled else f'{poses.scores[p]:.2f}'}".strip(), low, high, width))
    if show_scores:
        placed: list[Box] = []
        for text, low, high, width in reversed(labels):
            if not text:
                continue
            _draw_label(drawing, text, low, high, width, placed)
    return drawing


def _sides(skeleton: Skeleton) -> list[Colour]:
    """A colour a joint. Of a flip pair, the name says which is left; where it does not, the first is."""
    colours = [MIDDLE] * len(skeleton)
    for first, second in skeleton.flip_pairs:
        if "right" in skeleton.keypoints[first].lower() or "left" in skeleton.keypoints[second].lower():
            first, second = second, first  # noqa: PLW2901
        colours[first], colours[second] = LEFT, RIGHT
    return colours


def _line_width(extent: float, image: Image) -> float:
    """Pixels: 1/75 of the person, but never hair-thin nor thicker than a big image bears."""
    side = np.sqrt(image.shape[0] * image.shape[1])
    return float(np.clip(extent / 75, max(1.0, side / 550), max(2.0, side / 80)))


def _draw_regions(image: Image, points: Any, radii: Any, shown: Any, sides: list[Colour]) -> None:
    """Circles of known radius around the shown keypoints: tinted inside, which does not add up, and a fine edge."""
    chosen = [(p, k) for p, k in np.argwhere(shown & np.isfinite(radii))]
    circles = [
        (
            fixed_point(points[p, k].clip(-FARTHEST, FARTHEST)),
            round(min(radii[p, k], FARTHEST) * (1 << SHIFT)),
            sides[k],
        )
        for p, k in chosen
    ]
    tinted = image.copy()
    for centre, radius, colour in circles:
        cv2.circle(tinted, centre, radius, colour, -1, cv2.LINE_AA, SHIFT)
    cv2.addWeighted(tinted, REGION_TINT, image, 1 - REGION_TINT, 0, dst=image)
    for centre, radius, colour in circles:
        cv2.circle(image, centre, radius, colour, 1, cv2.LINE_AA, SHIFT)


def _draw_person(
    image: Image, points: Any, shown: Any, skeleton: Skeleton, sides: list[Colour], width: float, filled: bool
) -> None:
    """Limbs and joints; those of a filled pose are dashed and hollow."""
    limbs = [(a, b) for a, b in skeleton.limbs if shown[a] and shown[b]]
    pieces = [(points[a], points[b]) for a, b in limbs]
    casing = width + max(1.0, 0.5 * width)
    for start, end in pieces:
        for a, b in dashes(start, end, width) if filled else [(start, end)]:
            line(image, a, b, CASING, casing)
    for limb, (start, end) in zip(limbs, pieces, strict=True):
        # A limb from side to side is of the middle; one from the middle to a side is of that side.
        found = {sides[keypoint] for keypoint in limb} - {MIDDLE}
        colour = found.pop() if len(found) == 1 else MIDDLE
        for a, b in dashes(start, end, width) if filled else [(start, end)]:
            line(image, a, b, colour, width)
    radius = 0.85 * width + 0.6
    for i in np.flatnonzero(shown):
        if filled:
            ring(image, points[i], radius, sides[i], max(1.0, 0.4 * width))
            continue
        if width >= 1.5:
            disc(image, points[i], radius + max(0.7, 0.25 * width), OUTLINE)
        disc(image, points[i], radius, sides[i])


def _draw_label(image: Image, text: str, low: Any, high: Any, width: float, placed: list[Box]) -> None:
    """The score in a dark rounded box above the person, moved into the image and off other labels.

    Where all thirteen positions near the person are taken, it is left out: half-hidden figures help nobody.
    """
    rows, columns = image.shape[:2]
    height = float(np.clip(4.5 * width, 8.0, max(8.0, np.sqrt(rows * columns) / 40)))
    pad = max(2, round(0.4 * height))
    box_width, box_height = text_width(text, height) + 2 * pad, round(height) + 2 * pad
    if high[0] < 0 or high[1] < 0 or low[0] > columns or low[1] > rows:
        return  # the person lies outside of the image
    x = float((low[0] + high[0]) / 2 - box_width / 2)
    above = float(low[1] - 2 * width - 0.06 * np.hypot(*(high - low)) - box_height)  # hair is above eyes
    shifts = [(dx * step, dy * step) for step in (1, 2, 3) for dx, dy in ((0, -1), (1, 0), (-1, 0), (0, 1))]
    for dx, dy in [(0, 0), *shifts]:
        left = round(min(max(x + 0.6 * dx * box_width, 0), max(columns - box_width, 0)))
        top = round(min(max(above + 1.05 * dy * box_height, 0), max(rows - box_height, 0)))
        right, bottom = left + box_width, top + box_height
        if not any(left < r and right > a and top < b and bottom > t for a, t, r, b in placed):
            break
    else:
        return
    placed.append((left, top, right, bottom))
    radius = min(box_height // 4, 8)
    corners = [(left + radius, top + radius), (right - radius, bottom - radius)]
    for x0, x1, y0, y1 in (
        (left, right, corners[0][1], corners[1][1]),
        (corners[0][0], corners[1][0], top, bottom),
    ):
        cv2.rectangle(image, (x0, y0), (x1, y1), PAPER, -1)
    for cx in (corners[0][0], corners[1][0]):
        for cy in (corners[0][1], corners[1][1]):
            cv2.circle(image, (cx, cy), radius, PAPER, -1, cv2.LINE_AA)
    put_text(image, text, left + pad, bottom - pad, height)
