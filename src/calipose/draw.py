"""Drawing: poses over an image, images on a sheet, a score map over the network's input (numpy, OpenCV).

Images are `(h, w, 3)` uint8, RGB. Drawing never changes its arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike

from calipose.errors import InputError
from calipose.geometry import STRIDE
from calipose.io.atomic import replacing
from calipose.io.images import Image
from calipose.poses import Poses
from calipose.skeleton import Skeleton

Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]  # left, top, right, bottom

LEFT: Colour = (255, 142, 38)  # warm
RIGHT: Colour = (48, 160, 255)  # cool
MIDDLE: Colour = (226, 226, 214)
CASING: Colour = (22, 22, 26)  # dark edge that keeps lines apart from an image of their colour
OUTLINE: Colour = (255, 255, 255)
QUERY: Colour = (255, 221, 20)  # the paper's Figure 2 draws keypoint queries as yellow circles
PAPER: Colour = (30, 30, 34)  # behind thumbnails and captions
INK: Colour = (245, 245, 245)

SHIFT = 4  # OpenCV draws at 1/16 pixel
FARTHEST = 100_000  # pixels; joints beyond are drawn there, so that OpenCV's integers hold them
MAX_DASHES = 200  # of a limb, however far outside of the image it ends
REGION_TINT = 0.22  # opacity of the inside of a keypoint's circle
FONT = cv2.FONT_HERSHEY_SIMPLEX
FONT_HEIGHT = 21.0  # pixels of a digit at scale 1
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


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
    drawing = _checked(image).copy()
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
                _ring(drawing, query, 1.3 * width + 1.5, QUERY, max(1.0, 0.4 * width))
        track = "" if poses.track_ids is None else f"#{poses.track_ids[p]}"
        labels.append((f"{track}  {'' if filled else f'{poses.scores[p]:.2f}'}".strip(), low, high, width))
    if show_scores:
        placed: list[Box] = []
        for text, low, high, width in reversed(labels):
            if not text:
                continue
            _draw_label(drawing, text, low, high, width, placed)
    return drawing


def contact_sheet(
    images: Sequence[Image],
    columns: int,
    cell_size: tuple[int, int],
    labels: Sequence[str] | None = None,
) -> Image:
    """Images in rows, each fitted into a cell with its aspect kept, and captions.

    Args:
        images: `(h, w, 3)` uint8, RGB, of any sizes.
        columns: images in a row.
        cell_size: width and height of a cell in pixels.
        labels: a caption for each image.

    Returns:
        One image `(h, w, 3)` uint8, RGB.

    Raises:
        InputError: no images, not RGB images, a size below 1, or a number of labels that is not theirs.
    """
    width, height = cell_size
    if not images or min(columns, width, height) < 1:
        raise InputError("contact_sheet: needs an image, and columns and cell_size of at least 1")
    if labels is not None and len(labels) != len(images):
        raise InputError(f"contact_sheet: {len(labels)} labels for {len(images)} images")
    gap, text = max(2, width // 60), min(13.0, max(7.0, width / 18))
    pitch_x, pitch_y = width + gap, height + gap + (0 if labels is None else round(2.2 * text))
    rows = -(-len(images) // columns)
    sheet = np.full((rows * pitch_y + gap, columns * pitch_x + gap, 3), PAPER, np.uint8)
    for i, image in enumerate(images):
        x, y = gap + i % columns * pitch_x, gap + i // columns * pitch_y
        small = _fit(_checked(image), width, height)
        dx, dy = (width - small.shape[1]) // 2, (height - small.shape[0]) // 2
        sheet[y + dy : y + dy + small.shape[0], x + dx : x + dx + small.shape[1]] = small
        if labels is not None:
            caption = labels[i]
            while caption and _text_width(caption, text) > width:
                caption = caption[:-3] + ".." if len(caption) > 3 else ""
            _text(sheet, caption, x, y + height + round(1.6 * text), text)
    return sheet


def heat_overlay(image: Image, score_map: ArrayLike, low: float, high: float, stride: int = STRIDE) -> Image:
    """A map in cells over the network's input: cell i covers exactly its pixels `stride i` onwards.

    The colours are OpenCV's Inferno, which is even to the eye; the higher the value, the more it covers.

    Args:
        image: `(h, w, 3)` uint8, RGB: the network's input.
        score_map: `(ceil(h / stride), ceil(w / stride))`.
        low: value that is darkest.
        high: value that is lightest.
        stride: pixels of a cell's side.

    Raises:
        InputError: not an RGB image, a map that does not cover it, numbers not finite, or low >= high.
    """
    image = _checked(image)
    values = np.asarray(score_map, np.float64)
    height, width = image.shape[:2]
    if values.ndim != 2 or values.shape != (-(-height // stride), -(-width // stride)):
        raise InputError(f"heat_overlay: map {values.shape} does not cover image {height} x {width} at {stride}")
    if not (np.isfinite(values).all() and low < high):
        raise InputError("heat_overlay: needs finite values and low < high")
    level = ((values - low) / (high - low)).clip(0, 1)
    colours = cv2.applyColorMap((level * 255).round().astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    cover = 0.3 + 0.5 * level[..., None]

    def spread(cells: Any) -> Any:
        return cells.repeat(stride, 0).repeat(stride, 1)[:height, :width]

    mixed = spread(cover) * spread(colours) + (1 - spread(cover)) * image
    return np.asarray(mixed.round(), np.uint8)


def save_image(path: str | Path, image: Image) -> None:
    """Write an RGB image; the file appears whole or not at all.

    Args:
        path: the file; its suffix tells the format.
        image: `(h, w, 3)` uint8, RGB.

    Raises:
        InputError: not an RGB image, an unknown suffix, or a file that cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: unknown suffix '{path.suffix}'; use one of {' '.join(SUFFIXES)}")
    done, data = cv2.imencode(path.suffix.lower(), np.ascontiguousarray(_checked(image)[..., ::-1]))
    if not done:
        raise InputError(f"{path}: OpenCV cannot write '{path.suffix}'; use .png")
    with replacing(path) as temporary:
        temporary.write_bytes(data.tobytes())


