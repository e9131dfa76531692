"""Models of other projects: each form is recognised, fed and decoded as its own project does, and calibrated beside."""

import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

import foreign_graphs as graphs
from calipose.calibration.maps import Calibration, CalibrationMap
from calipose.cli import app
from calipose.config.stored import StoredModel, read_stored, stored_path, write_stored
from calipose.errors import InputError
from calipose.geometry import apply_affine
from calipose.inference.foreign.base import corner_box, letterbox, squash
from calipose.inference.foreign.table import FORMS
from calipose.inference.predictor import Predictor
from calipose.skeleton import COCO_17, Skeleton
from foreign_graphs import COLOUR, CONFIDENCE, IMAGENET_RED, PLACES, SIDE, WEAK

RED, BLUE = COLOUR[0] / 255, COLOUR[2] / 255
WIDE = (128, 64)  # width and height of the image: twice as wide as the input


def sigmoid(x: float) -> float:
    return 1 / (1 + np.exp(-x))


def fused(logit: float, trace: float) -> float:
    """RF-DETR's score."""
    x = sigmoid(logit) * trace**-0.2
    return x / (1 + x)


LETTERBOXED = (PLACES - [0, 16]) / 0.5  # 64 x 32 in the middle of 64 x 64
CORNERED = PLACES / 0.5
SQUASHED = PLACES * [2, 1]
IN_SHARES = PLACES / SIDE * [64, 32]  # of 64 x 32, to which MoveNet's input is reduced

# form -> graph, best score, score of the second, keypoints in the image, scores of keypoints
CASES = {
    "yolo-pose": (graphs.yolo_pose, "letterbox", WEAK, LETTERBOXED, CONFIDENCE),
    "yolo26-pose": (graphs.yolo26_pose, "letterbox", WEAK, LETTERBOXED, CONFIDENCE),
    "rtmo": (graphs.rtmo, "corner", WEAK, CORNERED, CONFIDENCE),
    "detrpose": (graphs.detr_decoded, RED, WEAK, SQUASHED, None),
    "ecpose": (graphs.detr_decoded, IMAGENET_RED, WEAK, SQUASHED, None),
    "ecpose-raw": (graphs.detr_raw, sigmoid(IMAGENET_RED), WEAK, SQUASHED, None),
    "rfdetr-keypoint": (graphs.rfdetr, fused(IMAGENET_RED, 0.5), fused(0, 2), SQUASHED, CONFIDENCE),
    "movenet-multipose": (graphs.movenet, RED, WEAK, (IN_SHARES - 0.5 + 0.5) / 0.5 - 0.5, CONFIDENCE),
}
AMBIGUOUS = ("detrpose", "ecpose")
PADDED = {"letterbox": (RED + 114 / 255) / 2, "corner": (BLUE + 114 / 255) / 2}  # half of the input is grey


def plain_image(size: tuple[int, int] = WIDE) -> np.ndarray:
    return np.full((size[1], size[0], 3), COLOUR, np.uint8)


def open_form(name: str, folder: Path) -> Predictor:
    path = CASES[name][0](folder / f"{name}.onnx")
    if name == "movenet-multipose":  # any size; the tests' is small
        return Predictor(path).with_settings(short_side=SIDE)
    return Predictor(path, form=name if name in AMBIGUOUS else "")


def test_every_form_has_a_case() -> None:
    assert list(CASES) == list(FORMS)


@pytest.mark.parametrize("name", CASES)
def test_known_answers(name: str, tmp_path: Path) -> None:
    _, best, second, points, confidence = CASES[name]
    predictor = open_form(name, tmp_path)
    poses = predictor.predict(plain_image())
    assert predictor.backend.form.name == name
    assert len(poses) == 2  # duplicates are dropped where the project drops them
    want = PADDED.get(best, best) if isinstance(best, str) else best
    order = [0, 1] if want > second else [1, 0]
    np.testing.assert_allclose(poses.scores, np.array([want, second])[order], atol=2e-3)
    np.testing.assert_allclose(poses.keypoints_img, points[order], atol=1e-3)
    if confidence is None:
        assert poses.keypoint_scores is None
    else:
        np.testing.assert_allclose(poses.keypoint_scores, confidence[order], atol=1e-6)
    assert poses.p_oks50 is None  # nothing is promised before calibration
    assert predictor.calibration.is_identity


