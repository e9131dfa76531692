"""What Label Studio itself makes of our tasks: its export of an imported and submitted task, against the poses.

`label_studio_1_23_2/` holds `poses.jsonl` of `calipose predict` on a synthetic image, and what Label Studio 1.23.2
exported as JSON after `label_studio.json` of the same call was imported as docs/label-studio.md says, opened in a
browser, and submitted without a change.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calipose.data.labels.label_studio import read_label_studio
from calipose.evaluation.ground_truth import read_ground_truth
from calipose.formats.annotation import image_address
from calipose.formats.entries import read_entries
from calipose.formats.label_studio import to_label_studio
from calipose.poses import Poses
from calipose.skeleton import COCO_17

FOLDER = Path(__file__).parent / "label_studio_1_23_2"
PREFIX = "/data/local-files/?d="


@pytest.fixture
def entry() -> dict[str, Any]:
    (entry,) = read_entries(FOLDER / "poses.jsonl")
    return entry


@pytest.fixture
def task() -> dict[str, Any]:
    (task,) = json.loads((FOLDER / "export.json").read_text(encoding="utf-8"))
    return task


def regions(task: dict[str, Any], what: str) -> list[dict[str, Any]]:
    (annotation,) = task["annotations"]
    return (annotation if what == "annotation" else annotation["prediction"])["result"]


@pytest.mark.parametrize("what", ["annotation", "prediction"])
def test_coordinates_come_back(entry: dict[str, Any], task: dict[str, Any], what: str) -> None:
    poses = Poses.from_dict(entry, COCO_17)
    assert poses.keypoints_img.shape == (2, 17, 2)
    places: dict[tuple[str, str], tuple[float, float]] = {}
    for region in regions(task, what):
        size = (region["original_width"], region["original_height"])
        assert (size, region["image_rotation"]) == (poses.image_size, 0)
        if region["type"] == "keypointlabels":
            value = region["value"]
            (name,) = value["keypointlabels"]
            places[region["parentID"], name] = (value["x"] * size[0] / 100, value["y"] * size[1] / 100)
    assert len(places) == 34
    back = np.array([[places[f"pose-{i + 1}", name] for name in COCO_17.keypoints] for i in range(2)])
    assert np.abs(back - poses.keypoints_img).max() < 0.01


@pytest.mark.parametrize("what", ["annotation", "prediction"])
def test_boxes_and_scores_come_back(entry: dict[str, Any], task: dict[str, Any], what: str) -> None:
    poses = Poses.from_dict(entry, COCO_17)
    assert poses.keypoint_scores is not None
    found = [region for region in regions(task, what) if region["type"] == "rectanglelabels"]
    assert [region["score"] for region in found] == poses.scores.tolist()
    values = [region["value"] for region in found]
    corners = np.array([(v["x"], v["y"], v["x"] + v["width"], v["y"] + v["height"]) for v in values])
    assert np.abs(corners * [3.2, 2.4, 3.2, 2.4] - poses.boxes_img).max() < 0.01
    scores = [region["score"] for region in regions(task, what) if region["type"] == "keypointlabels"]
    assert scores == poses.keypoint_scores.ravel().tolist()


def test_what_was_imported_is_what_is_written_today(entry: dict[str, Any], task: dict[str, Any]) -> None:
    ours = to_label_studio(Poses.from_dict(entry, COCO_17), image_address(entry["file"], PREFIX))
    assert task["data"] == ours["data"] == {"image": f"{PREFIX}photos/drawn%20people/1%20%26%202.jpg"}
    assert regions(task, "prediction") == ours["predictions"][0]["result"]


def test_our_reader_reads_the_poses_back(entry: dict[str, Any]) -> None:
    poses = Poses.from_dict(entry, COCO_17)
    path = FOLDER / "export.json"
    labels = read_label_studio(path, path.read_bytes())
    (image,) = labels.images
    assert image.name == "photos/drawn people/1 & 2.jpg"
    assert image.size == poses.image_size
    back = np.array([[person.points[name][:2] for name in COCO_17.keypoints] for person in image.people])
    assert np.abs(back - poses.keypoints_img).max() < 0.01
    corners = np.array(
        [(x, y, x + width, y + height) for x, y, width, height in (p.box for p in image.people if p.box)]
    )
    assert np.abs(corners - poses.boxes_img).max() < 0.01
    truth = read_ground_truth(path)
    assert truth.wanted.tolist() == [2]
