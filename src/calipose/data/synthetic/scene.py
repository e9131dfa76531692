"""Synthetic scenes: people with exact keypoints, for tests, for the demo, and for training without photographs.

An image depends on its seed alone: image i of a data set is made with `np.random.default_rng([seed, i])`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from calipose.data.synthetic.canvas import Canvas, Cloth, Rng, hull
from calipose.data.synthetic.person import Body, layouts, paint_person, sample_body, sample_look, sample_mixture
from calipose.errors import InputError
from calipose.geometry import Floats
from calipose.io.atomic import make_folder, write_errors
from calipose.skeleton import COCO_17

MIN_AREA = 30  # pixels; people with fewer visible pixels are not annotated


@dataclass(frozen=True)
class Preset:
    """How difficult synthetic images are. Numbers and sizes are ranges: smallest and largest.

    Attributes:
        people: number of people.
        size: a person's longer side as a fraction of the image's height.
        as_in_photographs: number, size, position and pose of people follow COCO; else they stand side by side.
        cut: probability that a person crosses the image's border.
        lean_deg: largest rotation of a person.
        patterned: probability of a patterned cloth.
        alike: probability that all clothes of an image have similar colours.
        things: number of things in the background.
        limbs: number of background things that look like limbs.
        covers: number of things in front of people.
        blotches: strength of the background's texture, 0 to 255.
        blur_px: largest standard deviation of the blur.
        noise: largest standard deviation of the noise, 0 to 255.
        unlabelled: probability that an occluded keypoint is not labelled; a tenth of it for a visible one.
    """

    people: tuple[int, int]
    size: tuple[float, float]
    as_in_photographs: bool
    cut: float
    lean_deg: float
    patterned: float
    alike: float
    things: tuple[int, int]
    limbs: tuple[int, int]
    covers: tuple[int, int]
    blotches: float
    blur_px: float
    noise: float
    unlabelled: float


EASY = Preset(
    people=(1, 2), size=(0.5, 0.9), as_in_photographs=False, cut=0, lean_deg=8, patterned=0.2, alike=0,
    things=(0, 4), limbs=(0, 0), covers=(0, 0), blotches=15, blur_px=0, noise=4, unlabelled=0,
)  # fmt: skip
HARD = Preset(
    people=(1, 6), size=(0.15, 0.9), as_in_photographs=True, cut=0.3, lean_deg=20, patterned=0.5, alike=0.5,
    things=(4, 16), limbs=(1, 8), covers=(0, 3), blotches=60, blur_px=1.2, noise=12, unlabelled=0.3,
)  # fmt: skip


@dataclass(frozen=True)
class SyntheticScene:
    """An image and the annotations of its p people.

    Attributes:
        image: `(h, w, 3)` uint8, RGB.
        keypoints_img: `(p, 17, 2)` float64, positions of all keypoints, labelled or not (integer = pixel centre).
        visibility: `(p, 17)` int, as in COCO: 0 not labelled, 1 occluded (by another person or a thing, not by the own
            body), 2 visible. Keypoints outside of the image, and parts of the face that are turned away, are not
            labelled.
        area: `(p,)` float64, number of visible pixels of the person, as COCO's segmentation area.
        boxes_img: `(p, 4)` float64, COCO's box (left, top, width, height) around those pixels; left and
            top are the first pixel's index, width and height count pixels.

    Example:
        >>> scene = synthesize_scene(np.random.default_rng(0), (320, 240), EASY)
        >>> scene.image.shape
        (240, 320, 3)
    """

    image: NDArray[np.uint8]
    keypoints_img: Floats
    visibility: NDArray[np.int64]
    area: Floats
    boxes_img: Floats


def synthesize_scene(rng: Rng, size: tuple[int, int], preset: Preset) -> SyntheticScene:
    """Make an image with synthetic people.

    Args:
        rng: random generator.
        size: width and height in pixels.
        preset: how difficult the image is, `EASY` or `HARD`.

    Raises:
        InputError: a side is shorter than 32 px.
    """
    w, h = size
    if min(w, h) < 32:
        raise InputError(f"synthetic images must have sides of at least 32 px, not {w} x {h}")
    colours = rng.uniform(15, 240, (5, 3))
    if rng.random() < preset.alike:
        colours = np.clip(colours[0] + rng.normal(0, 20, (5, 3)), 0, 255)
    canvas = paint_background(rng, w, h, preset, colours)
    bodies = place_bodies(rng, w, h, preset)
    looks = [sample_look(rng, colours, preset.patterned) for _ in bodies]
    covers = int(rng.integers(preset.covers[0], preset.covers[1] + 1))
    # Who stands lower in the image is nearer, mostly; things in front of people come somewhere in between.
    depth = [body.box[3] + rng.normal(0, 0.05 * h) for body in bodies]
    order = sorted(range(len(bodies)), key=depth.__getitem__)
    covers_after = rng.integers(0, len(bodies), covers)
    for rank, i in enumerate(order):
        canvas.painter = i + 1
        paint_person(canvas, bodies[i], looks[i])
        canvas.painter = 0
        for _ in range(int((covers_after == rank).sum())):
            paint_thing(rng, canvas, colours, 0.3 * h, preset.patterned)

    keypoints = np.stack([body.joints for body in bodies])
    visibility = label(rng, canvas, bodies, preset)
    area = np.bincount(canvas.owner.ravel(), minlength=len(bodies) + 1)[1:].astype(np.float64)
    kept = np.flatnonzero(area >= MIN_AREA)
    boxes = [cv2.boundingRect((canvas.owner == i + 1).view(np.uint8)) for i in kept]
    return SyntheticScene(
        develop(rng, canvas.pixels, preset), keypoints[kept], visibility[kept], area[kept],
        np.array(boxes, np.float64).reshape(-1, 4),
    )  # fmt: skip


def label(rng: Rng, canvas: Canvas, bodies: list[Body], preset: Preset) -> NDArray[np.int64]:
    """Visibility `(p, 17)` of the keypoints in a finished image."""
    h, w = canvas.owner.shape
    visibility = np.zeros((len(bodies), len(COCO_17)), np.int64)
    for i, body in enumerate(bodies):
        x, y = np.rint(body.joints).astype(int).T
        inside = (x >= 0) & (y >= 0) & (x < w) & (y < h)
        own = canvas.owner[y.clip(0, h - 1), x.clip(0, w - 1)] == i + 1
        missed = rng.random(len(x)) < np.where(own, 0.1 * preset.unlabelled, preset.unlabelled)
        visibility[i] = np.where(inside & ~missed, np.where(own, 2, 1), 0)
        visibility[i, :5][~body.face_seen] = 0
    return visibility


def place_bodies(rng: Rng, w: int, h: int, preset: Preset) -> list[Body]:
    """Sample bodies of the preset's number and sizes, and their positions in the image."""
    min_people, max_people = preset.people
    image = np.array([w, h], np.float64)
    if not preset.as_in_photographs:
        number = int(rng.integers(min_people, max_people + 1))
        bodies = []
        for i in range(number):  # each in its own strip of the image
            body = sample_body(rng, True, preset.lean_deg)
            strip = w / number
            side = h * rng.uniform(*preset.size)
            width, height = body.box[2:] - body.box[:2]
            side = min(side, 0.98 * strip * max(width, height) / width)
            room = np.array([strip, h]) - side * np.array([width, height]) / max(width, height)
            center = np.array([strip * (i + 0.5), h / 2]) + room * rng.uniform(-0.5, 0.5, 2)
            bodies.append(body.moved(side, center))
        return bodies

    share = layouts()["people"][min_people - 1 : max_people]
    number = min_people + int(rng.choice(len(share), p=share / share.sum()))
    _, layout = sample_mixture(rng, "first")
    first, middle = float(np.exp(layout[0])), layout[1:] * image
    people = [(first, middle)]
    for _ in range(number - 1):
        _, layout = sample_mixture(rng, "other")
        people.append((first * float(np.exp(min(layout[0], 0))), middle + layout[1:] * first * h))
    bodies = []
    for fraction, target in people:
        side = h * float(np.clip(fraction, *preset.size))
        body = sample_body(rng, False, preset.lean_deg).moved(side, target)
        half = (body.box[2:] - body.box[:2]) / 2
        cut = rng.random() < preset.cut
        beyond = rng.uniform(0, 1.2) * half if cut else np.zeros(2)
        low, high = half - beyond, image - half + beyond
        center = np.where(low <= high, np.clip(target, low, np.maximum(low, high)), image / 2)
        if cut:  # over a side border, the lower border, or a corner
            border = np.array([high[0] if target[0] > w / 2 else low[0], high[1]])
            center = np.where([(True, False), (False, True), (True, True)][int(rng.integers(3))], border, center)
        bodies.append(body.moved(side, center))
    return bodies


