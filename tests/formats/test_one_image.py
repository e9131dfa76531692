"""The poses of one image in other formats: structure, coordinates there and back, nobody, scores of joints absent."""

import csv
import dataclasses
import json
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from calipose.errors import InputError
from calipose.formats.annotation import image_address, with_image_prefix
from calipose.formats.csv import COLUMNS, keypoint_rows, write_wide_csv
from calipose.formats.cvat import CVAT_TAIL, cvat_head, cvat_image, to_cvat
from calipose.formats.label_studio import label_studio_config, to_label_studio
from calipose.formats.one_image import save_poses
from calipose.formats.pandas import to_pandas
from calipose.formats.supervision import to_supervision
from calipose.poses import Poses
from calipose.skeleton import COCO_17, Skeleton

TWO = Skeleton("two", ("head", "tail"), (), ((0, 1),), (0.1, 0.1))
SIZE = (640, 479)
POINTS = np.array([[[10.25, 20.5], [300.1, 478.9]], [[-3.5, 40.0], [80.0, 1 / 3]], [[700.0, 50.0], [800.0, 60.0]]])
JOINTS = np.array([[0.9, 0.2], [0.3, 0.4], [0.5, 0.6]])


@pytest.fixture
def plain():
    return Poses(POINTS, [0.9, 0.5, 0.2], SIZE, skeleton=TWO)


@pytest.fixture
def full(plain):
    optional = {
        "raw_scores": [3.0, 2.0, 1.0], "p_oks50": [0.9, 0.7, 0.1], "p_oks75": [0.6, 0.25, 0.0],
        "track_ids": [4, 1, 9], "filled": [False, True, False],
    }  # fmt: skip
    return dataclasses.replace(plain, keypoint_scores=JOINTS, **optional)


def many(number):
    """COCO people within an image of 1000 x 700."""
    points = np.random.default_rng(0).uniform(0, 700, (number, 17, 2))
    return Poses(points, np.linspace(1, 0.1, number), (1000, 700))


# ---- Label Studio


def regions(task):
    (prediction,) = task["predictions"]
    return prediction["result"]


def test_label_studio_structure(full):
    task = json.loads(json.dumps(to_label_studio(full, "/data/a.jpg", label="cat", model_version="m")))
    assert task["data"] == {"image": "/data/a.jpg"}
    assert task["predictions"][0]["model_version"] == "m"
    assert task["predictions"][0]["score"] == pytest.approx(0.7)  # of the two that can be shown
    result = regions(task)
    assert [r["id"] for r in result] == ["pose-1", "pose-1-head", "pose-1-tail", "pose-2", "pose-2-tail"]
    assert [r.get("parentID") for r in result] == [None, "pose-1", "pose-1", None, "pose-2"]
    assert [r["score"] for r in result] == [0.9, 0.9, 0.2, 0.5, 0.4]
    assert result[0]["meta"] == {"text": ["track 4"]}
    for region in result:
        kind = region["type"]
        assert (region["from_name"], region["to_name"]) == ({"r": "box", "k": "keypoint"}[kind[0]], "image")
        assert (region["original_width"], region["original_height"], region["image_rotation"]) == (*SIZE, 0)
        name = region["id"].split("-")[-1] if kind == "keypointlabels" else "cat"
        assert region["value"][kind] == [name]


def test_label_studio_places_come_back():
    poses = many(3)
    result = regions(to_label_studio(poses, "a.jpg"))
    width, height = poses.image_size
    points = [r["value"] for r in result if r["type"] == "keypointlabels"]
    back = np.array([(v["x"] * width / 100, v["y"] * height / 100) for v in points]).reshape(3, 17, 2)
    assert np.abs(back - poses.keypoints_img).max() < 1e-6
    boxes = [r["value"] for r in result if r["type"] == "rectanglelabels"]
    corners = [(v["x"], v["y"], v["x"] + v["width"], v["y"] + v["height"]) for v in boxes]
    assert np.abs(np.array(corners) * [width, height, width, height] / 100 - poses.boxes_img).max() < 1e-6


def test_label_studio_gets_nothing_outside_the_image(plain):
    for region in regions(to_label_studio(plain, "a.jpg")):
        value = region["value"]
        assert 0 <= value["x"] <= value["x"] + value.get("width", 0) * ("rotation" in value) <= 100
        assert 0 <= value["y"] <= value["y"] + value.get("height", 0) <= 100 + 1e-9


