"""COCO files as CVAT, Label Studio, Roboflow and others write them are read as training data.

Each habit gives the same data as COCO's own way of writing, and a sentence that says what was assumed.
"""

import copy
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from calipose.cli import app
from calipose.data.coco import read_coco
from calipose.data.dialects import Assumptions, find_names
from calipose.data.store import concatenate
from calipose.draw import save_image
from calipose.errors import InputError
from calipose.skeleton import COCO_17

Content = dict[str, Any]


def content() -> Content:
    """Two images of one person each, as COCO writes them; the area is what is assumed without one."""
    keypoints = [float(v) for j in range(16) for v in (10 + j, 20, 2)] + [0.0, 0.0, 0]
    person = {"category_id": 1, "keypoints": keypoints, "num_keypoints": 16, "bbox": [4, 5, 20, 30], "iscrowd": 0}
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 60} for i in (1, 2)],
        "annotations": [{**person, "id": 10 + i, "image_id": i, "area": 0.53 * 600} for i in (1, 2)],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO_17.keypoints)}],
    }


def each(part: str, change: Callable[[Content], Any]) -> Callable[[Content], None]:
    """A habit: what it does to each entry of a part."""

    def apply(truth: Content) -> None:
        for entry in truth[part]:
            change(entry)

    return apply


def text_ids(truth: Content) -> None:
    for part, fields in {"images": ["id"], "annotations": ["id", "image_id", "category_id"]}.items():
        for entry in truth[part]:
            entry.update({field: f"{entry[field]:03d}" for field in fields})


def as_triples(entry: Content) -> None:
    entry["keypoints"] = np.reshape(entry["keypoints"], (-1, 3)).tolist()


def place_of_unlabelled(value: float | None) -> Callable[[Content], None]:
    return each("annotations", lambda entry: entry["keypoints"].__setitem__(slice(48, 50), [value, value]))


def spelling(change: Callable[[str], str]) -> Callable[[Content], None]:
    return each("categories", lambda entry: entry.update(keypoints=list(map(change, entry["keypoints"]))))


HABITS: dict[str, tuple[Callable[[Content], Any], str]] = {
    "no area": (each("annotations", lambda e: e.pop("area")), "got 0.53 x the area of their box (2)"),
    "area null": (each("annotations", lambda e: e.update(area=None)), "without 'area' (or 0) got 0.53"),
    "area 0": (each("annotations", lambda e: e.update(area=0)), "without 'area' (or 0) got 0.53"),
    "ids as text": (text_ids, "ids written as text or with decimals were read as whole numbers (8)"),
    "ids as floats": (each("images", lambda e: e.update(id=float(e["id"]))), "ids written as text or with decimals"),
    "triples": (each("annotations", as_triples), "'keypoints' are lists of three were read one keypoint after"),
    "NaN where not labelled": (place_of_unlabelled(float("nan")), "read as not labelled (2)"),
    "null where not labelled": (place_of_unlabelled(None), "read as not labelled (2)"),
    "other case": (spelling(str.upper), "names differ from the skeleton's in case or spaces only"),
    "spaces": (spelling(lambda name: name.replace("_", " ").title()), "(17)"),
    "hyphens": (spelling(lambda name: name.replace("_", "-")), "names differ"),
    "camel case": (spelling(lambda name: name.title().replace("_", "")), "names differ"),
    "no keypoint names": (each("categories", lambda e: e.pop("keypoints")), "the skeleton's order was assumed"),
    "categories": (
        lambda truth: truth["categories"].append({"id": 7, "name": "hand", "keypoints": ["thumb"]}),
        "'person' was taken for the people's",
    ),
    "category names": (
        lambda truth: truth["categories"].extend([
            {"id": 0, "name": "Supercategory", "keypoints": list(COCO_17.keypoints)},
        ]) or truth["categories"][0].update(name=" Person"),
        "' Person' was taken",
    ),
    "no sizes": (each("images", lambda e: (e.pop("width"), e.pop("height"))), "'width' and 'height' were measured (2)"),
    "folders": (
        each("images", lambda e: e.update(file_name=f"val2017/{e['file_name']}")),
        "file names such as 'val2017/1.png' were found",
    ),
    "another machine's folders": (
        each("images", lambda e: e.update(file_name=f"/data/upload/{e['file_name']}")),
        "'/data/upload/1.png'",
    ),
    "backslashes": (each("images", lambda e: e.update(file_name=f"images\\{e['file_name']}")), "without their folders"),
}  # fmt: skip


def write(folder: Path, truth: Content) -> Path:
    for name in ("1.png", "2.png"):
        save_image(folder / name, np.zeros((60, 40, 3), np.uint8))
    (folder / "a.json").write_text(json.dumps(truth))
    return folder / "a.json"