def paint_background(rng: Rng, w: int, h: int, preset: Preset, colours: Floats) -> Canvas:
    """Make a canvas with a gradient, soft blotches of several sizes, and things."""
    shape = (w, h)
    blotches = np.zeros((h, w), np.float32)
    for cells in (3, 9, 27):
        coarse = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
        blotches += cv2.resize(coarse, shape, interpolation=cv2.INTER_LINEAR) / np.float32(1.5)
    corners = rng.uniform(20, 235, (2, 2, 3)).astype(np.float32)
    corners = corners.mean((0, 1)) + np.float32(0.6) * (corners - corners.mean((0, 1)))
    pixels = cv2.resize(corners, shape, interpolation=cv2.INTER_LINEAR)
    pixels += (blotches * np.float32(rng.uniform(0.3, 1) * preset.blotches))[..., None]
    canvas = Canvas(pixels, np.clip(blotches + np.float32(0.5), 0, 1))
    for _ in range(int(rng.integers(preset.things[0], preset.things[1] + 1))):
        paint_thing(rng, canvas, rng.uniform(15, 240, (1, 3)), h * rng.uniform(0.1, 0.6), preset.patterned)
    for _ in range(int(rng.integers(preset.limbs[0], preset.limbs[1] + 1))):
        look = sample_look(rng, colours, preset.patterned)
        cloth = (look.skin, look.shirt, look.trousers)[int(rng.integers(3))]
        point, length = rng.uniform(0, 1, 2) * (w, h), h * rng.uniform(0.05, 0.25)
        if rng.random() < 0.25:
            canvas.fill(hull((point, 0.3 * length)), look.skin, (point, np.array([0.0, 1.0]), length, length))
        for radius in (0.2, 0.15):
            turn = rng.uniform(0, 2 * np.pi)
            axis = np.array([np.cos(turn), np.sin(turn)])
            end = point + length * axis
            outline = hull((point, radius * length), (end, (radius - 0.04) * length))
            canvas.fill(outline, cloth, (point, axis, length, radius * length))
            point = end
    return canvas