@pytest.mark.parametrize(
    ("least", "expected"), [(0.35, ["pose-1", "pose-1-head", "pose-2", "pose-2-tail"]), (0.95, []), (0.0, 5)]
)
def test_label_studio_leaves_weak_joints_to_the_annotator(least, expected, full):
    ids = [r["id"] for r in regions(to_label_studio(full, "a.jpg", min_keypoint_score=least))]
    assert ids == expected if isinstance(expected, list) else len(ids) == expected


def test_label_studio_without_scores_of_joints(plain):
    result = regions(to_label_studio(plain, "a.jpg", min_keypoint_score=0.9))
    assert len(result) == 5
    assert [("score" in r) for r in result] == [True, False, False, True, False]
    assert all("meta" not in r for r in result)


def test_label_studio_nobody():
    task = to_label_studio(Poses.empty(SIZE), "a.jpg")
    assert task == {"data": {"image": "a.jpg"}, "predictions": [{"model_version": "calipose", "result": []}]}


def test_label_studio_config_has_what_the_tasks_name(full):
    view = ElementTree.fromstring(label_studio_config(TWO, "cat & dog"))
    assert view.tag == "View"  # what Label Studio calls the root of its interface
    image, boxes, points = view
    assert (image.tag, image.get("name"), image.get("value")) == ("Image", "image", "$image")
    assert (boxes.tag, boxes.get("name"), [b.get("value") for b in boxes]) == ("RectangleLabels", "box", ["cat & dog"])
    assert (points.tag, points.get("name")) == ("KeyPointLabels", "keypoint")
    assert [(p.get("value"), p.get("model_index")) for p in points] == [("head", "0"), ("tail", "1")]
    names = {boxes.get("name"), points.get("name")}
    assert {r["from_name"] for r in regions(to_label_studio(full, "a.jpg"))} == names


LOCAL = "/data/local-files/?d="


@pytest.mark.parametrize(
    ("file", "prefix", "address"),
    [
        ("holiday/a.jpg", "", "holiday/a.jpg"),
        ("holiday/a.jpg", LOCAL, f"{LOCAL}holiday/a.jpg"),
        ("./holiday/../a.jpg", LOCAL, f"{LOCAL}a.jpg"),
        ("day 1/a & b #1?.jpg", LOCAL, f"{LOCAL}day%201/a%20%26%20b%20%231%3F.jpg"),
        ("caf\u00e9 100%.jpg", "https://host/images", "https://host/images/caf%C3%A9%20100%25.jpg"),
        ("caf\udce9.jpg", LOCAL, f"{LOCAL}caf%E9.jpg"),  # a name that is no UTF-8
        ("day 1/a.jpg", "s3://bucket/photos/", "s3://bucket/photos/day 1/a.jpg"),  # no web address: as it is
        ("https://other/a.jpg", LOCAL, "https://other/a.jpg"),
    ],
)
def test_addresses_of_images(file, prefix, address):
    assert image_address(file, prefix) == address


def test_addresses_are_of_images_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert image_address(str(tmp_path / "in" / "a.jpg"), LOCAL) == f"{LOCAL}in/a.jpg"
    assert image_address("../a.jpg", "") == "../a.jpg"
    for file in ("../a.jpg", str(tmp_path.parent / "a.jpg")):
        with pytest.raises(InputError, match=r"a\.jpg is outside of .*, for which the image prefix .* stands"):
            image_address(file, LOCAL)


def test_entries_get_addresses():
    entries = [{"file": "a b.jpg", "poses": []}]
    assert list(with_image_prefix(entries, LOCAL)) == [{"file": f"{LOCAL}a%20b.jpg", "poses": []}]
    assert entries[0]["file"] == "a b.jpg"


# ---- CVAT


def test_cvat_structure(full):
    text = to_cvat(full, 'sub/"a" & b.jpg', 7, label="cat", min_keypoint_score=0.35)
    root = ElementTree.fromstring(text.encode())
    assert (root.tag, root.findtext("version")) == ("annotations", "1.1")
    labels = [(e.findtext("name"), e.findtext("type"), e.findtext("parent")) for e in root.iter("label")]
    assert labels == [("cat", "skeleton", None), ("head", "points", "cat"), ("tail", "points", "cat")]
    (image,) = root.findall("image")
    assert image.attrib == {"id": "7", "name": 'sub/"a" & b.jpg', "width": "640", "height": "479"}
    assert [s.get("label") for s in image] == ["cat"] * 3
    assert [s.get("group_id") for s in image] == ["4", "1", "9"]
    flags = [[(p.get("label"), p.get("outside"), p.get("occluded")) for p in s] for s in image.iter("skeleton")]
    assert flags == [
        [("head", "0", "0"), ("tail", "0", "1")],
        [("head", "1", "1"), ("tail", "0", "0")],
        [("head", "1", "0"), ("tail", "1", "0")],
    ]


