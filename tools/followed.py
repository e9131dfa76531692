"""Makes docs/img/followed.webp: synthetic people whom a moving camera films, found and followed.

    python tools/followed.py

The camera goes round once over one synthetic scene, so people leave the image and come back. Frames are predicted
one by one, and people are tracked as `calipose predict VIDEO` does. Nothing moves but the camera.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image as PilImage

from calipose import Predictor, draw_poses
from calipose.data.synthetic.scene import EASY, synthesize_scene
from calipose.io.images import Image
from calipose.track import Tracker

FILE = Path(__file__).resolve().parents[1] / "docs" / "img" / "followed.webp"
SCENE, WINDOW, SHOWN = (1280, 720), (720, 540), (480, 360)  # pixels: the scene, the camera's view, the animation
SEEDS = (0, 3)  # side by side, two people each
FRAMES, MILLISECONDS = 48, 100
MIN_SCORE = 0.3
QUALITY = 60
MOST_BYTES = 600_000


def main() -> None:
    """Film, find, follow, draw, write."""
    predictor, tracker = Predictor("accurate"), Tracker(frames_per_second=1000 / MILLISECONDS)
    drawings, seen = [], set()
    for frame in film():
        poses = tracker.update(predictor.predict(frame).above(MIN_SCORE))
        seen |= set() if poses.track_ids is None else set(poses.track_ids.tolist())
        drawing = draw_poses(frame, poses, min_keypoint_score=MIN_SCORE)
        drawings.append(PilImage.fromarray(cv2.resize(drawing, SHOWN, interpolation=cv2.INTER_AREA)))
    first, *others = drawings
    first.save(
        FILE, save_all=True, append_images=others, duration=MILLISECONDS, loop=0, quality=QUALITY, method=6,
        minimize_size=True,
    )  # fmt: skip
    size = FILE.stat().st_size
    print(f"{FILE.name}: {len(drawings)} frames, ids {sorted(seen)}, {size} bytes")
    if size > MOST_BYTES:
        raise SystemExit(f"more than {MOST_BYTES} bytes: lower QUALITY or FRAMES")


def film() -> list[Image]:
    """What the camera sees on its way round."""
    half = (SCENE[0] // 2, SCENE[1])
    scene = np.concatenate([synthesize_scene(np.random.default_rng(seed), half, EASY).image for seed in SEEDS], axis=1)
    scene = cv2.GaussianBlur(scene, (0, 0), 0.8)  # grain does not compress
    frames = []
    for angle in np.linspace(0, 2 * np.pi, FRAMES, endpoint=False):
        zoom = 1 + 0.08 * np.sin(angle)
        left = (SCENE[0] - WINDOW[0] / zoom) * (1 - np.cos(angle)) / 2
        top = (SCENE[1] - WINDOW[1] / zoom) * (1 + np.sin(angle)) / 2
        affine = np.array([[zoom, 0, -zoom * left], [0, zoom, -zoom * top]])
        frames.append(cv2.warpAffine(scene, affine, WINDOW, flags=cv2.INTER_LINEAR))
    return frames


if __name__ == "__main__":
    main()
