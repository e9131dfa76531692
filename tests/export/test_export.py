"""One ONNX file gives torch's poses, for every size and batch, and predicts where torch cannot be imported."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import torch

from calipose.calibration.maps import Calibration, CalibrationMap, Setting
from calipose.config.method import Method
from calipose.config.settings import PredictSettings
from calipose.data.synthetic.scene import EASY, HARD, synthesize_scene, write_synthetic_data
from calipose.errors import CaliposeError, InputError
from calipose.export.graph import DecodedNetwork
from calipose.export.onnx import export_onnx, round_to_half
from calipose.export.parity import compare
from calipose.export.quantize import backbone_convolutions, export_int8
from calipose.geometry import pose_nms
from calipose.inference.backends.onnx import OnnxBackend
from calipose.inference.backends.torch import TorchBackend
from calipose.inference.predictor import Predictor
from calipose.model.checkpoint import Checkpoint
from calipose.model.decode import pose_nms_mask
from calipose.model.fold import folded
from calipose.model.network import Network
from calipose.skeleton import COCO_17

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint: Checkpoint) -> Checkpoint:
    return tiny_checkpoint


SETTING = Setting(short_side=96, flip=False, nms_threshold=0.3)


@pytest.fixture(scope="module")
def exported(tiny_onnx: Path) -> Path:
    return tiny_onnx


@pytest.fixture(scope="module")
def rich(
    checkpoint: Checkpoint, exported_once: Callable[[str, Callable[[Path], object]], Path]
) -> tuple[Checkpoint, Path]:
    """With joint scores, the sparse form, calibrated, and its weights in half precision."""
    method = msgspec.structs.replace(checkpoint.recipe.method, keypoint_scores=True, sparse_cells=640)
    recipe = msgspec.structs.replace(checkpoint.recipe, method=method)
    torch.manual_seed(1)
    network = Network("mobilenetv2-0.25", 17, method)
    for parameter in network.head.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    score_map = CalibrationMap(x=(-0.2, 0.1, 0.4), y=(0.05, 0.2, 0.9), setting=SETTING, data="drawn", poses=9, images=2)
    keypoint_map = CalibrationMap(
        x=(0.0, 0.5, 1.0), y=(0.1, 0.2, 0.9), setting=SETTING, data="drawn", poses=9, images=2
    )
    made = Checkpoint(
        recipe, COCO_17, network.state_dict(), calibration=Calibration(score=score_map, keypoint=keypoint_map)
    )

    def make(path: Path) -> None:
        assert export_onnx(made, path, half=True).good

    return made, exported_once("rich.onnx", make)


def coarse(seed: int, b: int, h: int, w: int) -> np.ndarray:
    """Images of coarse random squares."""
    return np.random.default_rng(seed).integers(0, 256, (b, h // 8, w // 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)


def drawn(seed: int, b: int, h: int, w: int) -> np.ndarray:
    """Images of synthetic people."""
    return np.stack([synthesize_scene(np.random.default_rng([seed, i]), (w, h), HARD).image for i in range(b)])


def graph_of(checkpoint: Checkpoint, half: bool = False) -> DecodedNetwork:
    network = folded(checkpoint.network())
    if half:
        round_to_half(network)
    return DecodedNetwork(network, COCO_17.sigmas, 30, 0.3, checkpoint.calibration).eval()


# 50 images: sizes, and how many are predicted together.
SHAPES = [(1, 64, 64), (8, 64, 96), (3, 96, 160), (2, 320, 64), (6, 128, 128), (1, 256, 192), (4, 96, 96), (16, 64, 64),
          (5, 160, 96), (4, 192, 128)]  # fmt: skip


def test_onnx_gives_torchs_poses_on_fifty_images(
    checkpoint: Checkpoint, exported: Path, rich: tuple[Checkpoint, Path]
) -> None:
    assert sum(b for b, _, _ in SHAPES) == 50
    for made, path, half in ((checkpoint, exported, False), (*rich, True)):
        graph, backend = graph_of(made, half), OnnxBackend(path)
        gaps = [compare(graph, backend, drawn(seed, *shape)) for seed, shape in enumerate(SHAPES)]
        assert sum(gap.poses for gap in gaps) > 300
        assert max(gap.pixels for gap in gaps) < 0.05
        assert max(gap.score for gap in gaps) < 1e-4


def paired(ours: Predictor, theirs: Predictor, images: list[np.ndarray], batch_size: int) -> tuple[int, int]:
    """How many poses of one predictor there are, and how many of them the other gives, too."""
    poses = same = 0
    for a, b in zip(ours.predict_many(images, batch_size), theirs.predict_many(images), strict=True):
        away = np.abs(a.keypoints_img[:, None] - b.keypoints_img).max((2, 3))
        other = np.abs(a.scores[:, None] - b.scores)
        poses += len(a)
        same += int(((away < 0.05) & (other < 1e-4)).any(1).sum())
    return poses, same


def test_both_backends_predict_the_same_poses(rich: tuple[Checkpoint, Path]) -> None:
    """From image to pose; only ties within rounding may be decided otherwise."""
    made, path = rich
    settings = msgspec.structs.replace(made.recipe.predict, score_threshold=-1.0)
    graph = graph_of(made, half=True)
    torchs = Predictor(TorchBackend(graph.network, COCO_17, calibration=made.calibration), settings)
    onnxs = Predictor(OnnxBackend(path), settings)
    sizes = [(96, 96), (96, 130), (140, 100), (300, 200), (96, 130)]
    images = [drawn(seed, 1, *sizes[seed % 5])[0] for seed in range(20)]
    for batch_size in (1, 4):
        for pair in ((torchs, onnxs), (onnxs, torchs)):
            poses, same = paired(*pair, images, batch_size)
            assert poses > 100
            assert same >= 0.99 * poses


class Changed:
    """A backend whose file gives something else."""

    def __init__(self, backend: OnnxBackend, change: Callable[[dict[str, np.ndarray]], None]) -> None:
        self.backend, self.change = backend, change

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        found = {name: values.copy() for name, values in self.backend.run(images).items()}
        self.change(found)
        return found


def move(name: str, by: float) -> Callable[[dict[str, np.ndarray]], None]:
    """The best pose's values, changed."""

    def change(found: dict[str, np.ndarray]) -> None:
        found[name][:, 0] += by

    return change