def paint_thing(rng: Rng, canvas: Canvas, colours: Floats, size: float, patterned: float) -> None:
    """Paint a box, disc, pole or polygon of about `size` pixels at a random position."""
    h, w = canvas.owner.shape
    center, turn = rng.uniform(0, 1, 2) * (w, h), rng.normal(0, 0.3)
    kind = int(rng.integers(4))
    if kind == 0:
        outline = hull((center, size / 2))
    elif kind == 1:
        outline = hull(*((center + rng.uniform(-0.5, 0.5, 2) * size, 0.02 * size) for _ in range(5)))
    else:
        half = size * (np.array([0.06, 1.0]) if kind == 2 else rng.uniform(0.2, 0.6, 2))
        turned = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        outline = center + np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half @ turned
    cloth = Cloth.sample(rng, colours[int(rng.integers(len(colours)))], patterned)
    canvas.fill(outline, cloth, (center, np.array([np.sin(turn), np.cos(turn)]), size, size))


def develop(rng: Rng, pixels: NDArray[np.float32], preset: Preset) -> NDArray[np.uint8]:
    """Apply light, blur and noise, and convert to bytes."""
    sigma = rng.uniform(0, preset.blur_px)
    if sigma > 0.3:
        pixels = cv2.GaussianBlur(pixels, (0, 0), sigma)
    light, strength = rng.uniform(0.7, 1.15), rng.uniform(0, preset.noise)
    noise = rng.standard_normal(pixels.shape, np.float32)
    lit: NDArray[np.uint8] = cv2.addWeighted(pixels, light, noise, strength, 0, dtype=cv2.CV_8U)
    return lit