def test_cvat_places_come_back(plain):
    for poses in (plain, many(4)):
        image = ElementTree.fromstring(cvat_image(poses, "a.jpg", 0))
        back = [[[float(n) for n in p.get("points").split(",")] for p in s] for s in image]
        assert back == poses.keypoints_img.tolist()


def test_cvat_without_scores_of_joints(plain):
    image = ElementTree.fromstring(cvat_image(plain, "a.jpg", 0, min_keypoint_score=0.9))
    assert {p.get("occluded") for p in image.iter("points")} == {"0"}
    assert all("group_id" not in s.attrib for s in image)


def test_cvat_many_images(plain):
    images = [plain, Poses.empty(SIZE, TWO), plain[:1]]
    text = cvat_head(TWO) + "".join(cvat_image(p, f"{i}.jpg", i) for i, p in enumerate(images)) + CVAT_TAIL
    images = ElementTree.fromstring(text.encode()).findall("image")
    assert [(i.get("name"), len(i)) for i in images] == [("0.jpg", 3), ("1.jpg", 0), ("2.jpg", 1)]


# ---- tables and files


def test_rows(full, plain):
    table = list(keypoint_rows(full))
    assert table[2] == (1, "head", -3.5, 40.0, 0.3, 0.5, 2.0, 0.7, 0.25, 1, True, -3.5, 1 / 3, 80.0, 40.0)
    bare = (1, "tail", 80.0, 1 / 3, None, 0.5, None, None, None, None, None, -3.5, 1 / 3, 80.0, 40.0)
    assert list(keypoint_rows(plain))[3] == bare
    assert (len(table), len(table[0])) == (6, len(COLUMNS))


def test_pandas(full, plain):
    pandas = pytest.importorskip("pandas")
    table = to_pandas(full)
    assert list(table.columns) == list(COLUMNS)
    assert table[["x", "y"]].to_numpy().reshape(3, 2, 2).tolist() == POINTS.tolist()
    assert table.keypoint.tolist() == ["head", "tail"] * 3
    assert table.groupby("track_id").score.first().to_dict() == {1: 0.5, 4: 0.9, 9: 0.2}
    bare = to_pandas(plain)
    assert bare[["keypoint_score", "raw_score", "track_id", "filled"]].isna().all(axis=None)
    nobody = to_pandas(Poses.empty(SIZE))
    assert len(nobody) == 0
    kinds = table.dtypes.to_dict()
    assert bare.dtypes.to_dict() == kinds == nobody.dtypes.to_dict()  # so that tables of many images can be joined
    assert len(pandas.concat([table, bare, nobody])) == 12


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".JSONL"])
def test_saved_poses_are_read_back(suffix, full, tmp_path):
    save_poses(full, tmp_path / f"poses{suffix}")
    text = (tmp_path / f"poses{suffix}").read_text(encoding="utf-8")
    assert (text.count("\n") == 1) == (suffix.lower() == ".jsonl")
    assert Poses.from_dict(json.loads(text), TWO).to_dict() == full.to_dict()


def test_saved_csv(full, plain, tmp_path):
    save_poses(full, tmp_path / "full.csv")
    save_poses(plain, str(tmp_path / "plain.csv"))
    save_poses(Poses.empty(SIZE), tmp_path / "nobody.csv")
    table = list(csv.DictReader((tmp_path / "full.csv").open(encoding="utf-8")))
    assert list(table[0]) == list(COLUMNS)
    assert [[float(r["x"]), float(r["y"])] for r in table] == POINTS.reshape(-1, 2).round(2).tolist()
    assert [table[2][name] for name in ("left", "top", "right", "bottom")] == ["-3.5", "0.33", "80.0", "40.0"]
    assert [r["track_id"] for r in table] == ["4", "4", "1", "1", "9", "9"]
    bare = list(csv.DictReader((tmp_path / "plain.csv").open(encoding="utf-8")))
    assert {r["keypoint_score"] + r["raw_score"] + r["track_id"] + r["filled"] for r in bare} == {""}
    assert (tmp_path / "nobody.csv").read_text(encoding="utf-8") == ",".join(COLUMNS) + "\n"