@pytest.mark.parametrize("habit", HABITS)
def test_a_habit_is_read_and_said(tmp_path: Path, habit: str) -> None:
    change, said = HABITS[habit]
    expected = read_coco(write(tmp_path, content()), tmp_path)
    assert expected.assumptions == ()
    truth = content()
    change(truth)
    data = read_coco(write(tmp_path, truth), tmp_path)
    (remark,) = data.assumptions
    assert said in remark
    assert "a.json" in remark
    for field in ("image_ids", "sizes", "keypoints_img", "visibility", "area_img", "annotation_ids"):
        np.testing.assert_array_equal(getattr(data, field), getattr(expected, field))
    assert [data.image_path(i) for i in range(2)] == [expected.image_path(i) for i in range(2)]
    np.testing.assert_array_equal(data.outlines_img.values, expected.outlines_img.values)
    assert concatenate([data, expected]).subset([0]).assumptions == data.assumptions


def test_all_habits_at_once(tmp_path: Path) -> None:
    truth = content()
    chosen = [HABITS[name] for name in ("no area", "ids as text", "triples", "other case", "no sizes", "folders")]
    for change, _ in chosen:
        change(truth)
    data = read_coco(write(tmp_path, truth), tmp_path)
    assert len(data.assumptions) == len(chosen)
    assert all(any(said in remark for remark in data.assumptions) for _, said in chosen)


def test_the_content_stays_as_it_is(tmp_path: Path) -> None:
    from calipose.data.dialects import mend_ground_truth

    truth = content()
    text_ids(truth)
    given = copy.deepcopy(truth)
    mend_ground_truth(truth, Assumptions())
    assert truth == given


def test_no_keypoints_at_all_is_an_ignore_region(tmp_path: Path) -> None:
    """Roboflow and others write boxes without keypoints as an empty list."""
    truth = content()
    truth["annotations"][0]["keypoints"] = []
    del truth["annotations"][0]["num_keypoints"]
    data = read_coco(write(tmp_path, truth), tmp_path)
    assert (len(data.area_img), len(data.regions_img)) == (1, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (each("annotations", lambda e: e.update(area=None, bbox=[1, 2, 0, 5])), "without 'area', 0.53 x the box's is"),
        (each("images", lambda e: e.update(id=f"image {e['id']}")), "id is 'image 1'; a whole number is needed"),
        (each("images", lambda e: (e.pop("width"), e.update(file_name="3.png"))), "no field 'width'"),
        (
            each("images", lambda e: (e.pop("width"), e.pop("height"), e.update(file_name="3.png"))),
            "no 'width' and 'height', and they cannot be measured",
        ),
        (each("annotations", lambda e: e.update(keypoints=[[1.0, 2.0]] * 17)), "keypoints"),
        (each("annotations", lambda e: e["keypoints"].__setitem__(0, None)), "not finite"),
        (spelling(lambda name: name[::-1]), "keypoint 0 is 'eson', not 'nose'"),
        (
            lambda truth: truth["categories"].append({**truth["categories"][0], "id": 2}),
            "2 categories have 'keypoints'; exactly one is needed",
        ),
    ],
)
def test_what_has_no_single_meaning_is_refused(tmp_path: Path, change: Callable[[Content], Any], message: str) -> None:
    truth = content()
    change(truth)
    with pytest.raises(InputError, match=message):
        read_coco(write(tmp_path, truth), tmp_path)


def test_one_file_is_not_found_for_two_names(tmp_path: Path) -> None:
    (tmp_path / "1.png").touch()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "2.png").touch()
    assumed = Assumptions()
    assert find_names(tmp_path, ["a/1.png", "c/1.png"], assumed) == ["a/1.png", "c/1.png"]
    assert find_names(tmp_path, ["1.png", "a/1.png"], assumed) == ["1.png", "a/1.png"]
    assert assumed.remarks("x") == ()
    assert find_names(tmp_path, ["a/b/2.png", "1.png", "no.png"], assumed) == ["b/2.png", "1.png", "no.png"]
    (remark,) = assumed.remarks("x")
    assert "'a/b/2.png'" in remark


def test_train_says_what_was_assumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    train = importlib.import_module("calipose.cli.train")
    truth = content()
    HABITS["no area"][0](truth)
    path = write(tmp_path, truth)
    monkeypatch.setattr(train, "run_training", lambda *_, **__: None)
    words = ["train", "synthetic", "--data", f"{path}={tmp_path}", "--out", str(tmp_path / "run")]
    assert "warning: annotation file" in CliRunner().invoke(app, words).output
    assert "warning" not in CliRunner().invoke(app, [*words, "--quiet"]).output
