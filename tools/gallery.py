"""Makes the gallery of the documentation site: synthetic people and photographs free of rights, with poses and scores.

    python tools/gallery.py

Photographs: NASA's portrait of Eileen Collins (public domain) and the photographer of scikit-image (CC0), both from the
package scikit-image; the rest is drawn by `calipose synthesize`. No image of a data set is among them.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import numpy as np

from calipose import Predictor, draw_poses, read_image
from calipose.data.synthetic.scene import EASY, HARD, synthesize_scene
from calipose.io.images import Image

DOCS = Path(__file__).resolve().parents[1] / "docs"
FOLDER = DOCS / "img" / "gallery"
SIDE = 480  # longest side in pixels
QUALITY = 82
MIN_SCORE = 0.3
SCENES = [("easy", EASY, seed) for seed in (0, 3, 5, 8)] + [("hard", HARD, seed) for seed in (1, 2, 4, 6)]


def main() -> None:
    """Predict, draw, write the images and the page."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    accurate, one_pass = Predictor("accurate"), Predictor("onepass")
    figures = []
    for name, image, what in [*photographs(), *scenes()]:
        poses = accurate.predict(image)
        kept = poses.above(MIN_SCORE)
        first = one_pass.predict(image).above(MIN_SCORE)
        drawing = draw_poses(image, kept, min_keypoint_score=MIN_SCORE)
        path = FOLDER / f"{name}.jpg"
        cv2.imwrite(str(path), fitted(drawing)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        scores = ", ".join(f"{score:.2f}" for score in kept.scores) or "none"
        print(f"{path.name}: accurate {scores}; onepass finds {len(first)}; {path.stat().st_size} bytes")
        caption = f"{what}. Scores: {scores}; the first look alone finds {len(first)}."
        inner = f"![{what}](img/gallery/{path.name})\n<figcaption>{caption}</figcaption>"
        figures.append(f"<figure markdown>\n{inner}\n</figure>")
    body = "\n\n".join(figures)
    (DOCS / "gallery.md").write_text(f'{PAGE}\n<div class="gallery" markdown>\n\n{body}\n\n</div>\n')


PAGE = f"""# Gallery

Poses of `accurate` with a score of {MIN_SCORE} or more; keypoints with a score below {MIN_SCORE} are not drawn.
No image was chosen by its result, so failures are among them: synthetic people look different from the photographs that
the model was trained on. `tools/gallery.py` makes this page and its images.

![Synthetic people filmed by a moving camera, each with a number](img/followed.webp)

A tracked video: a camera goes round over a synthetic scene. The frames are predicted one by one, and people are
tracked as `calipose predict VIDEO` does. The numbers are the `track_id`s: a person who leaves the image for a while
comes back with a new one. The man who sits is missed as long as he fills the image. `tools/followed.py` makes it.
"""


def photographs() -> list[tuple[str, Image, str]]:
    """Name, image, and what it shows."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise SystemExit("the photographs come with scikit-image: pip install scikit-image")
    data = Path(spec.origin).parent / "data"
    portrait, photographer = read_image(data / "astronaut.png"), read_image(data / "camera.png")
    dark = (portrait * 0.25).astype(np.uint8)
    reduced = cv2.resize(portrait, (128, 128), interpolation=cv2.INTER_AREA)
    small = cv2.copyMakeBorder(reduced, 180, 180, 256, 256, cv2.BORDER_CONSTANT, value=(128, 128, 128))
    return [
        ("portrait", portrait, "A portrait (NASA, public domain)"),
        ("dark", dark, "The same, at a quarter of its brightness"),
        ("small", small, "The same, small in a grey image"),
        ("photographer", photographer, "From the side, in grey (scikit-image, CC0)"),
    ]


def scenes() -> list[tuple[str, Image, str]]:
    """The same of synthetic people."""
    found = []
    for kind, settings, seed in SCENES:
        scene = synthesize_scene(np.random.default_rng(seed), (480, 360), settings)
        what = "Synthetic people" if kind == "easy" else "Synthetic people that cover each other"
        found.append((f"{kind}-{seed}", scene.image, what))
    return found


def fitted(image: Image) -> Image:
    """The image with its longest side at most `SIDE`."""
    scale = SIDE / max(image.shape[:2])
    if scale >= 1:
        return image
    small: Image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return small


if __name__ == "__main__":
    main()
