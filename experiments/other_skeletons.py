"""Synthetic figures whose skeletons are not COCO's: people with other joints, and four-legged animals.

For `finetune.py`. An image depends on its seed alone. All coordinates are pixels, integer = pixel centre.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from calipose.data.synthetic.canvas import Canvas, Cloth, Rng, hull
from calipose.data.synthetic.person import ARMS, HEAD_ENDS, HIPS, LEGS, SHOULDERS, paint_person, sample_look
from calipose.data.synthetic.scene import (
    HARD,
    MIN_AREA,
    develop,
    image_entry,
    paint_background,
    paint_thing,
    place_bodies,
)
from calipose.geometry import Floats
from calipose.skeleton import Skeleton

PRESET = replace(HARD, people=(1, 3), size=(0.35, 0.9), cut=0.15, limbs=(0, 3), covers=(0, 1), things=(2, 8))


def sided(*names: str) -> tuple[str, ...]:
    """A left and a right keypoint of each name."""
    return tuple(f"{side}_{name}" for name in names for side in ("left", "right"))


def skeleton(name: str, keypoints: tuple[str, ...], limbs: str, sigmas: dict[str, float]) -> Skeleton:
    """Skeleton whose limbs are written "a-b c-d"; a part without a side stands for both sides.

    The sigma of a keypoint is that of the part its name ends in.
    """
    place = {keypoint: i for i, keypoint in enumerate(keypoints)}
    pairs = tuple((i, i + 1) for i, keypoint in enumerate(keypoints) if keypoint.startswith("left_"))
    lines = []
    for a, b in (limb.split("-") for limb in limbs.split()):
        both = [(a if a in place else f"{s}_{a}", b if b in place else f"{s}_{b}") for s in ("left", "right")]
        lines += [(place[first], place[second]) for first, second in dict.fromkeys(both)]
    values = tuple(next(v for part, v in sigmas.items() if keypoint.endswith(part)) for keypoint in keypoints)
    return Skeleton(name, keypoints, pairs, tuple(lines), values)


# Ten joints have COCO's names, five are new.
FIGURE = skeleton(
    "figure",
    ("head_top", "neck", *sided("shoulder", "elbow", "wrist"), "pelvis", *sided("knee", "ankle", "toe")),
    "head_top-neck neck-shoulder shoulder-elbow elbow-wrist neck-pelvis pelvis-knee knee-ankle ankle-toe",
    {
        "head_top": 0.05, "neck": 0.06, "shoulder": 0.079, "elbow": 0.072, "wrist": 0.062, "pelvis": 0.09,
        "knee": 0.087, "ankle": 0.089, "toe": 0.089,
    },
)  # fmt: skip
# Five points have COCO's names, eleven are new.
ANIMAL = skeleton(
    "animal",
    (
        "nose", *sided("eye", "ear"), "withers", "tail_base", "tail_tip",
        *sided("front_knee", "front_paw", "hind_knee", "hind_paw"),
    ),
    "nose-eye eye-ear ear-withers withers-tail_base tail_base-tail_tip withers-front_knee front_knee-front_paw "
    "tail_base-hind_knee hind_knee-hind_paw",
    {
        "nose": 0.04, "eye": 0.035, "ear": 0.05, "withers": 0.08, "tail_base": 0.08, "tail_tip": 0.08, "knee": 0.08,
        "paw": 0.08,
    },
)  # fmt: skip
SKELETONS = {"figure": FIGURE, "animal": ANIMAL}


@dataclass(frozen=True)
class Drawable:
    """One figure at its place: `joints` (k, 2), which of them face the viewer (k,), its lower edge, its painting."""

    joints: Floats
    facing: np.ndarray
    bottom: float
    paint: Callable[[Canvas], None]


def people(rng: Rng, w: int, h: int, colours: Floats) -> list[Drawable]:
    """Synthetic people with the joints of `FIGURE`."""
    found = []
    for body in place_bodies(rng, w, h, PRESET):
        j = body.joints
        toes = []
        for _, knee, ankle in LEGS:
            down = (j[ankle] - j[knee]) / max(float(np.linalg.norm(j[ankle] - j[knee])), 0.2 * body.trunk)
            toes.append(j[ankle] + body.trunk * (0.12 * down + 0.22 * body.head[:2, 2]))  # as `paint_person` has it
        sides = [j[joint] for pair in zip(*ARMS, strict=True) for joint in pair]
        legs = [j[joint] for pair in zip(*LEGS, strict=True) for joint in pair][2:]
        top = body.head_on(HEAD_ENDS[:1])[0]
        joints = np.stack([top, j[SHOULDERS].mean(0), *sides, j[HIPS].mean(0), *legs, *toes])
        look = sample_look(rng, colours, PRESET.patterned)

        def paint(canvas: Canvas, body: Any = body, look: Any = look) -> None:
            paint_person(canvas, body, look)

        found.append(Drawable(joints, np.ones(len(joints), bool), body.box[3], paint))
    return found


def animals(rng: Rng, w: int, h: int, colours: Floats) -> list[Drawable]:
    """One to three animals, in any direction, with the joints of `ANIMAL`."""
    return [animal(rng, w, h, colours) for _ in range(int(rng.integers(1, 4)))]


def animal(rng: Rng, w: int, h: int, colours: Floats) -> Drawable:
    """An animal built of capsules in space: x forwards, y down, z to its left; the trunk is 1 long."""

    def turned(length: float, degrees: float) -> Floats:
        """A bone in the plane of x and y; 0 points down, positive forwards."""
        angle = np.deg2rad(degrees)
        return length * np.array([np.sin(angle), np.cos(angle), 0.0])

    leg, neck, head, stout = (
        rng.uniform(0.28, 0.45),
        rng.uniform(0.3, 0.55),
        rng.uniform(0.28, 0.4),
        rng.uniform(0.14, 0.22),
    )
    withers, tail_base = np.array([0.5, 0.0, 0.0]), np.array([-0.5, rng.uniform(-0.05, 0.1), 0.0])
    sideways = np.array([0, 0, rng.normal(0, 0.12)])
    poll = withers + turned(neck, rng.uniform(75, 165)) + sideways
    nose = poll + turned(head, rng.uniform(30, 100)) + sideways
    forwards = (nose - poll) / np.linalg.norm(nose - poll)
    upwards = np.array([forwards[1], -forwards[0], 0.0])
    eyes = [poll + 0.35 * (nose - poll) + 0.05 * upwards + np.array([0, 0, z]) for z in (0.075, -0.075)]
    ears = [poll + 0.17 * upwards + np.array([0, 0, z]) for z in (0.1, -0.1)]
    tail_tip = tail_base + turned(rng.uniform(0.3, 0.6), rng.uniform(-130, -20)) + 2 * sideways
    coat, legs, dark = (
        Cloth.sample(rng, c, p)
        for c, p in zip((*colours[rng.integers(5, size=2)], np.full(3, 20.0)), (0.7, 0.2, 0), strict=True)
    )
    trunk = np.array([0, 0.75 * stout, 0])
    parts = [
        (withers + trunk, tail_base + trunk, stout, 0.9 * stout, coat),
        (withers + 0.5 * trunk, poll, 0.65 * stout, 0.09, coat),
        (poll, nose, 0.11, 0.06, coat),
        (tail_base + 0.3 * trunk, tail_tip, 0.05, 0.03, coat),
        (nose, nose + 0.01 * forwards, 0.035, 0.035, dark),
        *((poll + 0.06 * upwards + np.array([0, 0, 0.6 * ear[2]]), ear, 0.05, 0.025, legs) for ear in ears),
        *((eye, eye, 0.028, 0.028, dark) for eye in eyes),
    ]
    knees, paws = [], []
    for x, bend in ((0.4, -1), (-0.4, 1)):
        for z in (0.6 * stout, -0.6 * stout):
            hip, swing = np.array([x, 1.2 * stout, z]), rng.normal(0, 22)
            knee = hip + turned(leg, swing - 8 * bend)
            paw = knee + turned(leg, swing + bend * abs(rng.normal(12, 15)))
            parts += [(hip, knee, 0.1, 0.06, coat), (knee, paw, 0.055, 0.05, legs)]
            knees.append(knee)
            paws.append(paw)
    points = np.array([nose, *eyes, *ears, withers, tail_base, tail_tip, *knees[:2], *paws[:2], *knees[2:], *paws[2:]])

    yaw, pitch = rng.uniform(0, 2 * np.pi), np.deg2rad(rng.uniform(-5, 25))
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    tilt = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
    view = tilt @ turn  # rows: right, down, away from the viewer
    ends = np.array([end for a, b, *_ in parts for end in (a, b)]) @ view[:2].T
    low, high = ends.min(0) - 0.1, ends.max(0) + 0.1
    scale = h * rng.uniform(*PRESET.size) / float((high - low).max())
    half = scale * (high - low) / 2
    beyond = rng.uniform(0, 0.6) * half if rng.random() < PRESET.cut else 0 * half
    room = np.maximum(np.array([w, h]) / 2 - half + beyond, 0)
    shift = np.array([w, h]) / 2 + room * rng.uniform(-1, 1, 2) - scale * (low + high) / 2

    def paint(canvas: Canvas) -> None:
        for a, b, ra, rb, cloth in sorted(
            parts, key=lambda part: -float((view[2] @ (part[0] + part[1])) / 2 - part[2])
        ):
            first, second = (scale * (view[:2] @ end) + shift for end in (a, b))
            axis = (second - first) / max(float(np.linalg.norm(second - first)), 1e-6)
            frame = (first, axis, scale, max(ra, rb) * scale)
            canvas.fill(hull((first, ra * scale), (second, rb * scale)), cloth, frame)

    # Of the face the sides that are turned away are hidden by the head itself.
    facing = np.ones(len(points), bool)
    across = view[2, 2]  # of the animal's left: how far away it points
    facing[1:5] = [across < 0.3, across > -0.3, across < 0.5, across > -0.5]
    return Drawable(scale * points @ view[:2].T + shift, facing, float(shift[1] + scale * high[1]), paint)


def draw_image(rng: Rng, w: int, h: int, kind: str) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """An image (h, w, 3) and its annotations (COCO's, without ids)."""
    colours = rng.uniform(15, 240, (5, 3))
    canvas = paint_background(rng, w, h, PRESET, colours)
    figures = sorted({"figure": people, "animal": animals}[kind](rng, w, h, colours), key=lambda f: f.bottom)
    for i, figure in enumerate(figures):
        canvas.painter = i + 1
        figure.paint(canvas)
        canvas.painter = 0
        if rng.random() < 0.15:
            paint_thing(rng, canvas, colours, 0.25 * h, PRESET.patterned)
    annotations = []
    for i, figure in enumerate(figures):
        mine = (canvas.owner == i + 1).view(np.uint8)
        area = int(mine.sum())
        x, y = np.rint(figure.joints).astype(int).T
        inside = (x >= 0) & (y >= 0) & (x < w) & (y < h)
        seen = cv2.dilate(mine, np.ones((3, 3), np.uint8))[y.clip(0, h - 1), x.clip(0, w - 1)] == 1
        visibility = np.where(inside & figure.facing, np.where(seen, 2, 1), 0)
        if area < MIN_AREA or not visibility.any():
            continue
        triples = np.column_stack([figure.joints, visibility]) * (visibility > 0)[:, None]
        annotations.append({
            "category_id": 1, "iscrowd": 0, "num_keypoints": int((visibility > 0).sum()), "area": float(area),
            "keypoints": triples.ravel().tolist(), "bbox": list(map(float, cv2.boundingRect(mine))),
        })  # fmt: skip
    return develop(rng, canvas.pixels, PRESET), annotations


def write_data(out: Path, kind: str, images: int, side: int, seed: int) -> None:
    """A data set in a new folder: images/, annotations.json, skeleton.json."""
    (out / "images").mkdir(parents=True)
    entries_of_images, annotations = [], []
    for i in range(images):
        image, found = draw_image(np.random.default_rng([seed, i]), side, side, kind)
        cv2.imwrite(str(out / "images" / f"{i:04d}.png"), image[..., ::-1])
        entries_of_images.append(image_entry(i + 1, f"{i:04d}.png", (side, side)))
        annotations += [{"id": len(annotations) + j + 1, "image_id": i + 1, **a} for j, a in enumerate(found)]
    category = {"id": 1, "name": kind, "keypoints": list(SKELETONS[kind].keypoints)}
    entries = {"images": entries_of_images, "annotations": annotations, "categories": [category]}
    (out / "skeleton.json").write_text(json.dumps(SKELETONS[kind].to_dict()))
    (out / "annotations.json").write_text(json.dumps(entries))