@pytest.mark.parametrize("name", ["yolo-pose", "detrpose", "movenet-multipose"])
def test_batches_and_copies_give_the_same(name: str, tmp_path: Path) -> None:
    predictor = open_form(name, tmp_path)
    one = predictor.predict(plain_image())
    for poses in pickle.loads(pickle.dumps(predictor)).predict_many([plain_image()] * 3, batch_size=2):
        np.testing.assert_array_equal(poses.keypoints_img, one.keypoints_img)
        np.testing.assert_array_equal(poses.scores, one.scores)


@pytest.mark.parametrize(
    ("prepare", "size", "inner"),  # of an image 100 x 50: left, top, right, bottom of it in the input
    [
        (letterbox, (64, 96), (0, 32, 64, 64)),
        (letterbox, (96, 30), (18, 0, 78, 30)),
        (corner_box, (64, 96), (0, 0, 64, 32)),
        (squash, (64, 96), (0, 0, 64, 96)),
    ],
)
def test_where_an_image_lies_in_an_input_that_is_no_square(prepare, size: tuple, inner: tuple) -> None:
    pixels, affine = prepare(plain_image((100, 50)), size)
    assert pixels.shape == (size[1], size[0], 3)
    left, top, right, bottom = inner
    inside = np.zeros(pixels.shape[:2], bool)
    inside[top:bottom, left:right] = True
    assert (pixels[inside] == COLOUR).all()
    assert (pixels[~inside] == 114).all()
    np.testing.assert_allclose(apply_affine(affine, [[0, 0], [100, 50]]), [[left, top], [right, bottom]])


def test_the_form_of_two_that_look_alike_must_be_named(tmp_path: Path) -> None:
    path = graphs.detr_decoded(tmp_path / "d.onnx")
    with pytest.raises(InputError, match=r"fit several forms; name one with --as .*detrpose: .*; ecpose: "):
        Predictor(path)
    with pytest.raises(InputError, match=r"not of the form 'rtmo' .*takes images float32 \(\?, 3, 64, 64\), orig_tar"):
        Predictor(path, form="rtmo")
    with pytest.raises(InputError, match="there is no form 'yolo'; forms are yolo-pose, "):
        Predictor(path, form="yolo")


def test_an_unknown_graph_says_what_it_takes_and_gives(tmp_path: Path) -> None:
    values = np.zeros((1, 7), np.float32)
    path = graphs.write_graph(tmp_path / "other.onnx", {"out": values}, {})
    with pytest.raises(InputError, match=r"other\.onnx: neither .* takes images float32 .* gives out float32 \(1, 7\)"):
        Predictor(path)


def test_what_a_foreign_model_cannot(tmp_path: Path) -> None:
    predictor = open_form("yolo26-pose", tmp_path)
    with pytest.raises(InputError, match="takes 64 x 64 pixels only; leave out --short-side"):
        predictor.with_settings(short_side=96).predict(plain_image())
    with pytest.raises(InputError, match="flip needs a Calipose checkpoint"):
        predictor.with_settings(flip=True).predict(plain_image())
    with pytest.raises(InputError, match="only models of other projects"):
        Predictor("accurate", form="rtmo")
    with pytest.raises(InputError, match="calipose export wrote it, so it knows its form"):
        Predictor("onepass", form="rtmo")


def test_own_keypoints(tmp_path: Path) -> None:
    output = np.zeros((1, 300, 6 + 3 * 4), np.float32)
    output[0, 0] = [0, 0, 9, 9, 0.9, 0, *range(12)]
    path = graphs.write_graph(tmp_path / "four.onnx", {"o": output}, {}, metadata={"kpt_shape": "[4, 3]"})
    assert Predictor(path).skeleton.keypoints == ("keypoint_1", "keypoint_2", "keypoint_3", "keypoint_4")
    graphs.write_graph(tmp_path / "flat.onnx", {"o": output}, {}, metadata={"kpt_shape": "[6, 2]"})
    with pytest.raises(InputError, match=r"flat\.onnx: neither .* gives o float32 \(1, 300, 18\)"):
        Predictor(tmp_path / "flat.onnx")
    own = Skeleton("own", ("a", "b", "c", "d"), (), (), (0.1,) * 4)
    assert Predictor(path, skeleton=own).predict(plain_image()).skeleton is own
    with pytest.raises(InputError, match="gives 4 keypoints, skeleton 'coco-17' has 17"):
        Predictor(path, skeleton=COCO_17)
    write_stored(path, StoredModel(skeleton=own))
    assert Predictor(path).skeleton == own


