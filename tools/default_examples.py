"""Ten images with the default model's poses, for its card: public-domain photographs and synthetic people.

The photographs come from scikit-image (astronaut: NASA; camera: CC0) and matplotlib (Grace Hopper: US Navy).

    python tools/default_examples.py --out docs/img/default-examples.jpg
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from calipose.data.synthetic.scene import EASY, HARD, synthesize_scene
from calipose.draw import draw_poses, save_image
from calipose.inference.predictor import Predictor
from calipose.io.images import Image, read_image

TILE = (400, 300)  # width, height
SHOWN = 0.2  # least score drawn
SYNTHETIC = [(EASY, 1), (EASY, 4), (EASY, 8), (HARD, 2), (HARD, 3), (HARD, 5), (HARD, 7)]  # preset, seed


def photographs() -> list[tuple[str, Image]]:
    """Public-domain images that packages carry."""
    from matplotlib import cbook
    from skimage import data

    hopper = read_image(Path(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))))
    camera = np.stack([data.camera()] * 3, -1)
    return [("astronaut", data.astronaut()), ("camera", camera), ("Grace Hopper", hopper)]


def main() -> None:
    """Predict, draw, put together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    predictor = Predictor()
    synthetic = [
        (f"synthetic {seed}", synthesize_scene(np.random.default_rng(seed), (480, 360), preset).image)
        for preset, seed in SYNTHETIC
    ]
    tiles = []
    for name, image in [*photographs(), *synthetic]:
        poses = predictor.predict(image).above(SHOWN)
        print(name, [f"{score:.2f}" for score in poses.scores])
        shown = draw_poses(image, poses)
        share = min(TILE[0] / shown.shape[1], TILE[1] / shown.shape[0])
        small = cv2.resize(shown, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
        tile = np.full((TILE[1], TILE[0], 3), 255, np.uint8)
        tile[: small.shape[0], : small.shape[1]] = small
        tiles.append(tile)
    rows = [np.concatenate(tiles[i : i + 2], 1) for i in range(0, len(tiles), 2)]
    save_image(options.out, np.concatenate(rows, 0))


if __name__ == "__main__":
    main()
