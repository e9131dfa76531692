"""Images on a sheet, and a score map over the network's input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike

from calipose.draw.strokes import PAPER, checked_image, put_text, text_width
from calipose.errors import InputError
from calipose.geometry import STRIDE
from calipose.io.images import Image


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
        small = _fit(checked_image(image), width, height)
        dx, dy = (width - small.shape[1]) // 2, (height - small.shape[0]) // 2
        sheet[y + dy : y + dy + small.shape[0], x + dx : x + dx + small.shape[1]] = small
        if labels is not None:
            caption = labels[i]
            while caption and text_width(caption, text) > width:
                caption = caption[:-3] + ".." if len(caption) > 3 else ""
            put_text(sheet, caption, x, y + height + round(1.6 * text), text)
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
    image = checked_image(image)
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


def _fit(image: Image, width: int, height: int) -> Image:
    factor = min(width / image.shape[1], height / image.shape[0])
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    resized: Image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    return resized
