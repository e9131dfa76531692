"""COCO files are read strictly, into a store that can be cut and joined."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from calipose.data.augment import cells_inside
from calipose.data.coco import _run_length_mask, read_coco
from calipose.data.store import concatenate
from calipose.errors import InputError
from calipose.skeleton import COCO_17, Skeleton


def person(number: int, image: int, **fields: Any) -> dict[str, Any]:
    keypoints = [float(v) for j in range(17) for v in (10 + j, 20 + number % 7, 2)]
    entry = {"id": number, "image_id": image, "category_id": 1, "keypoints": keypoints, "num_keypoints": 17}
    return {**entry, "area": 500.0 + number, "bbox": [4, 5, 20, 30], "iscrowd": 0, **fields}


def content(*annotations: dict[str, Any], images: int = 3) -> dict[str, Any]:
    images = [{"id": i, "file_name": f"bild ü {i}.jpg", "width": 40 + i, "height": 60} for i in range(1, images + 1)]
    categories = [{"id": 1, "name": "person", "keypoints": list(COCO_17.keypoints)}, {"id": 5, "name": "dog"}]
    return {"images": images, "annotations": list(annotations), "categories": categories}


def write(folder: Path, entries: dict[str, Any], images: bool = True) -> Path:
    if images:
        for image in entries["images"]:
            (folder / image["file_name"]).touch()
    (folder / "a.json").write_text(json.dumps(entries))
    return folder / "a.json"


def test_what_is_read(tmp_path: Path) -> None:
    unseen = [0.0] * 51
    partly = [1.5, 2.5, 1, *[0.0] * 48]
    entries = content(
        person(11, 3, keypoints=partly, num_keypoints=1),
        person(12, 1, segmentation=[[10, 10, 20, 10, 20, 30], [1, 1, 3, 1, 3, 3]]),
        person(13, 1, keypoints=unseen, num_keypoints=0, area=0),
        person(
            14,
            1,
            iscrowd=1,
            num_keypoints=0,
            segmentation={"counts": [0, 60, 41 * 60 - 60], "size": [60, 41]},
        ),
        person(15, 3, num_keypoints=0),
        {"id": 16, "image_id": 1, "category_id": 5, "bbox": [0, 0, 1, 1]},
    )
    entries["images"][1]["people_complete"] = False
    data = read_coco(write(tmp_path, entries), tmp_path)
    assert data.skeleton is COCO_17
    assert len(data) == 3
    assert data.image_ids.tolist() == [1, 2, 3]
    assert data.sizes.tolist() == [[41, 60], [42, 60], [43, 60]]
    assert data.people_complete.tolist() == [True, False, True]
    assert data.person_start.tolist() == [0, 1, 1, 2]
    assert data.region_start.tolist() == [0, 2, 2, 3]
    assert data.annotation_ids.tolist() == [12, 11]
    assert data.area_img.tolist() == [512, 511]
    assert data.keypoints_img[1, 0].tolist() == [1.5, 2.5]
    assert data.visibility[1].tolist() == [1] + [0] * 16
    assert data.image_path(2) == tmp_path / "bild ü 3.jpg"
    known = data.labels(0)
    assert known.labelled.all()
    first = [[9.5, 9.5], [19.5, 9.5], [19.5, 29.5], [9.5, 9.5]]
    second = [[0.5, 0.5], [2.5, 0.5], [2.5, 2.5], [0.5, 0.5]]
    assert np.array_equal(
        known.outlines_img[0],
        [*first, [np.nan] * 2, *second],
        equal_nan=True,
    )
    box = [[3.5, 4.5], [23.5, 4.5], [23.5, 34.5], [3.5, 34.5], [3.5, 4.5]]
    assert known.regions_img[0].tolist() == box
    arrays = [data.keypoints_img, data.visibility, data.area_img, data.names.values, data.outlines_img.values]
    assert [a.dtype.name for a in arrays] == ["float32", "uint8", "float32", "uint8", "float32"]


def blobs() -> np.ndarray:
    mask = np.zeros((60, 41), np.uint8)
    mask[5:40, 3:30] = 1
    mask[15:30, 10:20] = 0  # a hole
    mask[44:55, 20:41] = 1
    return mask


@pytest.mark.parametrize("compressed", [False, True])
def test_run_length_masks(tmp_path: Path, compressed: bool) -> None:
    mask = blobs()
    if compressed:
        packed = coco_mask.encode(np.asfortranarray(mask))
        counts: Any = packed["counts"].decode()
    else:
        flat = mask.T.ravel()
        changes = np.flatnonzero(np.diff(flat)) + 1
        counts = np.diff([0, *changes, flat.size]).tolist()
    crowd = person(1, 1, iscrowd=1, num_keypoints=0, segmentation={"counts": counts, "size": [60, 41]})
    data = read_coco(write(tmp_path, content(crowd)), tmp_path)
    inside = cells_inside(data.regions_img[0], 60)[:, :41]
    assert (inside != mask.astype(bool)).sum() < 0.1 * mask.sum()  # the outline runs through border pixels' centres
    assert not inside[17:28, 12:18].any(), "the hole stays a hole"
    assert inside[8:13, 6:27].all()


@pytest.mark.parametrize("seed", range(3))
def test_compressed_runs_equal_pycocotools(tmp_path: Path, seed: int) -> None:
    """Noise has short and long runs and differences of both signs."""
    rng = np.random.default_rng(seed)
    mask = (rng.random((120, 200)) < rng.random((1, 200)) ** 4).astype(np.uint8)
    packed = coco_mask.encode(np.asfortranarray(mask))
    found = _run_length_mask({"counts": packed["counts"].decode(), "size": packed["size"]}, (200, 120))
    assert np.array_equal(found, mask)


NAN, INF = float("nan"), float("inf")
BROKEN = {
    "too few": (person(1, 1, keypoints=[1.0] * 50), "50 numbers in keypoints; 51"),
    "no keypoints": ({k: v for k, v in person(1, 1).items() if k != "keypoints"}, "no field 'keypoints'"),
    "nan": (person(1, 1, keypoints=[NAN] + [1.0] * 50), "not finite"),
    "inf": (person(1, 1, keypoints=[INF] + [1.0] * 50), "not finite"),
    "null": (person(1, 1, keypoints=[None] + [1.0] * 50), "not finite"),
    "text": (person(1, 1, keypoints=["left"] + [1.0] * 50), "left"),
    "huge": (person(1, 1, keypoints=[1e300] + [1.0] * 50), "not finite"),
    "visibility": (person(1, 1, keypoints=[1.0, 1.0, 3.0] * 17), "visibility is not 0, 1 or 2"),
    "zero area": (person(1, 1, area=0, bbox=[4, 5, 0, 30]), "area 0.0 must be positive"),
    "negative area": (person(1, 1, area=-3), "area -3.0 must be positive"),
    "nan area": (person(1, 1, area=NAN), "area nan"),
    "missing image": (person(1, 99), "no valid image"),
    "category": (person(1, 1, category_id=2), "unknown category 2"),
    "twice": (person(1000, 1), "id appears twice"),
    "negative box": (person(1, 1, bbox=[1, 2, -3, 4]), "bbox"),
    "box": (person(1, 1, bbox=[1, 2, 3]), "bbox"),
    "neither": (person(1, 1, bbox=None), "neither segmentation nor bbox"),
    "runs": (person(1, 1, segmentation={"counts": [5], "size": [60, 41]}), "does not fit"),
    "polygon": (person(1, 1, segmentation=[[1, 2, 3]]), "reshape"),
    "id": (person(1, 1, id="one"), "id is 'one'"),
    "no id": ({k: v for k, v in person(1, 1).items() if k != "id"}, "no field 'id'"),
    "list": ([1, 2], "annotation number 0"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_one_broken_annotation(tmp_path: Path, kind: str) -> None:
    broken, message = BROKEN[kind]
    path = write(tmp_path, content(broken, person(1000, 2)) if kind != "twice" else content(person(1000, 2), broken))
    with pytest.raises(InputError) as caught:
        read_coco(path, tmp_path)
    assert message in str(caught.value)
    assert "1 broken entries" in str(caught.value)
    assert str(path) in str(caught.value)
    if kind not in {"list", "id", "no id", "missing image"}:
        assert f"image 1, annotation {1000 if kind == 'twice' else 1}:" in str(caught.value)


def test_all_broken_entries_are_reported_at_once(tmp_path: Path) -> None:
    entries = content(
        *(broken for broken, _ in BROKEN.values()), *(person(i, 1, area=-1) for i in range(2, 30)), images=5
    )
    entries["images"][1]["width"] = 0
    entries["images"][2]["id"] = 1
    del entries["images"][3]["file_name"]
    path = write(tmp_path, entries, images=False)
    with pytest.raises(InputError) as caught:
        read_coco(path, tmp_path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 22
    assert "image 2: width 0" in lines[1]
    assert "image 1: its id appears twice" in lines[2]
    assert "image 4: no field 'file_name'" in lines[3]
    total = int(lines[0].split(": ")[1].split()[0])
    assert lines[-1].strip() == f"and {total - 20} more"


def test_missing_images_are_reported_at_once(tmp_path: Path) -> None:
    entries = content(images=4)
    entries["images"][3]["file_name"] = "deeper/x.jpg"
    path = write(tmp_path, entries, images=False)
    (tmp_path / "bild ü 2.jpg").touch()
    with pytest.raises(InputError, match="3 broken entries") as caught:
        read_coco(path, tmp_path)
    assert "bild ü 1.jpg" in str(caught.value)
    assert "bild ü 2.jpg" not in str(caught.value)
    assert len(read_coco(path, tmp_path, check_files=False)) == 4
    (tmp_path / "deeper").mkdir()
    for name in ("bild ü 1.jpg", "bild ü 3.jpg", "deeper/x.jpg"):
        (tmp_path / name).touch()
    assert len(read_coco(path, tmp_path)) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("", "is empty"),
        (" \n", "is empty"),
        ("{", "not valid JSON"),
        ("[1]", "no list 'images'"),
        ('{"images": [], "annotations": []}', "no list 'categories'"),
        ('{"images": [], "annotations": [], "categories": []}', "0 categories have 'keypoints'"),
        ('{"images": [], "annotations": [], "categories": [7]}', "broken entry in 'categories'"),
    ],
)
def test_no_coco_file(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "labels.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_coco(path, tmp_path)
    assert "labels.json" in str(caught.value)


def test_other_skeletons(tmp_path: Path) -> None:
    entries = content({**person(1, 1), "keypoints": [1.0, 2.0, 2, 3.0, 4.0, 1]})
    entries["categories"][0]["keypoints"] = ["head", "tail"]
    path = write(tmp_path, entries)
    own = Skeleton("fish", ("head", "tail"), (), ((0, 1),), (0.1, 0.1))
    assert read_coco(path, tmp_path, own).keypoints_img.tolist() == [[[1, 2], [3, 4]]]
    with pytest.raises(InputError, match="2 keypoints, skeleton 'coco-17' has 17; give the skeleton"):
        read_coco(path, tmp_path)
    with pytest.raises(InputError, match="1 is 'tail', not 'fin'"):
        read_coco(path, tmp_path, Skeleton("f", ("head", "fin"), (), (), (0.1, 0.1)))


def three(tmp_path: Path) -> Any:
    crowd = person(4, 2, num_keypoints=0)
    return read_coco(write(tmp_path, content(person(1, 1), person(2, 1), person(3, 3), crowd)), tmp_path)


def same(a: Any, b: Any) -> bool:
    fields = ("keypoints_img", "labelled", "area_img", "people_complete")
    equal = all(np.array_equal(getattr(a, f), getattr(b, f)) for f in fields)
    for field in ("outlines_img", "regions_img"):
        pairs = zip(getattr(a, field), getattr(b, field), strict=True)
        equal &= all(np.array_equal(x, y, equal_nan=True) for x, y in pairs)
    return equal


def test_subset_and_concatenate(tmp_path: Path) -> None:
    data = three(tmp_path)
    part = data.subset([2, 0])
    assert part.image_ids.tolist() == [3, 1]
    assert part.annotation_ids.tolist() == [3, 1, 2]
    assert part.image_path(0) == data.image_path(2)
    assert same(part.labels(1), data.labels(0))
    assert data.subset(np.array([False, True, False])).image_ids.tolist() == [2]
    assert len(data.subset(np.zeros(3, bool))) == 0
    both = concatenate([part, replace(data, folders=(Path("elsewhere"),))])
    assert both.image_path(4) == Path("elsewhere") / data.image_path(2).name
    assert both.image_path(0) == data.image_path(2)
    for place, source, index in [(0, data, 2), (1, data, 0), (2, data, 0), (3, data, 1), (4, data, 2)]:
        assert same(both.labels(place), source.labels(index))
    with pytest.raises(InputError, match="cannot be joined"):
        concatenate([data, replace(data, skeleton=Skeleton("x", COCO_17.keypoints, (), (), COCO_17.sigmas))])
    with pytest.raises(InputError, match="no data set was given"):
        concatenate([])


def test_nobody_anywhere(tmp_path: Path) -> None:
    data = read_coco(write(tmp_path, content()), tmp_path)
    assert data.keypoints_img.shape == (0, 17, 2)
    assert data.labels(1).keypoints_img.shape == (0, 17, 2)
    assert len(read_coco(write(tmp_path, content(images=0)), tmp_path)) == 0


@pytest.mark.photographs
@pytest.mark.parametrize(
    ("name", "images", "people"), [("coco-train", 398, 606), ("coco-val", 154, 341), ("lspet", 3000, 3000)]
)
def test_data_at_hand(shared: Path, name: str, images: int, people: int) -> None:
    folder = shared / "data" / name
    data = read_coco(folder / "annotations.json", folder / "images")
    assert (len(data), len(data.area_img)) == (images, people)
    entries = json.loads((folder / "annotations.json").read_text())["annotations"]
    assert len(data.regions_img) == len(entries) - people