def lose_the_second(found: dict[str, np.ndarray]) -> None:
    for values in found.values():
        values[:, 1:-1] = values[:, 2:].copy()
        values[:, -1] = values[:, -2]


def invent_one(found: dict[str, np.ndarray]) -> None:
    found["keypoints"][:, 3] += 1000.0


@pytest.mark.parametrize(
    "change",
    [move("keypoints", 0.2), move("raw_scores", 3e-3), move("scores", 3e-3), move("keypoint_scores", 3e-3),
     move("raw_keypoint_scores", 3e-3),
     move("keypoints", np.nan), move("scores", np.nan), lose_the_second, invent_one,
     lambda found: found["valid"].__setitem__((slice(None), 0), False),
     lambda found: found["raw_scores"].fill(-np.inf)],
)  # fmt: skip
def test_the_comparison_sees_every_change(rich: tuple[Checkpoint, Path], change: Callable) -> None:
    graph, backend, images = graph_of(rich[0], half=True), OnnxBackend(rich[1]), drawn(0, 2, 96, 96)
    assert compare(graph, backend, images).good
    assert not compare(graph, Changed(backend, change), images).good


def test_the_comparison_passes_over_ties(rich: tuple[Checkpoint, Path]) -> None:
    """On an image of one colour most cells are equal but for rounding: any of them may be the peak."""
    graph, backend = graph_of(rich[0], half=True), OnnxBackend(rich[1])
    for grey in (0, 77, 255):
        assert compare(graph, backend, np.full((2, 160, 160, 3), grey, np.uint8)).good


def test_the_comparison_sees_other_weights(checkpoint: Checkpoint, exported: Path) -> None:
    changed = {name: value.clone() for name, value in checkpoint.weights.items()}
    changed["head.center_to_query.bias"] += 0.1  # cells: 0.4 pixels
    other = graph_of(Checkpoint(checkpoint.recipe, COCO_17, changed))
    assert not compare(other, OnnxBackend(exported), coarse(0, 2, 96, 96)).good