@pytest.mark.parametrize(("name", "word"), [("a.xml", "unknown suffix '.xml'"), ("no/a.json", "folder exist")])
def test_places_that_cannot_be_saved_to(name, word, plain, tmp_path):
    with pytest.raises(InputError, match=word):
        save_poses(plain, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_tables_with_regions(full, tmp_path):
    radii = np.array([[1.005, 2.0], [np.nan, np.nan], [3.0, 4.25]])
    poses = dataclasses.replace(full, radii_img=radii, coverage=0.9)
    save_poses(poses, tmp_path / "poses.csv")
    rows = list(csv.DictReader((tmp_path / "poses.csv").open()))
    assert list(rows[0]) == [*COLUMNS, "radius", "coverage"]
    assert [row["radius"] for row in rows] == ["1.0", "2.0", "", "", "3.0", "4.25"]  # hundredths of a pixel
    assert {row["coverage"] for row in rows} == {"0.9"}
    write_wide_csv(tmp_path / "wide.csv", [{"file": "a.jpg", **poses.to_dict()}], TWO)
    (first, second, _) = csv.DictReader((tmp_path / "wide.csv").open())
    assert (first["head_radius"], first["tail_radius"], first["coverage"]) == ("1.0", "2.0", "0.9")
    assert second["head_radius"] == ""
    write_wide_csv(tmp_path / "wide.csv", [{"file": "a.jpg", **full.to_dict()}], TWO)
    assert "radius" not in (tmp_path / "wide.csv").read_text()
    pandas = pytest.importorskip("pandas")
    assert to_pandas(poses).radius.isna().sum() == 2
    assert pandas.api.types.is_float_dtype(to_pandas(poses[[]]).coverage)


# ---- supervision


def test_regions_are_drawn_by_supervision(full):
    """The ellipse of its annotator is the region: its edge is where our radius is."""
    supervision = pytest.importorskip("supervision", "0.29", exc_type=ImportError)
    radii = np.array([[40.0, 30.0], [np.nan, np.nan], [20.0, 20.0]])
    poses = dataclasses.replace(full, radii_img=radii, coverage=0.9)
    points = to_supervision(poses[[0, 1]])
    sigma = np.sqrt(-2 * np.log(1 - 0.9))
    annotator = supervision.VertexEllipseAreaAnnotator(sigma=[sigma], color=[supervision.Color.RED], opacity=1.0)
    drawn = annotator.annotate(np.zeros((600, 700, 3), np.uint8), points).any(-1)
    assert drawn.sum() == pytest.approx(np.pi * (30**2) + _disc_inside(10.25, 20.5, 40), rel=0.08)  # soft edges
    assert "covariance" not in to_supervision(full).data


def _disc_inside(x, y, radius):
    """Pixels of a disc that lie at positive coordinates."""
    rows, columns = np.mgrid[:600, :700]
    return ((columns - x) ** 2 + (rows - y) ** 2 <= radius**2).sum()


def test_supervision(full, plain):
    supervision = pytest.importorskip("supervision", "0.30", exc_type=ImportError)
    points = to_supervision(full, 3)
    assert isinstance(points, supervision.KeyPoints)
    assert np.abs(points.xy - POINTS).max() < 1e-4  # float32
    assert points.class_id.tolist() == [3, 3, 3]
    assert np.allclose(points.keypoint_confidence, JOINTS)
    assert np.allclose(points.detection_confidence, full.scores)
    assert points.data["track_id"].tolist() == [4, 1, 9]
    assert np.allclose(points.as_detections().confidence, full.scores)
    assert points[points.detection_confidence > 0.3].data["filled"].tolist() == [False, True]
    bare = to_supervision(plain)
    assert (bare.keypoint_confidence, bare.data) == (None, {})
    for nobody in (Poses.empty(SIZE), full[[]]):
        assert len(to_supervision(nobody)) == 0


@pytest.mark.parametrize(("package", "call"), [("supervision", to_supervision), ("pandas", to_pandas)])
def test_a_missing_package_is_named(package, call, plain, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"pip install '{package}"):
        call(plain)


def test_an_old_supervision_is_named(plain, monkeypatch):
    class Old:
        class KeyPoints:
            def __init__(self, xy, class_id=None, confidence=None, data=None):
                pass

    monkeypatch.setitem(sys.modules, "supervision", Old)
    with pytest.raises(InputError, match=r"0\.30 or newer"):
        to_supervision(plain)


def test_the_names_are_coco():
    result = regions(to_label_studio(many(1), "a.jpg"))
    assert [r["value"]["keypointlabels"][0] for r in result[1:]] == list(COCO_17.keypoints)