def _checked(image: Any) -> Image:
    if getattr(image, "dtype", None) != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise InputError("an image must be a uint8 array of shape (h, w, 3), RGB")
    return np.ascontiguousarray(image)


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


def _fixed(point: Any) -> tuple[int, int]:
    x, y = np.rint(np.asarray(point) * (1 << SHIFT)).astype(int)
    return int(x), int(y)


def _line(image: Image, a: Any, b: Any, colour: Colour, width: float) -> None:
    cv2.line(image, _fixed(a), _fixed(b), colour, max(1, round(width)), cv2.LINE_AA, SHIFT)


def _disc(image: Image, centre: Any, radius: float, colour: Colour) -> None:
    cv2.circle(image, _fixed(centre), max(1, round(radius * (1 << SHIFT))), colour, -1, cv2.LINE_AA, SHIFT)


def _ring(image: Image, centre: Any, radius: float, colour: Colour, width: float) -> None:
    for edge, thickness in ((CASING, width + 1.5), (colour, width)):
        cv2.circle(
            image,
            _fixed(centre),
            round(radius * (1 << SHIFT)),
            edge,
            max(1, round(thickness)),
            cv2.LINE_AA,
            SHIFT,
        )


def _draw_regions(image: Image, points: Any, radii: Any, shown: Any, sides: list[Colour]) -> None:
    """Circles of known radius around the shown keypoints: tinted inside, which does not add up, and a fine edge."""
    chosen = [(p, k) for p, k in np.argwhere(shown & np.isfinite(radii))]
    circles = [
        (_fixed(points[p, k].clip(-FARTHEST, FARTHEST)), round(min(radii[p, k], FARTHEST) * (1 << SHIFT)), sides[k])
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
        for a, b in _dashes(start, end, width) if filled else [(start, end)]:
            _line(image, a, b, CASING, casing)
    for limb, (start, end) in zip(limbs, pieces, strict=True):
        # A limb from side to side is of the middle; one from the middle to a side is of that side.
        found = {sides[keypoint] for keypoint in limb} - {MIDDLE}
        colour = found.pop() if len(found) == 1 else MIDDLE
        for a, b in _dashes(start, end, width) if filled else [(start, end)]:
            _line(image, a, b, colour, width)
    radius = 0.85 * width + 0.6
    for i in np.flatnonzero(shown):
        if filled:
            _ring(image, points[i], radius, sides[i], max(1.0, 0.4 * width))
            continue
        if width >= 1.5:
            _disc(image, points[i], radius + max(0.7, 0.25 * width), OUTLINE)
        _disc(image, points[i], radius, sides[i])


def _dashes(start: Any, end: Any, width: float) -> list[tuple[Any, Any]]:
    """Pieces of a line, with gaps that its thickness leaves open."""
    number = int(np.clip(np.hypot(*(end - start)) / (5.5 * width), 1, MAX_DASHES))
    edges = np.linspace(0, 1, 2 * number + 2)[1:-1]  # a gap at either end, too: the joints are there
    at = start + (end - start) * edges[:, None]
    return list(zip(at[::2], at[1::2], strict=True))


def _text_width(text: str, height: float) -> int:
    return int(cv2.getTextSize(text, FONT, height / FONT_HEIGHT, 1)[0][0])


def _text(image: Image, text: str, left: int, baseline: int, height: float) -> None:
    thickness = max(1, round(height / 12))
    cv2.putText(image, text, (left, baseline), FONT, height / FONT_HEIGHT, INK, thickness, cv2.LINE_AA)


def _draw_label(image: Image, text: str, low: Any, high: Any, width: float, placed: list[Box]) -> None:
    """The score in a dark rounded box above the person, moved into the image and off other labels.

    Where all thirteen positions near the person are taken, it is left out: half-hidden figures help nobody.
    """
    rows, columns = image.shape[:2]
    height = float(np.clip(4.5 * width, 8.0, max(8.0, np.sqrt(rows * columns) / 40)))
    pad = max(2, round(0.4 * height))
    box_width, box_height = _text_width(text, height) + 2 * pad, round(height) + 2 * pad
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
    _text(image, text, left + pad, bottom - pad, height)


def _fit(image: Image, width: int, height: int) -> Image:
    factor = min(width / image.shape[1], height / image.shape[0])
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    resized: Image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    return resized
