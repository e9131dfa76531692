"""Labels of the same two people, as CVAT, Label Studio and YOLO write them."""

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import yaml

from calipose.skeleton import COCO_17

SIZE = (120, 90)
PEOPLE = np.random.default_rng(3).uniform(5, 85, (2, 17, 2)).round(2)
HIDDEN, MISSING = 4, 5  # keypoints of the first and of the second person
STICK = ("nose", "left hand", "right hand")


def write_images(folder: Path) -> None:
    """a.png with two people, b.png with nobody."""
    (folder / "images").mkdir(exist_ok=True)
    for name in "ab":
        cv2.imwrite(str(folder / "images" / f"{name}.png"), np.full((SIZE[1], SIZE[0], 3), 128, np.uint8))


def write_cvat(folder: Path, names: Sequence[str] = COCO_17.keypoints, people: np.ndarray = PEOPLE) -> Path:
    """An XML file with skeletons."""
    write_images(folder)
    labels = "".join(f"<label><name>{n}</name><type>points</type><parent>person</parent></label>" for n in names)
    head = f"<meta><task><labels><label><name>person</name><type>skeleton</type></label>{labels}</labels></task></meta>"
    skeletons = ""
    for i, person in enumerate(people):
        points = ""
        for j, (x, y) in reversed(list(enumerate(person))):  # CVAT does not keep the labels' order
            outside, occluded = int((i, j) == (1, MISSING)), int((i, j) == (0, HIDDEN))
            flags = f'outside="{outside}" occluded="{occluded}"'
            points += f'<points label="{names[j]}" {flags} points="{x},{y}"/>'
        skeletons += f'<skeleton label="person" source="manual" z_order="0">{points}</skeleton>'
    size = f'width="{SIZE[0]}" height="{SIZE[1]}"'
    images = f'<image id="0" name="a.png" {size}>{skeletons}</image><image id="1" name="b.png" {size}/>'
    path = folder / "cvat.xml"
    path.write_text(f'<?xml version="1.0"?>\n<annotations><version>1.1</version>{head}{images}</annotations>')
    return path


def write_label_studio(folder: Path) -> Path:
    """An export with rectangles and keypoints that name them as their parents."""
    write_images(folder)
    size = np.array(SIZE)
    result = []
    for i, person in enumerate(PEOPLE):
        frame = {"original_width": SIZE[0], "original_height": SIZE[1], "image_rotation": 0}
        seen = [j for j in range(17) if (i, j) != (1, MISSING)]
        low, high = 100 * person[seen].min(0) / size, 100 * person[seen].max(0) / size
        box = {"x": low[0], "y": low[1], "width": high[0] - low[0], "height": high[1] - low[1], "rotation": 0}
        value = {**box, "rectanglelabels": ["person"]}
        result.append({"id": f"box-{i}", "type": "rectanglelabels", **frame, "value": value})
        for j in seen:
            x, y = (100 * person[j] / size).tolist()
            value = {"x": x, "y": y, "width": 0.5, "keypointlabels": [COCO_17.keypoints[j]]}
            region = {"id": f"{i}-{j}", "parentID": f"box-{i}", "type": "keypointlabels", **frame, "value": value}
            result.append(region)
    tasks = [
        {"id": 1, "data": {"image": "/data/local-files/?d=photos/a.png"}, "annotations": [{"result": result}]},
        {"id": 2, "data": {"image": "/data/local-files/?d=photos/b.png"}, "annotations": [{"result": []}]},
    ]
    path = folder / "tasks.json"
    path.write_text(json.dumps(tasks))
    # Label Studio writes no size where nothing is labelled: it is measured
    return path


def write_yolo(folder: Path) -> Path:
    """A data.yaml with images and labels beside it."""
    write_images(folder)
    (folder / "labels").mkdir(exist_ok=True)
    lines = []
    for i, person in enumerate(PEOPLE):
        places = person / SIZE
        seen = np.array([(i, j) != (1, MISSING) for j in range(17)])
        low, high = places[seen].min(0), places[seen].max(0)
        numbers = [0, *((low + high) / 2), *(high - low)]
        for j, (x, y) in enumerate(places):
            v = 1 if (i, j) == (0, HIDDEN) else 2
            numbers += [x, y, v] if seen[j] else [0, 0, 0]
        lines.append(" ".join(f"{number:.8g}" for number in numbers))
    (folder / "labels" / "a.txt").write_text("\n".join(lines) + "\n")
    path = folder / "data.yaml"
    path.write_text(yaml.safe_dump({"train": "images", "names": {0: "person"}, "kpt_shape": [17, 3]}))
    return path
