"""The predictor: frames, files of every kind, thresholds and duplicates; the network is a stub."""

import copy
import io
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

from calipose.calibration.maps import Calibration, CalibrationMap, Setting
from calipose.config.method import Method
from calipose.config.recipe import Recipe
from calipose.config.settings import BackboneSettings, PredictSettings
from calipose.errors import ImageError, InputError
from calipose.inference.backends.base import BatchCandidates
from calipose.inference.backends.torch import TorchBackend
from calipose.inference.predictor import Predictor
from calipose.model.checkpoint import Checkpoint, save_checkpoint
from calipose.model.network import Network
from calipose.poses import Poses
from calipose.skeleton import COCO_17, Skeleton
from ideal_maps import StubNetwork, ideal_maps, spread_people, targets_of
from tampered import make_onnx, make_two_networks

SPOT = Skeleton("spot", ("left", "middle", "right"), ((0, 2),), (), (0.1, 0.1, 0.1))


@dataclass
class FixedBackend:
    """Says the same of every image."""

    keypoints_inp: np.ndarray  # (n, k, 2)
    scores: np.ndarray
    skeleton: Skeleton = COCO_17
    pad_colour: tuple[int, int, int] = (1, 2, 3)
    settings: PredictSettings = field(default_factory=PredictSettings)
    calibration: Calibration = field(default_factory=Calibration)
    calls: list[tuple[tuple[int, ...], int, bool]] = field(default_factory=list)
    queries: bool = True

    def candidates(self, images: np.ndarray, max_poses: int, flip: bool) -> BatchCandidates:
        self.calls.append((images.shape, max_poses, flip))
        keypoints, scores = (np.stack([values] * len(images)) for values in (self.keypoints_inp, self.scores))
        return BatchCandidates(keypoints, scores, None, keypoints + 1 if self.queries else None)


