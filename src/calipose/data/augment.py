"""Augmentation: one affine transforms image, people and ignore regions (numpy and OpenCV, no torch)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from calipose.config.settings import AugmentSettings
from calipose.data.store import Labels
from calipose.geometry import (
    STRIDE,
    Floats,
    apply_affine,
    area_scale,
    cell_from_inp,
    compose_affines,
)
from calipose.io.images import Image, warp
from calipose.skeleton import Skeleton

GREY = np.array([0.299, 0.587, 0.114])  # luma of RGB, ITU-R BT.601


@dataclass(frozen=True, eq=False)
class Sample:
    """A square image of s input pixels a side, ready for the network, with the annotations of its p people.

    Attributes:
        image: `(s, s, 3)` uint8 RGB.
        keypoints_inp: `(p, k, 2)` float32, input pixels.
        labelled: `(p, k)` bool; each person has at least one labelled keypoint, and it lies in the image.
        area_inp: `(p,)` float32, square input pixels.
        ignore_cell: `(s / 4, s / 4)` bool, cells without weight in the score's loss.
        index: index of the image in its data set.
    """

    image: Image
    keypoints_inp: NDArray[np.float32]
    labelled: NDArray[np.bool_]
    area_inp: NDArray[np.float32]
    ignore_cell: NDArray[np.bool_]
    index: int


def augment(
    image: Image,
    labels: Labels,
    size: int,
    settings: AugmentSettings,
    rng: np.random.Generator,
    pad_colour: ArrayLike,
    skeleton: Skeleton,
) -> Sample:
    """Cut a random square crop.

    A keypoint outside of the crop counts as not labelled. A person without any labelled keypoint left is not trained
    on, and the visible part is ignored. Crowds, people without labelled keypoints and cells outside of the image are
    ignored, too; if the people of an image are not complete, so is everything outside of their boxes.

    Args:
        image: `(h, w, 3)` uint8 RGB, in the frame of `labels`.
        labels: annotations of the image.
        size: side of the crop in input pixels, a multiple of 4.
        settings: how much is changed (except `mosaic`, which needs several images).
        rng: random generator.
        pad_colour: `(3,)` RGB, 0 to 255, outside of the image.
        skeleton: its mirror pairs.

    Returns:
        The crop with its annotations.
    """
    height, width = image.shape[:2]
    flip = bool(rng.random() < settings.flip)
    affine = random_affine((width, height), size, settings, flip, rng)
    crop = jitter(warp(image, affine, (size, size), pad_colour), settings, rng)

    keypoints = apply_affine(affine, labels.keypoints_img)
    labelled = labels.labelled & ((keypoints >= -0.5) & (keypoints < size - 0.5)).all(-1)
    if flip:
        keypoints, labelled = keypoints[:, skeleton.flip_index], labelled[:, skeleton.flip_index]
    kept: NDArray[np.bool_] = np.any(labelled, axis=-1)
    people = [outline for outline, keep in zip(labels.outlines_img, kept, strict=True) if keep]
    dropped = [outline for outline, keep in zip(labels.outlines_img, kept, strict=True) if not keep]

    cells = size // STRIDE
    frame = _box(np.array([[-0.5, -0.5], [width - 0.5, height - 0.5]]))
    ignore = ~_covered([frame], affine, cells) | _covered([*labels.regions_img, *dropped], affine, cells)
    if not labels.people_complete:
        ignore |= ~_covered([_box(outline) for outline in people], affine, cells)
    return Sample(
        image=crop,
        keypoints_inp=keypoints[kept].astype(np.float32),
        labelled=labelled[kept],
        area_inp=(labels.area_img[kept] * area_scale(affine)).astype(np.float32),
        ignore_cell=ignore,
        index=labels.index,
    )


def random_affine(
    image_size: tuple[int, int], size: int, settings: AugmentSettings, flip: bool, rng: np.random.Generator
) -> Floats:
    """Sample an affine: fit, scale and rotate about the image's middle, shift, mirror.

    Args:
        image_size: width and height in pixels.
        size: side of the square crop in input pixels.
        settings: ranges of scale, rotation and shift.
        flip: mirror last, x -> size - 1 - x.
        rng: random generator.

    Returns:
        `(2, 3)` affine `inp_from_img`.
    """
    side = min(image_size) if settings.fit == "short" else max(image_size)
    inp_per_img = size / side * rng.uniform(*settings.scale)
    angle = np.deg2rad(rng.uniform(-1, 1) * settings.rotation_degrees)
    cos, sin = inp_per_img * np.cos(angle), inp_per_img * np.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]])
    middle_img = (np.array(image_size) - 1) / 2
    middle_inp = (size - 1) / 2 + rng.uniform(-1, 1, 2) * settings.shift_inp
    affine = np.concatenate([linear, (middle_inp - linear @ middle_img)[:, None]], axis=1)
    return compose_affines([[-1, 0, size - 1], [0, 1, 0]], affine) if flip else affine


def jitter(image: Image, settings: AugmentSettings, rng: np.random.Generator) -> Image:
    """Change brightness, contrast, saturation and hue at random, all in one affine of the colours.

    Contrast scales about middle grey, saturation mixes with the luma, hue rotates about the grey axis.
    """
    strengths = np.array([settings.brightness, settings.contrast, settings.saturation])
    brightness, contrast, saturation = 1 + rng.uniform(-1, 1, 3) * strengths
    turn = rng.uniform(-1, 1) * settings.hue
    if not strengths.any() and not settings.hue:
        return image
    about_grey = cv2.Rodrigues(np.full(3, 2 * np.pi * turn / np.sqrt(3)))[0]
    saturate = saturation * np.eye(3) + (1 - saturation) * GREY
    linear = brightness * contrast * saturate @ about_grey
    offset = np.full((3, 1), 127.5 * (1 - contrast))
    jittered: Image = cv2.transform(image, np.concatenate([linear, offset], axis=1).astype(np.float32))
    return jittered


def mosaic(samples: Sequence[Sample]) -> Sample:
    """Put four samples of equal size side by side, into one of twice the size, which keeps the first one's index."""
    side = samples[0].image.shape[0]
    corners = np.array([[0, 0], [side, 0], [0, side], [side, side]], np.float32)
    pairs = list(zip(samples, corners, strict=True))

    def quadrants(parts: Sequence[NDArray[np.generic]]) -> NDArray[np.generic]:
        return np.concatenate([np.concatenate(parts[:2], 1), np.concatenate(parts[2:], 1)], 0)

    return Sample(
        image=quadrants([sample.image for sample in samples]).astype(np.uint8, copy=False),
        keypoints_inp=np.concatenate([sample.keypoints_inp + corner for sample, corner in pairs]),
        labelled=np.concatenate([sample.labelled for sample in samples]),
        area_inp=np.concatenate([sample.area_inp for sample in samples]),
        ignore_cell=quadrants([sample.ignore_cell for sample in samples]).astype(np.bool_, copy=False),
        index=samples[0].index,
    )