def test_the_calibration_lies_beside_and_holds_for_this_file(tmp_path: Path) -> None:
    path = graphs.yolo26_pose(tmp_path / "yolo26n-pose.onnx")
    before = path.read_bytes()
    raw = Predictor(path).predict(plain_image()).scores
    score = CalibrationMap(x=(0.0, 1.0), y=(0.1, 0.6), kind="logistic")
    calibration = Calibration(score=score, oks50=score, oks75=score, keypoint=score)
    stored = write_stored(path, StoredModel(form="yolo26-pose", calibration=calibration))
    assert stored == tmp_path / "yolo26n-pose.calipose.json" == stored_path(path)
    assert path.read_bytes() == before
    poses = Predictor(path).predict(plain_image())
    np.testing.assert_allclose(poses.scores, 0.1 + 0.5 * raw)
    np.testing.assert_allclose(poses.raw_scores, raw)
    assert poses.p_oks50 is not None
    graphs.yolo_pose(path)
    with pytest.raises(InputError, match="was made for another model"):
        Predictor(path)
    stored.write_text("{")
    with pytest.raises(InputError, match=r"yolo26n-pose\.calipose\.json is not valid JSON"):
        read_stored(path)


def labelled_images(folder: Path, images: int = 12) -> Path:
    """Images with one person where the graph finds one, shifted more and more, and nobody elsewhere."""
    (folder / "images").mkdir()
    entries, people = [], []
    for i in range(1, images + 1):
        cv2.imwrite(str(folder / "images" / f"{i}.png"), plain_image())
        entries.append({"id": i, "file_name": f"{i}.png", "width": WIDE[0], "height": WIDE[1]})
        points = LETTERBOXED[0] + 0.7 * i
        triples = np.concatenate([points, np.full((17, 1), 2)], 1).ravel().tolist()
        box = [*points.min(0).tolist(), *np.ptp(points, 0).tolist()]
        people.append({"id": i, "image_id": i, "category_id": 1, "keypoints": triples, "bbox": box, "area": 3000.0})
    category = {"id": 1, "name": "person", "keypoints": list(COCO_17.keypoints)}
    path = folder / "annotations.json"
    path.write_text(json.dumps({"images": entries, "annotations": people, "categories": [category]}))
    return path


def test_predicting_calibrating_and_checking_on_the_command_line(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    graphs.yolo26_pose(tmp_path / "yolo26n-pose.onnx")
    labelled_images(tmp_path)

    def call(*arguments: str) -> str:
        run = CliRunner().invoke(app, [*arguments])
        assert run.exit_code == 0, run.output
        return " ".join(run.output.split())

    said = call("predict", "images/1.png", "--model", "yolo26n-pose.onnx", "--out", "out", "--save", "coco")
    assert "scores are the model's own; calipose calibrate makes them the expected OKS" in said
    said = call("check", "yolo26n-pose.onnx", "--data", ".", "-q")
    assert "yolo26n-pose.onnx: yolo26-pose, YOLO26-pose of Ultralytics" in said
    assert "scores: not calibrated: the model's own" in said
    assert "2,346 images" in said
    said = call("calibrate", "yolo26n-pose.onnx", "--data", ".", "-q")
    assert "yolo26n-pose.calipose.json" in said
    stored = read_stored(Path("yolo26n-pose.onnx"))
    assert stored.form == "yolo26-pose"
    assert stored.calibration.score.setting.short_side == SIDE
    grey = (max(COLOUR) - min(COLOUR)) / 255  # of the images, which are of one colour
    assert stored.calibration.images.colour == pytest.approx([grey] * 12, abs=1e-3)
    older = json.loads(stored_path(Path("yolo26n-pose.onnx")).read_text())
    older["calibration"]["images"]["colour"] = []  # as files from before had it
    assert len(StoredModel.from_dict(older).calibration.images) == 12
    said = call("predict", "images/1.png", "--model", "yolo26n-pose.onnx", "--as", "yolo26-pose", "--out", "out2")
    assert "model's own" not in said
    assert "calibrated: the expected OKS" in call("check", "yolo26n-pose.onnx", "--data", ".", "-q")
