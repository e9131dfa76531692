"""The second look: crops, frames, what becomes of poses, and the models that have one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from calipose.calibration.second_look import SecondLook
from calipose.cli import app
from calipose.errors import InputError
from calipose.geometry import Floats, apply_affine
from calipose.inference.opening import TwoNetworks, read_two_networks, write_two_networks
from calipose.inference.packaged import packaged
from calipose.inference.predictor import Predictor
from calipose.inference.refiner import Refiner, agreement, crop_affine, look_again
from calipose.inference.scales import ScaleCandidates
from calipose.io.images import Image, read_image
from calipose.skeleton import COCO_17

if TYPE_CHECKING:
    from numpy.typing import NDArray

GREY = np.full((200, 300, 3), 128, np.uint8)
RNG = np.random.default_rng(0)
PERSON = RNG.uniform((40, 30), (100, 170), (17, 2))


class Scripted(Refiner):
    """A refiner whose network is a function of the first poses in the crop."""

    def __init__(self, moved: Floats | float = 0.0, confidence: float = 0.9) -> None:
        self.skeleton, self.size = COCO_17, 64
        self.moved, self.confidence = moved, confidence
        self.batches: list[int] = []

    def run(self, crops: NDArray[np.uint8], keypoints_crop: Floats) -> tuple[Floats, Floats]:
        assert crops.shape[1] == crops.shape[2]
        self.batches.append(len(crops))
        return keypoints_crop + self.moved, np.full(keypoints_crop.shape[:2], self.confidence)


class AllTheSame(Scripted):
    """It sees the same person in every crop, at the same place in the image."""

    def look(
        self, image: Image, keypoints_img: Floats, crop: float = 1.4, flip: bool = False, size: int = 0
    ) -> tuple[Floats, Floats]:
        return np.repeat(PERSON[None], len(keypoints_img), 0), np.full(keypoints_img.shape[:2], 0.9)


def candidates(*poses: Floats, scores: tuple[float, ...]) -> ScaleCandidates:
    return ScaleCandidates(np.stack(poses), np.array(scores), np.full((len(poses), 17), 0.5))


def test_the_middle_of_the_box_is_the_middle_of_the_crop() -> None:
    affine = crop_affine(np.array([[10.0, 20.0], [50.0, 100.0]]), 1.25, 256)
    assert apply_affine(affine, [30.0, 60.0]).tolist() == [127.5, 127.5]
    corner = apply_affine(affine, [30.0 - 50.0, 60.0 - 50.0])  # 1.25 times the longer side, 80 px
    assert corner == pytest.approx([127.5 - 128, 127.5 - 128])


def test_coinciding_keypoints_have_a_crop() -> None:
    assert np.isfinite(crop_affine(np.full((17, 2), 7.0), 1.25, 256)).all()


def test_frames_there_and_back() -> None:
    poses = PERSON + np.array([[[0.0, 0.0]], [[150.0, 3.0]]])
    seen, confidences = Scripted().look(GREY, poses)
    assert np.allclose(seen, poses)
    assert confidences.shape == (2, 17)
    moved, _ = Scripted(moved=2.0).look(GREY, poses)
    scale = 64 / (1.4 * np.ptp(PERSON, axis=0).max())
    assert np.allclose(moved, poses + 2 / scale)


def test_mirrored_crops_are_mirrored_back() -> None:
    """A network that is always 2 px too far right is right on average with its mirror image."""
    refiner = Scripted(moved=np.array([2.0, 0.0]))
    seen, _ = refiner.look(GREY, PERSON[None], flip=True)
    assert np.allclose(seen, PERSON)
    assert refiner.batches == [1, 1]


def test_a_size_is_that_of_the_crops_and_no_part_of_the_result() -> None:
    moved, _ = Scripted(moved=np.array([2.0, 0.0])).look(GREY, PERSON[None], flip=True, size=32)
    assert np.allclose(moved, PERSON)
    moved, _ = Scripted(moved=2.0).look(GREY, PERSON[None], size=32)
    assert np.allclose(moved, PERSON + 2 * 1.4 * np.ptp(PERSON, axis=0).max() / 32)


def test_many_poses_go_in_batches() -> None:
    refiner = Scripted()
    refiner.look(GREY, np.repeat(PERSON[None], 35, 0))
    assert refiner.batches == [16, 16, 3]


def test_nobody_is_no_batch() -> None:
    refiner = Scripted()
    seen, confidences = refiner.look(GREY, np.zeros((0, 17, 2)))
    assert (seen.shape, confidences.shape, refiner.batches) == ((0, 17, 2), (0, 17), [])


def test_an_unsure_keypoint_stays() -> None:
    first = candidates(PERSON, scores=(0.8,))
    kept = look_again(GREY, first, Scripted(5.0, confidence=0.05), SecondLook(min_confidence=0.1), 0.3, False)
    assert np.allclose(kept.keypoints_img, PERSON)
    moved = look_again(GREY, first, Scripted(5.0, confidence=0.2), SecondLook(min_confidence=0.1), 0.3, False)
    assert not np.allclose(moved.keypoints_img, PERSON)


def test_the_score_is_that_of_both_looks() -> None:
    look = SecondLook()
    both = look_again(GREY, candidates(PERSON, scores=(0.8,)), Scripted(confidence=0.6), look, 0.3, False)
    assert both.raw_scores[0] == pytest.approx(look.pose(0.8, 0.6, 1.0))
    assert both.raw_keypoint_scores is not None
    assert both.raw_keypoint_scores[0] == pytest.approx(np.full(17, look.keypoint(0.5, 0.6, 1.0)))


def test_who_jumps_to_the_neighbour_comes_back() -> None:
    neighbour = PERSON + np.array([120.0, 0.0])
    first = candidates(PERSON, neighbour, scores=(0.8, 0.7))
    both = look_again(GREY, first, AllTheSame(), SecondLook(), 0.3, False)
    assert len(both.raw_scores) == 2
    assert np.allclose(both.keypoints_img, [PERSON, neighbour])
    assert both.raw_scores[0] > both.raw_scores[1]  # the agreement is none


def test_agreement_is_the_keypoints_similarity() -> None:
    area = 0.53 * np.ptp(PERSON, axis=0).prod()
    shift = np.sqrt(area) * 2 * COCO_17.sigmas_array[0]
    found = agreement(PERSON[None], PERSON[None] + np.array([shift, 0.0]), COCO_17.sigmas_array)
    assert found[0, 0] == pytest.approx(np.exp(-0.5))
    assert (agreement(PERSON[None], PERSON[None], COCO_17.sigmas_array) == 1).all()


# ---- the network in the package


def test_thunder_gives_the_published_networks_keypoints(shared: Path) -> None:
    """`kpt` positions of TensorFlow.js, and their heat maps' values; they count from the pixel's corner."""
    golden = np.load(shared / "golden" / "movenet_single.npz")
    refiner = Refiner(packaged("thunder.onnx"))
    middle = np.full((1, 17, 2), refiner.size / 2 + 1.5)  # cell 32 of 64, from which MoveNet measures
    for i in range(3):
        crop = golden[f"thunder.{i}.crop"].reshape(1, 256, 256, 3)
        keypoints, confidences = refiner.run(crop, middle)
        assert np.abs(keypoints[0] + 0.5 - golden[f"thunder.{i}.keypoints_crop"]).max() < 1e-3
        assert np.abs(confidences[0] - golden[f"thunder.{i}.confidence"]).max() < 1e-4


def test_a_crop_does_not_depend_on_the_others(shared: Path) -> None:
    golden = np.load(shared / "golden" / "movenet_single.npz")
    refiner = Refiner(packaged("thunder.onnx"))
    crops = np.stack([golden[f"thunder.{i}.crop"].reshape(256, 256, 3) for i in range(3)])
    middle = np.full((3, 17, 2), 129.5)
    together = refiner.run(crops, middle)
    for i in range(3):
        alone = refiner.run(crops[i : i + 1], middle[:1])
        assert np.allclose(alone[0][0], together[0][i], atol=1e-3)
        assert np.allclose(alone[1][0], together[1][i], atol=1e-5)


# ---- models of two networks


@pytest.fixture(scope="module")
def accurate() -> Predictor:
    return Predictor("accurate", threads=1)


def test_accurate_is_the_default_and_onepass_has_one_look(accurate: Predictor) -> None:
    assert accurate.refiner is not None
    assert Predictor("onepass").refiner is None
    assert Predictor("onepass").second_look.size < accurate.refiner.size
    assert accurate.setting.second_look
    assert accurate.calibration.score.setting == accurate.setting


def test_others_settings_keep_the_second_look(accurate: Predictor) -> None:
    changed = accurate.with_settings(short_side=256).with_calibration(accurate.calibration)
    assert changed.refiner is accurate.refiner
    assert changed.second_look == accurate.second_look


def test_batches_change_nothing(accurate: Predictor, shared: Path) -> None:
    folder = shared / "data" / "coco-val" / "images"
    images = [read_image(path) for path in sorted(folder.iterdir())[:3]]
    small = accurate.with_settings(short_side=256, scales=(1.0,))
    for alone, together in zip(map(small.predict, images), small.predict_many(images, batch_size=3), strict=True):
        assert np.allclose(alone.keypoints_img, together.keypoints_img, atol=1e-2)
        assert np.allclose(alone.scores, together.scores, atol=1e-4)


def test_a_file_names_two_networks(accurate: Predictor, tmp_path: Path) -> None:
    model = read_two_networks(packaged("accurate"))
    path = tmp_path / "mine.model.json"
    write_two_networks(path, model)  # the networks are the package's
    assert Predictor(path).second_look == accurate.second_look
    with pytest.raises(InputError, match=r"mine\.model\.json"):
        write_two_networks(tmp_path / "mine.json", model)


def test_a_file_that_flips_opens_what_can_flip(tmp_path: Path) -> None:
    model = read_two_networks(packaged("fast"))
    flipping = msgspec.structs.replace(model, predict=msgspec.structs.replace(model.predict, flip=True))
    write_two_networks(tmp_path / "mine.model.json", flipping)
    assert type(Predictor(tmp_path / "mine.model.json").backend).__name__ == "TorchBackend"


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "not valid JSON"), ('{"model": "onepass.onnx"}', "refiner"), ('{"model": 1, "refiner": ""}', "model")],
)
def test_a_broken_file_is_named(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.model.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        Predictor(path)


def test_a_network_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "x.model.json"
    path.write_text(json.dumps(TwoNetworks(model="nowhere.onnx", refiner="thunder.onnx").to_dict()))
    with pytest.raises(InputError, match=r"nowhere\.onnx"):
        Predictor(path)


def test_a_file_of_another_form_is_refused() -> None:
    with pytest.raises(InputError, match="refiner"):
        Refiner(packaged("onepass"))


@pytest.mark.parametrize("name", ["onepass", "fast", "accurate"])
def test_the_packaged_models_have_regions(name: str) -> None:
    regions = Predictor(name).calibration.regions
    assert regions.max_coverage == 0.99
    assert sum(regions.labelled) > 3500


def test_a_copy_of_the_packaged_model_keeps_its_calibration(tmp_path: Path) -> None:
    copy = tmp_path / "mine.onnx"
    done = CliRunner().invoke(app, ["export", "onepass", str(copy)])
    assert done.exit_code == 0, done.output
    assert Predictor(copy).calibration == Predictor("onepass").calibration
