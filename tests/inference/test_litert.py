"""MoveNet MultiPose's own .tflite file: a real model of another project, end to end."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from calipose.cli import app
from calipose.errors import InputError
from calipose.evaluation.ground_truth import read_ground_truth
from calipose.evaluation.run import evaluate_predictor
from calipose.inference.backends.litert import LiteFile
from calipose.inference.predictor import Predictor

IMAGES = 12  # of coco-val with the most people, used to see that the adapter is right; nothing is chosen on them


@pytest.fixture
def movenet(shared: Path, tmp_path: Path) -> Path:
    pytest.importorskip("ai_edge_litert")
    return Path(shutil.copy(shared / "weights" / "movenet_multipose_fp16.tflite", tmp_path / "movenet.tflite"))


@pytest.fixture
def data(shared: Path, tmp_path: Path) -> str:
    content = json.loads((shared / "data" / "coco-val" / "annotations.json").read_text())
    people = [entry["image_id"] for entry in content["annotations"] if entry["num_keypoints"] > 8]
    chosen = set(sorted(set(people), key=lambda image_id: (-people.count(image_id), image_id))[:IMAGES])
    content["images"] = [image for image in content["images"] if image["id"] in chosen]
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] in chosen]
    (tmp_path / "few.json").write_text(json.dumps(content))
    return f"{tmp_path / 'few.json'}={shared / 'data' / 'coco-val' / 'images'}"


def test_movenet_finds_people_and_is_calibrated_beside(movenet: Path, data: str) -> None:
    annotations, _, images = data.partition("=")
    truth = read_ground_truth(annotations)
    predictor = Predictor(movenet)
    assert predictor.backend.form.name == "movenet-multipose"
    evaluation = evaluate_predictor(predictor, truth, Path(images))
    assert evaluation.ap.ap50 > 0.35  # a shift of half the image, or x and y exchanged, gives 0
    run = CliRunner().invoke(app, ["calibrate", str(movenet), "--data", data, "-q"])
    assert run.exit_code == 0, run.output
    name = truth.files[truth.image_ids[0]]
    poses = Predictor(movenet).predict(Path(images) / name)
    raw = predictor.predict(Path(images) / name)
    np.testing.assert_array_equal(poses.raw_scores, raw.scores)
    np.testing.assert_array_equal(poses.keypoints_img, raw.keypoints_img)
    assert (poses.scores > raw.scores).all()  # MoveNet's own scores are far too low
    assert poses.p_oks50 is not None


@pytest.mark.parametrize(
    ("content", "words"), [(None, r"no such \.tflite file"), (b"text", r"not a readable \.tflite")]
)
def test_a_file_that_is_none(tmp_path: Path, content: bytes | None, words: str) -> None:
    pytest.importorskip("ai_edge_litert")
    path = tmp_path / "a.tflite"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        LiteFile(path)


def test_litert_runs_on_the_cpu(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"LiteRT runs \.tflite files on the CPU"):
        Predictor(tmp_path / "a.tflite", device="cuda")


def test_without_litert_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.tflite").write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(InputError, match=r"\.tflite files need LiteRT: pip install"):
        LiteFile(tmp_path / "a.tflite")