def test_folding_changes_nothing(checkpoint: Checkpoint) -> None:
    network = checkpoint.network()
    for norm in (m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.running_mean.normal_(std=0.1)
        norm.running_var.uniform_(0.5, 2)
        norm.weight.data.uniform_(0.5, 1.5)
    network = network.double()
    images = torch.from_numpy(drawn(0, 2, 96, 64))
    with torch.no_grad():
        assert torch.allclose(network.encode(images).score, folded(network).encode(images).score, atol=1e-9)


@pytest.mark.parametrize("name", ["hrnet-w18-small", "mobilenetv2-0.1", "movenet-0.25"])
def test_every_batch_norm_is_folded(name: str) -> None:
    backbone = folded(Network(name, 17, Method(keypoint_width=1, instance_width=1))).backbone
    assert not [part for part in backbone.modules() if isinstance(part, torch.nn.BatchNorm2d)]


def test_what_the_graph_is_made_of(exported: Path, rich: tuple[Checkpoint, Path]) -> None:
    for path in (exported, rich[1]):
        model = onnx.load(path)
        assert [(entry.domain, entry.version) for entry in model.opset_import if entry.domain == ""] == [("", 18)]
        kinds = {node.op_type for node in model.graph.node}
        assert not kinds & {"Loop", "If", "Scan", "NonZero", "BatchNormalization"}
        for node in model.graph.node:
            if node.op_type == "GridSample":
                values = {a.name: a.s.decode() if a.s else a.i for a in node.attribute}
                assert values.get("align_corners", 0) == 0
                assert values.get("padding_mode", "zeros") == "zeros"
                assert values.get("mode", "bilinear") in {"bilinear", "linear"}
        assert "GridSample" in kinds
        assert str(Path(__file__).parents[2]) not in str(model)  # the exporter notes where its user's files lie
        dims = {
            entry.name: [dim.dim_param or dim.dim_value for dim in entry.type.tensor_type.shape.dim]
            for entry in (*model.graph.input, *model.graph.output)
        }
        assert dims["images"] == ["batch", "height", "width", 3]
        assert dims["keypoints"] == ["batch", 30, 17, 2]
        assert dims["valid"] == ["batch", 30]


def test_the_smallest_image(exported: Path) -> None:
    assert OnnxBackend(exported).run(drawn(0, 1, 32, 32))["keypoints"].shape == (1, 30, 17, 2)


def test_outputs_and_metadata(rich: tuple[Checkpoint, Path]) -> None:
    made, path = rich
    backend = OnnxBackend(path)
    found = backend.run(drawn(3, 2, 64, 96))
    shapes = {name: (value.shape, value.dtype.name) for name, value in found.items()}
    assert shapes == {
        "keypoints": ((2, 30, 17, 2), "float32"), "scores": ((2, 30), "float32"), "raw_scores": ((2, 30), "float32"),
        "valid": ((2, 30), "bool"), "keypoint_scores": ((2, 30, 17), "float32"),
        "raw_keypoint_scores": ((2, 30, 17), "float32"),
    }  # fmt: skip
    valid = found["valid"]
    assert valid.any()
    np.testing.assert_allclose(found["scores"][valid], made.calibration.score(found["raw_scores"][valid]), atol=1e-6)
    keypoints, raw_keypoints = found["keypoint_scores"], found["raw_keypoint_scores"]
    np.testing.assert_allclose(keypoints, made.calibration.calibrate_keypoints(raw_keypoints), atol=1e-6)
    assert backend.calibration == made.calibration
    assert backend.skeleton == COCO_17
    assert backend.header["outputs"] == list(found)
    assert (found["scores"][~valid] == 0).all()
    predicted = Predictor(path).predict(drawn(3, 1, 96, 96)[0])
    assert predicted.keypoint_scores is not None
    np.testing.assert_allclose(predicted.scores, made.calibration.score(predicted.raw_scores), atol=1e-6)


def test_half_precision_halves_the_file_and_leaves_positions_and_scores(
    checkpoint: Checkpoint, exported: Path, rich: tuple[Checkpoint, Path]
) -> None:
    model = onnx.load(rich[1])
    half = sum(np.prod(t.dims) for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16)
    assert half > 0.8 * sum(v.numel() for v in checkpoint.weights.values())
    assert rich[1].stat().st_size < 0.8 * exported.stat().st_size
    network = folded(rich[0].network())
    before = {name: value.clone() for name, value in network.named_parameters()}
    round_to_half(network)
    changed = {name for name, value in network.named_parameters() if not torch.equal(value, before[name])}
    of_head = {name.split(".")[1] for name in changed if name.startswith("head.")}
    assert "keypoint_features" in of_head  # the instance features are too few to be worth it here
    assert of_head <= {"keypoint_features", "instance_features"}


def test_an_image_does_not_depend_on_its_batch(checkpoint: Checkpoint, exported: Path) -> None:
    settings = msgspec.structs.replace(checkpoint.recipe.predict, score_threshold=-1.0)
    images = list(drawn(2, 5, 96, 120))
    for backend in (OnnxBackend(exported), TorchBackend(checkpoint.network(), COCO_17)):
        predictor = Predictor(backend, settings)
        for alone, together in zip(predictor.predict_many(images), predictor.predict_many(images, 5), strict=True):
            assert len(alone) == len(together) > 0
            np.testing.assert_allclose(together.scores, alone.scores, atol=1e-5)
            np.testing.assert_allclose(together.keypoints_img, alone.keypoints_img, atol=1e-3)


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.9])
def test_the_nms_in_the_graph_is_the_predictors(checkpoint: Checkpoint, exported: Path, threshold: float) -> None:
    """The graph's at the threshold that it was exported with; the predictor's at any."""
    backend, images = OnnxBackend(exported), drawn(5, 3, 128, 96)
    found, own = backend.candidates(images, 30, False), backend.run(images)
    for row in range(len(images)):
        real = np.isfinite(found.raw_scores[row])
        kept = pose_nms(found.keypoints_inp[row][real], found.raw_scores[row][real], COCO_17.sigmas_array, 0.3)
        assert sorted(kept.tolist()) == np.flatnonzero(own["valid"][row]).tolist()
    settings = msgspec.structs.replace(checkpoint.recipe.predict, score_threshold=-1.0, nms_threshold=threshold)
    both = [Predictor(b, settings) for b in (backend, TorchBackend(checkpoint.network(), COCO_17))]
    counts = [[len(poses) for poses in predictor.predict_many(list(images))] for predictor in both]
    assert counts[0] == counts[1]