def cells_inside(outline_cell: ArrayLike, cells: int) -> NDArray[np.bool_]:
    """Find the cells whose centres are inside an outline, by the even-odd rule.

    Args:
        outline_cell: `(q, 2)`, closed rings in cells, a row of NaN between two rings.
        cells: side of the square map.

    Returns:
        `(cells, cells)` bool.
    """
    outline = np.asarray(outline_cell, np.float64)
    first, second = outline[:-1], outline[1:]
    whole = ~np.isnan(first[:, 0] + second[:, 0])
    first, second = first[whole], second[whole]
    rows = np.arange(cells)
    edge, row = np.nonzero((first[:, 1:] <= rows) != (second[:, 1:] <= rows))
    step = second[edge] - first[edge]
    crossing = first[edge, 0] + (row - first[edge, 1]) * step[:, 0] / step[:, 1]
    # From the first cell at or to the right of a crossing on, inside and outside are exchanged.
    column = np.clip(np.ceil(crossing), 0, cells).astype(np.int64)
    # The columns are the first axis, whose sums numpy takes a column at a time; of 8 bits, as only the parity counts.
    changes = np.bincount(column * cells + row, minlength=(cells + 1) * cells).astype(np.uint8).reshape(-1, cells)
    inside: NDArray[np.bool_] = (changes[:cells].cumsum(0, dtype=np.uint8) & 1).view(np.bool_).T
    return inside


def _covered(outlines_img: Iterable[NDArray[np.floating]], affine: Floats, cells: int) -> NDArray[np.bool_]:
    """Cells whose centres lie in any of the outlines."""
    covered = np.zeros((cells, cells), bool)
    for outline in outlines_img:
        covered |= cells_inside(cell_from_inp(apply_affine(affine, outline)), cells)
    return covered


def _box(outline: NDArray[np.floating]) -> NDArray[np.floating]:
    """The closed ring of the box around an outline `(q, 2)`."""
    if not len(outline):
        return outline
    (left, top), (right, bottom) = np.nanmin(outline, axis=0), np.nanmax(outline, axis=0)
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom], [left, top]])
