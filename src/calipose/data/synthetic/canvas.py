"""The canvas of synthetic images, which knows the owner of each pixel, and the cloths to paint with.

All coordinates are pixels of the image, integer = pixel centre.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from calipose.geometry import Floats

Rng = np.random.Generator

CIRCLE = np.stack([np.cos(np.arange(20) * np.pi / 10), np.sin(np.arange(20) * np.pi / 10)], axis=1)


@dataclass(frozen=True)
class Cloth:
    """Colour and pattern of a surface.

    Attributes:
        colour: RGB, 0 to 255.
        accent: second colour of the pattern, RGB, 0 to 255.
        pattern: 0 plain, 1 stripes along, 2 stripes across, 3 checks, 4 blotches.
        period: length of one period of the pattern, in trunk lengths.
    """

    colour: Floats
    accent: Floats
    pattern: int = 0
    period: float = 0.15

    @classmethod
    def sample(cls, rng: Rng, colour: Floats, patterned: float) -> Cloth:
        """Sample a cloth of about this colour; `patterned` is the probability of a pattern."""
        colour = np.clip(colour + rng.normal(0, 8, 3), 0, 255)
        pattern = int(rng.integers(1, 5)) if rng.random() < patterned else 0
        return cls(colour, rng.uniform(10, 245, 3), pattern, float(rng.uniform(0.1, 0.3)))


class Canvas:
    """An image being painted.

    Args:
        pixels: `(h, w, 3)` float32 RGB, the background.
        blotches: `(h, w)` float32, 0 to 1: pattern number 4.

    Attributes:
        pixels: the image so far.
        owner: `(h, w)` int16, which person a pixel shows, from 1; 0 for the background.
        painter: the person who is being painted, 0 for things.
    """

    def __init__(self, pixels: NDArray[np.float32], blotches: NDArray[np.float32]) -> None:
        self.pixels, self.blotches = pixels, blotches
        self.owner: NDArray[np.int16] = np.zeros(pixels.shape[:2], np.int16)
        self.painter = 0

    def window(self, outline: Floats) -> tuple[slice, slice] | None:
        """Rows and columns around an outline; None where it lies outside of the image."""
        h, w = self.owner.shape
        (x0, y0), (x1, y1) = np.floor(outline.min(0)).astype(int) - 1, np.ceil(outline.max(0)).astype(int) + 2
        x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, w), min(y1, h)
        return (slice(y0, y1), slice(x0, x1)) if x0 < x1 and y0 < y1 else None

    def fill(self, outline: Floats, cloth: Cloth, frame: tuple[Floats, Floats, float, float] | None = None) -> None:
        """Fill a convex polygon.

        Args:
            outline: `(n, 2)` corners.
            cloth: what to fill it with.
            frame: origin of the pattern, unit vector along it, trunk length, half width; without it the colour is flat.
        """
        window = self.window(outline)
        if window is None:
            return
        rows, columns = window
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        colour: NDArray[Any] = cloth.colour.astype(np.float32)
        if frame is not None and shape[0] * shape[1] > 60:
            origin, (ax, ay), trunk, half = frame
            x = (np.arange(columns.start, columns.stop, dtype=np.float32) - np.float32(origin[0]))[None]
            y = (np.arange(rows.start, rows.stop, dtype=np.float32) - np.float32(origin[1]))[:, None]
            across = np.float32(ax) * y - np.float32(ay) * x
            if cloth.pattern and cloth.period * trunk > 3:
                turns = np.float32(1 / (cloth.period * trunk))
                along = (np.float32(ax) * x + np.float32(ay) * y) * turns % 1 < 0.5
                mix: NDArray[Any] = self.blotches[window]
                if cloth.pattern < 4:
                    sideways = across * turns % 1 < 0.5
                    mix = (sideways, along, along ^ sideways)[cloth.pattern - 1]
                colour = colour + mix[..., None] * (cloth.accent - cloth.colour).astype(np.float32)
            t = across * np.float32(1 / half)
            colour = colour * (1 - np.float32(0.1) * t - np.float32(0.15) * np.minimum(t * t, 1))[..., None]
        self.blend(window, outline, colour)

    def blend(self, window: tuple[slice, slice], outline: Floats, colour: NDArray[Any]) -> None:
        """Paint a convex polygon; its pixels become the painter's.

        Args:
            window: rows and columns around the polygon.
            outline: `(n, 2)` corners.
            colour: `(3,)`, or as large as the window.
        """
        rows, columns = window
        mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
        corners = np.rint((outline - (columns.start, rows.start)) * 16).astype(np.int32)
        cv2.fillConvexPoly(mask, corners, 255, cv2.LINE_AA, 4)  # fillPoly is off by up to 0.2 px
        under = self.pixels[window]
        under += (mask * np.float32(1 / 255))[..., None] * (colour - under)
        self.owner[window][mask > 127] = self.painter

    def trace(self, outline: Floats) -> None:
        """Draw a thin dark line around a polygon; the pixels' owners stay."""
        cv2.polylines(self.pixels, [np.rint(outline * 16).astype(np.int32)], True, (20, 20, 20), 1, cv2.LINE_AA, 4)


def hull(*circles: tuple[Floats, float]) -> Floats:
    """Convex outline around circles (centre, radius)."""
    points = np.concatenate([centre + max(radius, 1.2) * CIRCLE for centre, radius in circles])
    outline: Floats = cv2.convexHull(points.astype(np.float32))[:, 0].astype(np.float64)
    return outline