def untitled(path: Path) -> "onnx.ModelProto":
    """What was exported, before it got its metadata: tracing once is enough for several tests."""
    model = onnx.load(path)
    del model.metadata_props[:]
    return model


def test_what_cannot_be_exported_leaves_nothing(
    checkpoint: Checkpoint, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        export_onnx(checkpoint, tmp_path / "none" / "a.onnx")
    crowded = msgspec.structs.replace(checkpoint.recipe, predict=PredictSettings(max_poses=65))
    with pytest.raises(InputError, match=r"predict.max_poses 65: .* at most 64 poses"):
        export_onnx(replace(checkpoint, recipe=crowded), tmp_path / "a.onnx")
    other = {name: value + 0.1 if name == "head.center_to_query.bias" else value for name, value in
             checkpoint.weights.items()}  # fmt: skip
    monkeypatch.setattr("calipose.export.onnx._trace", lambda _: untitled(exported))
    with pytest.raises(CaliposeError, match="not kept"):
        export_onnx(replace(checkpoint, weights=other), tmp_path / "b.onnx")
    assert list(tmp_path.iterdir()) == []
    export_onnx(checkpoint, tmp_path / "c.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["c.onnx"]


def test_int8(checkpoint: Checkpoint, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calipose.export.quantize.export_onnx", lambda _, path: shutil.copy(exported, path))
    data = write_synthetic_data(tmp_path / "people", 4, EASY, (96, 96), seed=0).parent
    before, after = export_int8(checkpoint, tmp_path / "int8.onnx", str(data))
    assert before.ap >= 0
    assert after.ap >= 0
    model = onnx.load(tmp_path / "int8.onnx")
    inside, outside = backbone_convolutions(model)
    by_output = {node.output[0]: node.op_type for node in model.graph.node}
    for node in model.graph.node:
        if node.op_type == "Conv":
            assert (by_output.get(node.input[1]) == "DequantizeLinear") == (node.name in inside), node.name
    assert inside
    assert outside
    assert len(Predictor(tmp_path / "int8.onnx").predict(coarse(0, 1, 96, 96)[0]).image_size) == 2


def test_predicts_without_torch(exported: Path, tmp_path: Path) -> None:
    image = tmp_path / "image.png"
    cv2.imwrite(str(image), np.random.default_rng(3).integers(0, 256, (120, 90, 3), np.uint8))
    code = (
        "import sys\n"
        "for name in ('torch', 'safetensors', 'accelerate', 'onnx', 'av'):\n"
        "    sys.modules[name] = None\n"
        "from calipose import InputError, Predictor\n"
        f"poses = Predictor.from_onnx({str(exported)!r}).predict({str(image)!r})\n"
        "print(len(poses), poses.keypoints_img.shape[1:], poses.image_size)\n"
        "try: Predictor('run.safetensors')\n"
        "except InputError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    predicted, refused = done.stdout.splitlines()
    assert predicted.split(maxsplit=1)[1] == "(17, 2) (90, 120)"
    assert refused.startswith("run.safetensors: a checkpoint needs torch: pip install 'accelerate")


def test_flip_needs_the_checkpoint(exported: Path) -> None:
    predictor = Predictor.from_onnx(exported)
    with pytest.raises(InputError, match="flip"):
        predictor.backend.candidates(np.zeros((1, 64, 64, 3), np.uint8), 30, True)


@pytest.mark.parametrize("content", [None, b"", b"no onnx"])
def test_a_file_that_is_none_of_ours_is_named(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.onnx"):
        OnnxBackend(path)


def test_nms_mask_equals_the_loop() -> None:
    random = np.random.default_rng(4)
    sigmas = COCO_17.sigmas_array
    for threshold in (0.2, 0.5, 0.8):
        keypoints = random.normal(50, 12, (4, 17, 2))[random.integers(0, 4, 12)] + random.normal(0, 3, (12, 17, 2))
        scores = np.sort(random.random(12))[::-1].copy()
        scores[10:] = -np.inf
        mask = pose_nms_mask(
            torch.from_numpy(keypoints)[None], torch.from_numpy(scores)[None], torch.from_numpy(sigmas), threshold
        )[0]
        kept = pose_nms(keypoints[:10], scores[:10], sigmas, threshold)
        assert np.flatnonzero(mask.numpy()).tolist() == sorted(kept.tolist())
