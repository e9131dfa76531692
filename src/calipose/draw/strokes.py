"""What drawings are made of: lines, discs, rings, dashes and text, in place, at 1/16 pixel."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from calipose.errors import InputError
from calipose.io.images import Image

Colour = tuple[int, int, int]

CASING: Colour = (22, 22, 26)  # dark edge that keeps lines apart from an image of their colour
PAPER: Colour = (30, 30, 34)  # behind thumbnails and captions
INK: Colour = (245, 245, 245)

SHIFT = 4  # OpenCV draws at 1/16 pixel
MAX_DASHES = 200  # of a limb, however far outside of the image it ends
FONT = cv2.FONT_HERSHEY_SIMPLEX
FONT_HEIGHT = 21.0  # pixels of a digit at scale 1


def checked_image(image: Any) -> Image:
    """The image, contiguous.

    Raises:
        InputError: not an RGB image.
    """
    if getattr(image, "dtype", None) != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise InputError("an image must be a uint8 array of shape (h, w, 3), RGB")
    return np.ascontiguousarray(image)


def fixed_point(point: Any) -> tuple[int, int]:
    """A point (x, y) in the 1/16 pixels that OpenCV draws at."""
    x, y = np.rint(np.asarray(point) * (1 << SHIFT)).astype(int)
    return int(x), int(y)


def line(image: Image, a: Any, b: Any, colour: Colour, width: float) -> None:
    """A line from a to b, `width` pixels wide."""
    cv2.line(image, fixed_point(a), fixed_point(b), colour, max(1, round(width)), cv2.LINE_AA, SHIFT)


def disc(image: Image, centre: Any, radius: float, colour: Colour) -> None:
    """A filled circle; `radius` in pixels."""
    cv2.circle(image, fixed_point(centre), max(1, round(radius * (1 << SHIFT))), colour, -1, cv2.LINE_AA, SHIFT)


def ring(image: Image, centre: Any, radius: float, colour: Colour, width: float) -> None:
    """A circle with a dark edge on both sides; `radius` and `width` in pixels."""
    for edge, thickness in ((CASING, width + 1.5), (colour, width)):
        cv2.circle(
            image,
            fixed_point(centre),
            round(radius * (1 << SHIFT)),
            edge,
            max(1, round(thickness)),
            cv2.LINE_AA,
            SHIFT,
        )


def dashes(start: Any, end: Any, width: float) -> list[tuple[Any, Any]]:
    """Pieces of a line, with gaps that its thickness leaves open."""
    number = int(np.clip(np.hypot(*(end - start)) / (5.5 * width), 1, MAX_DASHES))
    edges = np.linspace(0, 1, 2 * number + 2)[1:-1]  # a gap at either end, too: the joints are there
    at = start + (end - start) * edges[:, None]
    return list(zip(at[::2], at[1::2], strict=True))


def text_width(text: str, height: float) -> int:
    """Pixels that a text is wide whose digits are `height` pixels high."""
    return int(cv2.getTextSize(text, FONT, height / FONT_HEIGHT, 1)[0][0])


def put_text(image: Image, text: str, left: int, baseline: int, height: float) -> None:
    """A text whose digits are `height` pixels high."""
    thickness = max(1, round(height / 12))
    cv2.putText(image, text, (left, baseline), FONT, height / FONT_HEIGHT, INK, thickness, cv2.LINE_AA)