@dataclass
class SpotBackend:
    """Finds the bright spot: its centre of mass is the middle joint, the others lie 8 input pixels beside it."""

    skeleton: Skeleton = SPOT
    pad_colour: tuple[int, int, int] = (0, 0, 0)
    settings: PredictSettings = field(default_factory=PredictSettings)
    calibration: Calibration = field(default_factory=Calibration)
    batches: list[int] = field(default_factory=list)

    def candidates(self, images: np.ndarray, max_poses: int, flip: bool) -> BatchCandidates:
        self.batches.append(len(images))
        found = [self.spot(image) for image in images]
        scores = np.stack([score for _, score in found])
        return BatchCandidates(np.stack([keypoints for keypoints, _ in found]), scores)

    def spot(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        light = np.clip(image.astype(np.float64).min(-1) - 100, 0, None)
        y, x = np.mgrid[: light.shape[0], : light.shape[1]]
        if not light.any():
            return np.zeros((1, 3, 2)), np.full(1, -np.inf)
        middle = np.array([(x * light).sum(), (y * light).sum()]) / light.sum()
        return (middle + np.array([[-8.0, 0], [0, 0], [8, 0]]))[None], np.ones(1)


def random_poses(n: int, seed: int = 0) -> np.ndarray:
    """Poses far from each other."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-20, 20, (n, 17, 2)) + 300.0 * np.arange(n)[:, None, None]


def test_scores_of_joints_lie_between_0_and_1() -> None:
    backend = FixedBackend(random_poses(1), np.ones(1))
    found = backend.candidates(np.zeros((1, 64, 64, 3), np.uint8), 30, False)
    backend.candidates = lambda *_: replace(found, raw_keypoint_scores=np.linspace(-0.2, 1.2, 17)[None, None])  # type: ignore[method-assign]
    poses = Predictor(backend).predict(np.zeros((512, 512, 3), np.uint8))
    np.testing.assert_allclose(poses.keypoint_scores[0], np.linspace(-0.2, 1.2, 17).clip(0, 1))


def test_settings_of_a_backend_are_taken() -> None:
    backend = FixedBackend(random_poses(1), np.ones(1))
    backend.settings = PredictSettings(short_side=96)
    assert Predictor(backend).settings.short_side == 96
    assert Predictor(backend, PredictSettings(short_side=64)).settings.short_side == 64


@pytest.mark.parametrize(
    ("height", "width", "settings", "shape", "scale"),
    [
        (480, 640, {"short_side": 240}, (256, 320), 0.5),
        (640, 480, {"short_side": 240}, (320, 256), 0.5),
        (100, 90, {"short_side": 270}, (320, 288), 3.0),
        (60, 600, {"short_side": 64, "max_aspect": 2.0}, (32, 128), 128 / 600),
        (3, 5, {"short_side": 32}, (32, 64), 32 / 3),
    ],
)
def test_keypoints_are_in_pixels_of_the_image(
    height: int, width: int, settings: dict, shape: tuple[int, int], scale: float
) -> None:
    backend = FixedBackend(random_poses(3), np.array([0.9, 0.8, 0.7]))
    poses, queries = Predictor(backend, PredictSettings(**settings)).predict_with_queries(
        np.zeros((height, width, 3), np.uint8)
    )
    assert backend.calls == [((1, *shape, 3), 30, False)]
    # Pixel centres: inp + 0.5 = s (img + 0.5).
    expected = (backend.keypoints_inp + 0.5) / scale - 0.5
    assert np.abs(poses.keypoints_img - expected).max() < 1e-6
    assert queries is not None
    assert np.abs(queries - (backend.keypoints_inp + 1.5) / scale + 0.5).max() < 1e-6
    assert (poses.image_size, poses.skeleton) == ((width, height), COCO_17)
    assert poses.scores.tolist() == [0.9, 0.8, 0.7]


def test_the_input_is_the_image_in_its_corner_and_the_pad_colour() -> None:
    backend = FixedBackend(random_poses(1), np.ones(1), queries=False)
    seen = []
    candidates = backend.candidates
    backend.candidates = lambda images, *rest: (seen.append(images), candidates(images, *rest))[1]  # type: ignore[method-assign]
    image = np.random.default_rng(0).integers(0, 255, (64, 70, 3), np.uint8)
    _, queries = Predictor(backend, PredictSettings(short_side=64)).predict_with_queries(image)
    assert queries is None
    assert np.array_equal(seen[0][0, :, :70], image)
    assert (seen[0][0, :, 70:] == (1, 2, 3)).all()


@pytest.mark.parametrize(
    ("scores", "threshold", "kept"),
    [
        ([0.9, 0.5, 0.3, -np.inf], 0.05, [0.9, 0.5, 0.3]),
        ([0.9, 0.5, 0.3, -np.inf], 0.4, [0.9, 0.5]),
        ([0.9, 0.5, 0.3, -np.inf], 0.5, [0.9]),  # above, not at
        ([0.9, 0.5, 0.3, -np.inf], 1.0, []),
        ([0.9, -0.5, -np.inf, -np.inf], -1.0, [0.9, -0.5]),  # padding is never a pose
        ([-np.inf] * 4, float("-inf"), []),
    ],
)
def test_threshold(scores: list[float], threshold: float, kept: list[float]) -> None:
    backend = FixedBackend(random_poses(4), np.array(scores))
    poses, queries = Predictor(backend, PredictSettings(score_threshold=threshold)).predict_with_queries(
        np.zeros((20, 30, 3), np.uint8)
    )
    assert poses.scores.tolist() == kept
    assert poses.keypoints_img.shape == (len(kept), 17, 2)
    assert queries is not None
    assert queries.shape == (len(kept), 17, 2)
    assert poses.image_size == (30, 20)


def crowd(seed: int) -> FixedBackend:
    """Poses of which many are near copies of each other, best first."""
    rng = np.random.default_rng(seed)
    poses = random_poses(3, seed)[rng.integers(0, 3, 12)] + rng.normal(0, 2, (12, 17, 2))
    return FixedBackend(poses, np.sort(rng.random(12))[::-1].copy())


@pytest.mark.parametrize("seed", range(4))
def test_a_higher_threshold_gives_the_best_of_the_same_poses(seed: int) -> None:
    image = np.zeros((512, 512, 3), np.uint8)
    everyone = Predictor(crowd(seed), PredictSettings(score_threshold=-1)).predict(image)
    assert 3 <= len(everyone) < 12
    for threshold in (0.1, 0.3, 0.5, 0.7, 0.9):
        some = Predictor(crowd(seed), PredictSettings(score_threshold=threshold)).predict(image)
        n = int((everyone.scores > threshold).sum())
        assert np.array_equal(some.scores, everyone.scores[:n])
        assert np.array_equal(some.keypoints_img, everyone.keypoints_img[:n])


def test_duplicates() -> None:
    pose = random_poses(1)[0]
    other = pose + 300
    backend = FixedBackend(np.stack([pose, pose + 0.1, other, pose - 0.2]), np.array([0.9, 0.8, 0.7, 0.6]))
    image = np.zeros((512, 512, 3), np.uint8)
    assert Predictor(backend).predict(image).scores.tolist() == [0.9, 0.7]
    assert len(Predictor(backend, PredictSettings(nms_threshold=1.0)).predict(image)) == 4  # keeps all


def test_settings_reach_the_backend() -> None:
    backend = FixedBackend(random_poses(1), np.ones(1))
    settings = PredictSettings(short_side=96, max_poses=7, flip=True)
    Predictor(backend, settings).predict(np.zeros((96, 96, 3), np.uint8))
    assert backend.calls == [((1, 96, 96, 3), 7, True)]


def spotted(height: int, width: int, x: int, y: int) -> np.ndarray:
    """Dark grey, a bright square of 9 x 9 pixels around (x, y)."""
    image = np.full((height, width), 40, np.uint8)
    image[y - 4 : y + 5, x - 4 : x + 5] = 250
    return image


def write(path: Path, kind: str, grey: np.ndarray) -> None:
    colour = np.repeat(grey[..., None], 3, 2)
    if kind == "grey":
        cv2.imwrite(str(path), grey)
    elif kind == "RGB":
        cv2.imwrite(str(path), colour)
    elif kind == "RGBA":  # opaque but for one far corner
        alpha = np.full_like(grey, 255)
        cv2.imwrite(str(path), np.dstack([colour, alpha]))
    elif kind == "transparent":  # black, seen only where it is transparent: white
        Image.fromarray(np.dstack([np.zeros_like(colour), np.where(grey > 200, 0, 255).astype(np.uint8)])).save(path)
    elif kind == "16 bit":
        cv2.imwrite(str(path), grey.astype(np.uint16) * 257)
    elif kind == "16 bit RGB":
        cv2.imwrite(str(path), colour.astype(np.uint16) * 257)
    else:
        exif = Image.Exif()
        exif[0x0112] = int(kind.removeprefix("EXIF "))
        Image.fromarray(colour).save(path, exif=exif, quality=98)


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [("grey", "png"), ("RGB", "png"), ("RGB", "jpg"), ("RGBA", "png"), ("transparent", "png"), ("16 bit", "png"),
     ("16 bit RGB", "png"), ("EXIF 3", "jpg"), ("EXIF 6", "jpg"), ("EXIF 8", "png")],
)  # fmt: skip
@pytest.mark.parametrize("short_side", [90, 192])
def test_files_from_end_to_end(tmp_path: Path, kind: str, suffix: str, short_side: int) -> None:
    height, width, x, y = 120, 180, 131, 37  # as a person sees it
    upright = spotted(height, width, x, y)
    turns = {"EXIF 3": 2, "EXIF 6": 1, "EXIF 8": 3}.get(kind, 0)  # the camera was held so
    path = tmp_path / f"image.{suffix}"
    write(path, kind, np.ascontiguousarray(np.rot90(upright, turns)))
    poses = Predictor(SpotBackend(), PredictSettings(short_side=short_side)).predict(path)
    assert poses.image_size == (width, height)
    step = 8 * height / short_side
    assert np.abs(poses.keypoints_img[0] - [[x - step, y], [x, y], [x + step, y]]).max() < 0.1


def test_many_images_come_in_order_one_by_one(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), spotted(100, 120, 30, 40))
    asked = []

    def sources():
        for source in (tmp_path / "a.png", np.dstack([spotted(64, 64, 20, 50)] * 3), str(tmp_path / "missing.png")):
            asked.append(source)
            yield source

    predictor = Predictor(SpotBackend(), PredictSettings(short_side=96))
    found = predictor.predict_many(sources())
    first = next(found)
    assert len(asked) == 1
    assert np.abs(first.keypoints_img[0, 1] - [30, 40]).max() < 0.1
    assert np.abs(next(found).keypoints_img[0, 1] - [20, 50]).max() < 0.1
    with pytest.raises(ImageError, match=r"missing\.png"):
        next(found)
    nobody = predictor(np.zeros((50, 70, 3), np.uint8))
    assert (len(nobody), nobody.image_size, nobody.skeleton) == (0, (70, 50), SPOT)


@pytest.mark.parametrize(("batch_size", "largest"), [(1, 1), (2, 2), (3, 2), (8, 4)])
def test_batches_hold_equal_sizes_only_and_keep_the_order(batch_size: int, largest: int) -> None:
    sizes = [(96, 120), (96, 120), (120, 96), (96, 120), (96, 128), (120, 96), (96, 96)]
    places = [(20 + 5 * i, 30 + 4 * i) for i in range(len(sizes))]
    images = [np.dstack([spotted(*size, *place)] * 3) for size, place in zip(sizes, places, strict=True)]
    drawn = 0

    def sources():
        nonlocal drawn
        for image in images:
            drawn += 1
            yield image

    backend = SpotBackend()
    found = Predictor(backend, PredictSettings(short_side=96)).predict_many(sources(), batch_size)
    for i, (poses, (height, width), place) in enumerate(zip(found, sizes, places, strict=True)):
        assert drawn <= (i // batch_size + 1) * batch_size  # no more are held than asked for
        assert poses.image_size == (width, height)
        assert np.abs(poses.keypoints_img[0, 1] - place).max() < 0.1
    assert sum(backend.batches) == len(images)
    assert max(backend.batches) == largest  # 96 x 120 and 96 x 128 are both 96 x 128 after padding


def test_images_before_a_broken_one_are_predicted(tmp_path: Path) -> None:
    good = np.dstack([spotted(96, 96, 40, 50)] * 3)
    found = Predictor(SpotBackend(), PredictSettings(short_side=96)).predict_many(
        [good, good, good, tmp_path / "missing.png", good], batch_size=8
    )
    assert [len(next(found)) for _ in range(3)] == [1, 1, 1]
    with pytest.raises(ImageError, match=r"missing\.png"):
        next(found)


def test_no_batch() -> None:
    with pytest.raises(InputError, match="batch_size 0"):
        next(Predictor(SpotBackend()).predict_many([], 0))


def test_warm_up_runs_the_network_once() -> None:
    backend = FixedBackend(random_poses(1), np.ones(1))
    Predictor(backend, PredictSettings(short_side=96)).warm_up()
    assert backend.calls == [((1, 96, 96, 3), 30, False)]


def test_scores_are_calibrated_and_raw_ones_stay() -> None:
    keypoints_inp = spread_people([(7.3, 8.6), (22.1, 20.4)], seed=2)
    maps = ideal_maps(targets_of(keypoints_inp.float(), area_inp=900.0))
    setting = Setting(short_side=128, flip=False, nms_threshold=0.3)
    score_map = CalibrationMap(x=(0.0, 1.0), y=(0.0, 0.5), setting=setting)
    image = np.zeros((128, 128, 3), np.uint8)
    plain, mapped = (
        Predictor(TorchBackend(StubNetwork(lambda _: maps), COCO_17, calibration=m), PredictSettings(short_side=128))
        for m in (None, Calibration(score=score_map))
    )
    raw = plain.predict(image)
    poses = mapped.predict(image)
    assert np.array_equal(poses.raw_scores, raw.scores)
    assert np.array_equal(raw.raw_scores, raw.scores)
    np.testing.assert_allclose(poses.scores, 0.5 * raw.scores, atol=1e-5)


def test_a_model_by_its_name(run_folder: Path, tmp_path: Path) -> None:
    assert Predictor(run_folder, device="cpu").settings.max_poses == 5
    assert Predictor(run_folder / "last.safetensors", PredictSettings(max_poses=3)).settings.max_poses == 3
    for name in (tmp_path / "none.onnx", tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(InputError, match=str(name)):
            Predictor(name)
    with pytest.raises(InputError, match="device 'tpu9'"):
        Predictor(run_folder, device="tpu9")


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((5, 6, 4), np.uint8), "uint8 of shape .*leave the fourth channel out"),
        (np.zeros((5, 6, 1), np.uint8), r"array\[\.\.\., 0\]"),
        (np.zeros((5, 6, 3)), r"float64 of shape \(5, 6, 3\); .* is needed; numbers in \[0, 1\]"),
        (np.zeros((0, 6, 3), np.uint8), r"\(h, w, 3\) RGB or \(h, w\) grey of uint8 is needed"),
        (np.zeros((3, 5, 6), np.uint8), "the channels come last"),
        (np.zeros((2, 5, 6, 3), np.uint8), "one by one"),
        (np.array(["photo.jpg"]), "is needed"),
        (torch.zeros((3, 5, 6), dtype=torch.uint8), r"tensor\.permute\(1, 2, 0\)"),
        (torch.zeros((5, 6, 3), requires_grad=True), "a Tensor that numpy does not take"),
        (torch.zeros((5, 6, 3), dtype=torch.bfloat16), "a Tensor that numpy does not take"),
        (None, "image is NoneType; a file, a URL, a file's bytes, a PIL image, or an array"),
        (0, "image is int; "),
        ([np.zeros((5, 6, 3), np.uint8)], "image is list; "),
        (b"", "image image is empty"),
        (b"no image", "cannot be decoded"),
        (io.StringIO("text"), "binary mode"),
        ("dance.mp4", "find_sources reads the frames of a video"),
        ("a\0b.jpg", r"a\\x00b\.jpg' cannot be read"),
        ("a\ud800.jpg", r"a\\ud800\.jpg' cannot be read"),
    ],
)
def test_what_is_no_image_is_told_what_is_needed(image: Any, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        Predictor(SpotBackend()).predict(image)


def test_an_image_in_any_form_that_python_has(tmp_path: Path) -> None:
    grey = spotted(96, 128, 60, 40)
    path = tmp_path / "spot.png"
    cv2.imwrite(str(path), grey)
    colour = np.repeat(grey[..., None], 3, 2)
    with path.open("rb") as file:
        forms: dict[str, Any] = {
            "path": path,
            "text": str(path),
            "bytes": path.read_bytes(),
            "bytearray": bytearray(path.read_bytes()),
            "memoryview": memoryview(path.read_bytes()),
            "BytesIO": io.BytesIO(path.read_bytes()),
            "file": file,
            "PIL": Image.fromarray(colour),
            "PIL file": Image.open(path),
            "grey": grey,
            "mirrored twice": colour[:, ::-1].copy()[:, ::-1],
            "tensor": torch.from_numpy(colour),
            "permuted tensor": torch.from_numpy(np.moveaxis(colour, -1, 0).copy()).permute(1, 2, 0),
        }
        predictor = Predictor(SpotBackend())
        expected = predictor.predict(colour)
        assert len(expected) == 1
        found = dict(zip(forms, predictor.predict_many(forms.values()), strict=True))
    for form, poses in found.items():
        np.testing.assert_array_equal(poses.keypoints_img, expected.keypoints_img, err_msg=form)


@pytest.mark.parametrize(
    "images",
    ["photo.jpg", Path("photo.jpg"), b"bytes", io.BytesIO(), np.zeros((5, 6, 3), np.uint8), Image.new("RGB", (6, 5)), 3,
     torch.zeros((5, 6, 3), dtype=torch.uint8)],
)  # fmt: skip
def test_one_image_is_not_taken_for_several(images: Any) -> None:
    with pytest.raises(InputError, match=r"predict_many was given one .*; it takes several images"):
        next(Predictor(SpotBackend()).predict_many(images))


def test_people_come_back_through_torch() -> None:
    """Ideal maps -> decoding -> NMS -> pixels of an image twice as large as the input."""
    keypoints_inp = spread_people([(7.3, 8.6), (22.1, 20.4)], seed=2)
    maps = ideal_maps(targets_of(keypoints_inp.float(), area_inp=900.0))
    predictor = Predictor(TorchBackend(StubNetwork(lambda _: maps), COCO_17), PredictSettings(short_side=128))
    poses = predictor.predict(np.zeros((256, 256, 3), np.uint8))
    expected = (keypoints_inp[0].numpy() + 0.5) * 2 - 0.5
    assert len(poses) == 2
    order = [0, 1] if np.abs(poses.keypoints_img[0] - expected[0]).max() < 1 else [1, 0]
    assert np.abs(poses.keypoints_img - expected[order]).max() < 2e-3


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    recipe = Recipe(
        name="tiny", backbone=BackboneSettings(name="mobilenetv2-0.1"),
        method=Method(keypoint_width=2, instance_width=4),
        predict=PredictSettings(short_side=96, score_threshold=-10, max_poses=5),
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("run")
    state = Network("mobilenetv2-0.1", 17, recipe.method).state_dict()
    save_checkpoint(folder / "last.safetensors", Checkpoint(recipe, COCO_17, state))
    return folder


def same_poses(first: Poses, second: Poses) -> None:
    assert len(first) == len(second) > 0
    assert (first.skeleton, first.image_size) == (second.skeleton, second.image_size)
    for name in ("keypoints_img", "scores", "keypoint_scores", "raw_scores", "p_oks50", "p_oks75"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)


@pytest.mark.parametrize("kind", ["packaged", "onnx", "two networks", "checkpoint"])
def test_a_predictor_is_pickled(kind: str, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if kind == "packaged":
        predictor = Predictor("accurate").with_settings(short_side=64, score_threshold=-10.0)
    elif kind == "checkpoint":
        predictor = Predictor(run_folder, device="cpu").with_settings(max_poses=3)
    else:
        name = (make_onnx if kind == "onnx" else make_two_networks)(tmp_path).name
        predictor = Predictor(name, threads=1).with_settings(max_aspect=2.0)  # the path is relative
    image = np.random.default_rng(0).integers(0, 255, (64, 80, 3), np.uint8)
    sent = pickle.dumps(predictor)
    monkeypatch.chdir("/")
    back = pickle.loads(sent)
    assert (back.settings, back.calibration, back.second_look) == (
        predictor.settings, predictor.calibration, predictor.second_look,
    )  # fmt: skip
    same_poses(back.predict(image), predictor.predict(image))
    same_poses(copy.deepcopy(predictor).predict(image), predictor.predict(image))


def test_a_predictor_goes_to_another_process(run_folder: Path, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (64, 80, 3), np.uint8)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        for model in (make_two_networks(tmp_path), run_folder):
            predictor = Predictor(model, device="cpu")
            same_poses(pool.submit(predictor.predict, image).result(timeout=100), predictor.predict(image))


def test_a_predictor_whose_file_is_gone(tmp_path: Path) -> None:
    path = make_onnx(tmp_path)
    sent = pickle.dumps(Predictor(path))
    path.unlink()
    with pytest.raises(InputError, match=r"tiny\.onnx: no such ONNX file"):
        pickle.loads(sent)


def test_from_a_checkpoint(run_folder: Path) -> None:
    predictor = Predictor.from_checkpoint(run_folder)
    assert predictor.settings == PredictSettings(short_side=96, score_threshold=-10, max_poses=5)
    assert predictor.skeleton == COCO_17
    assert predictor.backend.pad_colour == (128, 128, 128)  # the mean of its backbone
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    poses, queries = predictor.predict_with_queries(image)
    assert queries is not None
    assert queries.shape == poses.keypoints_img.shape
    assert 0 < len(poses) <= 5
    other = Predictor.from_checkpoint(run_folder, settings=msgspec.structs.replace(predictor.settings, flip=True))
    assert other.settings.flip


def test_other_images_do_not_matter(run_folder: Path) -> None:
    predictor = Predictor.from_checkpoint(run_folder)
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 255, shape, np.uint8) for shape in ((90, 120, 3), (120, 90, 3), (96, 96, 3))]
    together = list(predictor.predict_many(images))
    alone = [predictor.predict(image) for image in reversed(images)][::-1]
    for a, b in zip(together, alone, strict=True):
        assert np.array_equal(a.keypoints_img, b.keypoints_img)
        assert np.array_equal(a.scores, b.scores)


def test_a_backend_leaves_the_network_as_it_was(run_folder: Path) -> None:
    """Predicting changes no weight and no batch statistics, and never touches the mode that was set at construction."""
    backend = Predictor.from_checkpoint(run_folder).backend
    assert isinstance(backend, TorchBackend)
    assert not backend.network.training
    before = {name: value.clone() for name, value in backend.network.state_dict().items()}
    backend.candidates(np.full((1, 64, 64, 3), 99, np.uint8), 3, True)
    assert not backend.network.training
    assert all(torch.equal(value, before[name]) for name, value in backend.network.state_dict().items())


def test_a_backend_puts_the_network_into_evaluation_mode_once() -> None:
    network = Network("mobilenetv2-0.1", 17, Method(keypoint_width=2, instance_width=4)).train()
    TorchBackend(network, COCO_17)
    assert not any(part.training for part in network.modules())


def test_settings_and_calibration_are_replaced_by_new_predictors() -> None:
    backend = FixedBackend(random_poses(1), np.ones(1))
    predictor = Predictor(backend)
    other = predictor.with_settings(flip=True, short_side=96)
    assert other.backend is backend
    assert (other.settings.flip, other.settings.short_side, predictor.settings.flip) == (True, 96, False)
    with pytest.raises(AttributeError):
        predictor.settings = other.settings  # type: ignore[misc]
    with pytest.raises(TypeError):
        predictor.with_settings(flipp=True)
    half = Calibration(score=CalibrationMap(x=(0.0, 1.0), y=(0.0, 0.5)))
    calibrated = other.with_calibration(half)
    assert (calibrated.backend, calibrated.settings, calibrated.calibration) == (backend, other.settings, half)
    assert calibrated.with_settings(flip=False).calibration == half
    assert predictor.calibration == Calibration()
    image = np.zeros((64, 64, 3), np.uint8)
    assert [p.predict(image).scores.tolist() for p in (predictor, calibrated)] == [[1.0], [0.5]]


def test_keypoint_scores_are_clipped_before_and_after_their_map() -> None:
    calibration = Calibration(keypoint=CalibrationMap(x=(0.2, 0.8), y=(0.0, 1.0)))
    assert calibration.calibrate_keypoints([-5.0, 0.0, 0.5, 1.0, 7.0]).tolist() == pytest.approx([0, 0, 0.5, 1, 1])
    assert Calibration().calibrate_keypoints([-5.0, 0.4, 7.0]).tolist() == [0, 0.4, 1]


@pytest.mark.parametrize("kind", ["torch", "onnx"])
def test_several_threads_give_what_one_gives(kind: str, run_folder: Path, request: pytest.FixtureRequest) -> None:
    path = run_folder if kind == "torch" else request.getfixturevalue("tiny_onnx")
    predictor = Predictor(path, device="cpu").with_settings(score_threshold=-10.0)
    rng = np.random.default_rng(2)
    sizes = [(96, 96), (96, 130), (140, 100), (64, 96)]
    images = [rng.integers(0, 255, (*sizes[i % 4], 3), np.uint8) for i in range(24)]
    expected = [predictor.predict(image) for image in images]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(predictor.predict, images))
    for alone, among in zip(expected, found, strict=True):
        assert len(alone) > 0
        assert np.array_equal(alone.keypoints_img, among.keypoints_img)
        assert np.array_equal(alone.scores, among.scores)
