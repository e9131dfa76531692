"""Formats of other tools, each read back: by a library of that tool, by our own reader, or field by field."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from pycocotools.coco import COCO

from calipose.cli import app
from calipose.data.coco import read_coco
from calipose.data.locate import find_data
from calipose.errors import InputError
from calipose.formats.coco_dataset import write_coco_dataset
from calipose.formats.movement import to_movement
from calipose.formats.openpose import COCO_18, to_openpose, write_openpose
from calipose.formats.trc import frame_rate, write_trc
from calipose.formats.yolo_pose import data_yaml, write_yolo_pose
from calipose.poses import Poses
from calipose.skeleton import COCO_17, Skeleton
from labels_of_tools import PEOPLE, SIZE, write_images

SCORES = np.array([0.9, 0.4])
CONFIDENCE = np.random.default_rng(1).random((2, 17))
OUTSIDE = (1, 3)  # pose and keypoint that lie outside of the image
PLACES = PEOPLE.copy()
PLACES[OUTSIDE] = (-5, 40)


def poses(**more: object) -> Poses:
    return Poses(PLACES, SCORES, SIZE, CONFIDENCE, **more)  # type: ignore[arg-type]


def stills() -> list[dict]:
    return [{"file": "in/a.png", **poses().to_dict()}, {"file": "in/b.png", **Poses.empty(SIZE).to_dict()}]


def frames() -> list[dict]:
    """Four frames; person 7 is not seen in the third, person 2 in the first two only."""
    both, one, nobody = poses(track_ids=np.array([7, 2])), poses(track_ids=np.array([7, 2]))[:1], Poses.empty(SIZE)
    found = [both, both, nobody, one]
    return [{"file": "dance.mp4", "index": i, "seconds": i / 25, **p.to_dict()} for i, p in enumerate(found)]


def seen() -> np.ndarray:
    mask = np.ones((2, 17), bool)
    mask[OUTSIDE] = False
    return mask


def test_a_coco_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "people.json"
    write_coco_dataset(path, [*stills(), *frames()])
    theirs = COCO(str(path))
    assert [image["file_name"] for image in theirs.loadImgs(theirs.getImgIds())] == ["in/a.png", "in/b.png"]
    assert [entry["score"] for entry in theirs.anns.values()] == SCORES.tolist()
    assert all(theirs.annToMask(entry).shape == SIZE[::-1] for entry in theirs.anns.values() if "segmentation" in entry)
    write_images(tmp_path)
    ours = read_coco(path, tmp_path / "images")
    np.testing.assert_array_equal(ours.visibility > 0, seen())
    np.testing.assert_allclose(ours.keypoints_img[seen()], PLACES[seen()], atol=1e-5)
    assert not [remark for remark in ours.assumptions if "area" in remark]


def test_yolo_labels(tmp_path: Path) -> None:
    write_yolo_pose(tmp_path / "yolo.zip", [*stills(), *frames()])
    with zipfile.ZipFile(tmp_path / "yolo.zip") as file:
        assert file.namelist() == ["labels/a.txt", "labels/b.txt", "data.yaml"]
        file.extractall(tmp_path)
    numbers = np.loadtxt(tmp_path / "labels" / "a.txt")
    assert numbers.shape == (2, 5 + 3 * 17)
    shares = np.delete(numbers, np.s_[7::3], axis=1)[:, 1:]
    assert ((shares >= 0) & (shares <= 1)).all()  # Ultralytics refuses files with others
    write_images(tmp_path)
    data = read_coco(*find_data(tmp_path))
    np.testing.assert_array_equal(data.visibility > 0, seen())
    np.testing.assert_allclose(data.keypoints_img[seen()], PLACES[seen()], atol=1e-4)
    assert not [remark for remark in data.assumptions if "order" in remark]  # data.yaml says the names


def test_yolo_description_is_found_from_any_folder() -> None:
    """What Ultralytics and sleap-io need, as their own readers showed (experiments/read_back.py)."""
    content = yaml.safe_load(data_yaml(COCO_17))
    assert "path" not in content  # Ultralytics takes a relative one from the folder in which it runs
    assert content["train"].replace("/images", "/labels") == "./labels"  # how sleap-io finds the labels
    assert content["node_names"] == content["kpt_names"][0] == list(COCO_17.keypoints)


def test_openpose(tmp_path: Path) -> None:
    write_openpose(tmp_path / "openpose.zip", [*stills(), *frames(), {"file": "b/a.png", **poses().to_dict()}])
    with zipfile.ZipFile(tmp_path / "openpose.zip") as file:
        numbered = [f"dance_{i:012d}_keypoints.json" for i in range(4)]
        assert file.namelist() == ["a_keypoints.json", "b_keypoints.json", *numbered, "a_2_keypoints.json"]
        content = json.loads(file.read(numbered[0]))
        assert json.loads(file.read("b_keypoints.json"))["people"] == []
    assert [person["person_id"] for person in content["people"]] == [[7], [2]]
    first = np.reshape(content["people"][0]["pose_keypoints_2d"], (18, 3))
    own = [j for j in range(18) if COCO_18[j] >= 0]
    np.testing.assert_array_equal(first[own, :2], PLACES[0, [COCO_18[j] for j in own]])
    np.testing.assert_array_equal(first[own, 2], CONFIDENCE[0, [COCO_18[j] for j in own]])
    np.testing.assert_allclose(first[1], [*PLACES[0, 5:7].mean(0), CONFIDENCE[0, 5:7].min()])
    names = ["neck" if index < 0 else COCO_17.keypoints[index] for index in COCO_18]
    # The order of OpenPose's documentation, "COCO Output Format (18)".
    assert names[:8] == [
        "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    ]  # fmt: skip
    assert names[14:] == ["right_eye", "left_eye", "right_ear", "left_ear"]
    other = Skeleton("pair", ("a", "b"), (), (), (0.1, 0.1))
    pair = Poses(np.array([[[1.0, 2.0], [3.0, 4.0]]]), np.array([0.5]), SIZE, skeleton=other)
    assert to_openpose(pair)["people"][0]["pose_keypoints_2d"] == [1, 2, 0.5, 3, 4, 0.5]


def test_trc_is_read_by_a_library_of_its_own(tmp_path: Path) -> None:
    trc = pytest.importorskip("trc")
    write_trc(tmp_path / "trc.zip", [*stills(), *frames()])
    with zipfile.ZipFile(tmp_path / "trc.zip") as file:
        assert file.namelist() == ["dance_person2.trc", "dance_person7.trc"]
        file.extractall(tmp_path)
    data = trc.TRCData()
    data.load(str(tmp_path / "dance_person7.trc"))
    assert data["Markers"] == list(COCO_17.keypoints)
    assert (data["DataRate"], data["NumFrames"], data["Units"]) == (25, 4, "px")
    for j, name in enumerate(COCO_17.keypoints):
        x, y, z = data[name][3]
        assert (x, y, z) == pytest.approx((PLACES[0, j, 0], SIZE[1] - 1 - PLACES[0, j, 1], 0), abs=1e-3)
    assert np.isnan(np.array(data["nose"][2], float)).all()  # not seen
    assert list(data["Time"]) == pytest.approx([0, 0.04, 0.08, 0.12])


@pytest.mark.parametrize(
    ("times", "rate"), [([(0, 0.0), (2, 0.08)], 25.0), ([(0, 0.0)], 30.0), ([], 30.0), ([(0, 1.0), (1, 1.0)], 30.0)]
)
def test_the_rate_of_a_video(times: list[tuple[int, float]], rate: float) -> None:
    assert frame_rate(times) == rate


def test_movement_has_what_its_validator_wants() -> None:
    pytest.importorskip("xarray")
    data = to_movement([Poses.from_dict(entry) for entry in frames()], 25.0)
    assert data.position.dims == ("time", "space", "keypoints", "individuals")
    assert data.confidence.dims == ("time", "keypoints", "individuals")
    assert list(data.individuals.values) == ["person_2", "person_7"]
    assert list(data.space.values) == ["x", "y"]
    assert data.attrs == {"source_software": "Calipose", "ds_type": "poses", "time_unit": "seconds", "fps": 25.0}
    nose = data.position.sel(keypoints="nose", individuals="person_7", time=0.12)
    np.testing.assert_array_equal(nose.values, PLACES[0, 0])
    np.testing.assert_array_equal(data.confidence.sel(individuals="person_2", time=0.04).values, CONFIDENCE[1])
    assert np.isnan(data.position.isel(time=2)).all()
    assert data.pose_score.sel(individuals="person_7").values[[0, 3]].tolist() == [0.9, 0.9]


@pytest.mark.parametrize(
    ("found", "rate", "words"),
    [([], 25.0, "there is no frame"), ([poses()], 25.0, "have no track ids"), ([Poses.empty(SIZE)], 0.0, "positive")],
)
def test_what_movement_cannot_hold(found: list[Poses], rate: float, words: str) -> None:
    pytest.importorskip("xarray")
    with pytest.raises(InputError, match=words):
        to_movement(found, rate)


def test_tracks_of_images_only_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    monkeypatch.chdir(tmp_path)
    write_images(tmp_path)
    run = CliRunner().invoke(app, ["predict", "images", "--model", "onepass", "--save", "trc", "--save", "openpose"])
    assert run.exit_code == 0, run.output
    assert "--save trc: for people followed through videos only; of images only, no such file is written" in " ".join(
        run.output.split()
    )
    assert not (tmp_path / "calipose-out" / "trc.zip").exists()
    assert (tmp_path / "calipose-out" / "openpose.zip").exists()
