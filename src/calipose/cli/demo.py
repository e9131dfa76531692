"""`calipose demo`: the default model, on photographs that well-known packages carry."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from calipose.cli.console import counted, note, say
from calipose.cli.model import open_predictor
from calipose.data.synthetic.scene import EASY, synthesize_scene
from calipose.draw import draw_poses, save_image
from calipose.errors import install_hint
from calipose.io.atomic import make_folder
from calipose.io.images import Image, read_image
from calipose.io.sources import find_sources
from calipose.poses import Poses

# Images with people in scikit-image: a portrait by NASA (public domain), and a photographer (CC0).
PACKAGED = ("astronaut.png", "camera.png")
MIN_SCORE = MIN_KEYPOINT_SCORE = 0.3  # poses and keypoints below are not drawn
SYNTHETIC_SIZE = (640, 480)  # width and height in pixels


def demo_command(
    images: Annotated[
        list[str] | None, typer.Argument(metavar="SOURCE", help="Your own images, or folders of them.")
    ] = None,
    folder: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the drawings.")] = Path("runs/demo"),
) -> None:
    """Try the default model on a few images; this needs no torch and no download.

    Without SOURCE it takes two photographs of the package scikit-image, if that is installed, and synthetic people.
    """
    predictor = open_predictor("default")
    found = own_images(images) if images else packaged_images()
    make_folder(folder)
    for name, image in found.items():
        poses = predictor.predict(image).above(MIN_SCORE)
        path = folder / f"{Path(name).stem}.jpg"
        save_image(path, draw_poses(image, poses, min_keypoint_score=MIN_KEYPOINT_SCORE))
        say(f"{path}: {counted(len(poses), 'pose')}")
        for line in table(poses):
            say(line)


def own_images(sources: list[str]) -> dict[str, Image]:
    """The first frame of each source that the user names, by name."""
    return {source.name: next(iter(source.frames())).image for source in find_sources(*sources)}


def packaged_images() -> dict[str, Image]:
    """Photographs of scikit-image, if it is installed, and a synthetic scene, by name."""
    found: dict[str, Image] = {}
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        note(f"without scikit-image ({install_hint('demo')}) there are no photographs, only synthetic people")
    else:
        data = Path(spec.origin).parent / "data"
        found = {name: read_image(data / name) for name in PACKAGED if (data / name).is_file()}
    found["synthetic.png"] = synthesize_scene(np.random.default_rng(0), SYNTHETIC_SIZE, EASY).image
    return found


def table(poses: Poses) -> list[str]:
    """Score, box and best-scored keypoints of each pose, a line each."""
    lines = []
    for pose, box in zip(poses, poses.boxes_img, strict=True):
        left, top, right, bottom = box.round().astype(int).tolist()
        line = f"  score {pose.scores[0]:.2f}  x {left} to {right}, y {top} to {bottom}"
        if pose.keypoint_scores is not None:
            order = np.argsort(-pose.keypoint_scores[0])[:3]
            keypoints = (f"{pose.skeleton.keypoints[j]} {pose.keypoint_scores[0, j]:.2f}" for j in order)
            line += f"  best keypoints: {', '.join(keypoints)}"
        lines.append(line)
    return lines