def coco_annotations(scenes: Sequence[SyntheticScene], file_names: Sequence[str]) -> dict[str, Any]:
    """COCO's person keypoint annotations of scenes.

    Image i has id i + 1. A keypoint that is not labelled is 0, 0, 0, as COCO writes it.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, (scene, name) in enumerate(zip(scenes, file_names, strict=True), start=1):
        h, w = scene.image.shape[:2]
        images.append(image_entry(image_id, name, (w, h)))
        annotations += annotations_of(scene, image_id)
    return dataset(images, annotations)


def image_entry(image_id: int, name: str, size: tuple[int, int]) -> dict[str, Any]:
    """The entry of an image in COCO's annotation file; `size` is width and height."""
    return {"id": image_id, "file_name": name, "width": size[0], "height": size[1]}


def annotations_of(scene: SyntheticScene, image_id: int) -> list[dict[str, Any]]:
    """The annotations of one image, without ids."""
    people = []
    for xy, v, area, box in zip(scene.keypoints_img, scene.visibility, scene.area, scene.boxes_img, strict=True):
        triples = np.column_stack([xy, v]) * (v > 0)[:, None]
        people.append({
            "image_id": image_id, "category_id": 1, "iscrowd": 0, "num_keypoints": int((v > 0).sum()),
            "keypoints": triples.ravel().tolist(), "area": float(area), "bbox": box.tolist(),
        })  # fmt: skip
    return people


def dataset(images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> dict[str, Any]:
    """Make an annotation file from its parts; the annotations are numbered."""
    person = {
        "id": 1, "name": "person", "supercategory": "person", "keypoints": list(COCO_17.keypoints),
        "skeleton": [[a + 1, b + 1] for a, b in COCO_17.limbs],
    }  # fmt: skip
    numbered = [{"id": i, **annotation} for i, annotation in enumerate(annotations, start=1)]
    return {"images": images, "annotations": numbered, "categories": [person]}


def write_synthetic_data(
    out: Path, images: int, preset: Preset, size: tuple[int, int], seed: int, workers: int = 1
) -> Path:
    """Make a data set of synthetic people: `images/000001.jpg`, ... (quality 95) and `annotations.json`.

    Image i (from 0) depends on (seed, i) only, not on the number of images or of processes. The folder appears
    under its name when it is complete.

    Args:
        out: the folder to make.
        images: number of images.
        preset: how difficult the images are, `EASY` or `HARD`.
        size: width and height in pixels.
        seed: 0 or more.
        workers: number of processes.

    Returns:
        Path of the annotation file.

    Raises:
        InputError: `out` exists and is not empty, `images` or `workers` is below 1, or `size` is too small.
        WriteError: `out` cannot be written; nothing is left there.
    """
    if images < 1 or workers < 1:
        raise InputError(f"images and workers must be at least 1, not {images} and {workers}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} already exists: name a new folder, or remove this one first")
    make_folder(out.parent)
    with write_errors(out), TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        folder = Path(scratch) / "data"
        (folder / "images").mkdir(parents=True)
        make = partial(_write_image, folder / "images", preset, size, seed)
        if workers == 1:
            made = list(map(make, range(images)))
        else:  # spawned, not forked: OpenCV's and torch's threads do not survive a fork
            with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
                made = list(pool.map(make, range(images), chunksize=16))
        entries = dataset([image for image, _ in made], [person for _, people in made for person in people])
        (folder / "annotations.json").write_text(json.dumps(entries), encoding="utf-8")
        folder.rename(out)
    return out / "annotations.json"


def _write_image(
    folder: Path, preset: Preset, size: tuple[int, int], seed: int, index: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Make and write one image; returns its entry and its annotations."""
    scene = synthesize_scene(np.random.default_rng([seed, index]), size, preset)
    name = f"{index + 1:06d}.jpg"
    # Written here, not by OpenCV, which does not say why it cannot.
    _, data = cv2.imencode(".jpg", scene.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    (folder / name).write_bytes(data.tobytes())
    return image_entry(index + 1, name, size), annotations_of(scene, index + 1)
