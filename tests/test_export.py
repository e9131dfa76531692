"""One ONNX file gives torch's poses, for every size and batch, and predicts where torch cannot be imported."""

import subprocess
import sys
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import torch

from calipose.backends.onnx_backend import OnnxBackend, find_providers
from calipose.calibration import ScoreMap, Setting
from calipose.data.drawn import EASY, write_drawn_data
from calipose.errors import CaliposeError, InputError
from calipose.export import DecodedNetwork, Parity, compare, export_onnx, round_to_half
from calipose.geometry import pose_nms
from calipose.model.checkpoint import Checkpoint
from calipose.model.decode import pose_nms_mask
from calipose.model.fold import folded
from calipose.model.network import Network
from calipose.predictor import Predictor
from calipose.quantize import backbone_convolutions, export_int8
from calipose.recipe import Recipe
from calipose.skeleton import COCO_17

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    recipe = Recipe.from_dict(
        {
            "name": "tiny",
            "backbone": {"name": "mobilenetv2-0.25"},
            "method": {"keypoint_width": 4, "instance_width": 8, "semantic_points": 3},
            "predict": {"short_side": 96},
        }
    )
    network = Network("mobilenetv2-0.25", 17, recipe.method)
    for parameter in network.head.parameters():  # displacements of some cells, scores that differ
        parameter.data += 0.05 * torch.randn_like(parameter)
    return Checkpoint(recipe, COCO_17, network.state_dict())


SETTING = Setting(short_side=96, flip=False, nms_threshold=0.3)


@pytest.fixture(scope="module")
def exported(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    gaps = export_onnx(checkpoint, path)
    assert gaps.poses > 50
    return path


@pytest.fixture(scope="module")
def rich(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, Path]:
    """With joint scores, calibrated, and its weights in half precision."""
    method = msgspec.structs.replace(checkpoint.recipe.method, joint_scores=True)
    recipe = msgspec.structs.replace(checkpoint.recipe, method=method)
    torch.manual_seed(1)
    network = Network("mobilenetv2-0.25", 17, method)
    for parameter in network.head.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    score_map = ScoreMap(x=(-0.2, 0.1, 0.4), y=(0.05, 0.2, 0.9), setting=SETTING, data="drawn", poses=9, pictures=2)
    made = Checkpoint(recipe, COCO_17, network.state_dict(), score_map=score_map)
    path = tmp_path_factory.mktemp("onnx") / "rich.onnx"
    assert export_onnx(made, path, half=True).good
    return made, path


def coarse(seed: int, b: int, h: int, w: int) -> np.ndarray:
    """Pictures of coarse random squares."""
    return np.random.default_rng(seed).integers(0, 256, (b, h // 8, w // 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)


def graph_of(checkpoint: Checkpoint, half: bool = False) -> DecodedNetwork:
    network = folded(checkpoint.network())
    if half:
        round_to_half(network)
    return DecodedNetwork(network, COCO_17.sigmas, 30, 0.3, checkpoint.score_map).eval()


# 50 pictures: sizes, and how many are predicted together.
SHAPES = [(1, 64, 64), (8, 64, 96), (3, 96, 160), (2, 320, 64), (6, 128, 128), (1, 256, 192), (4, 96, 96), (16, 64, 64),
          (5, 160, 96), (4, 192, 128)]  # fmt: skip


def test_onnx_gives_torchs_poses_on_fifty_pictures(
    checkpoint: Checkpoint, exported: Path, rich: tuple[Checkpoint, Path]
) -> None:
    assert sum(b for b, _, _ in SHAPES) == 50
    for made, path, half in ((checkpoint, exported, False), (*rich, True)):
        graph, backend = graph_of(made, half), OnnxBackend(path)
        gaps = [compare(graph, backend, coarse(seed, *shape)) for seed, shape in enumerate(SHAPES)]
        assert sum(gap.poses for gap in gaps) > 300
        assert max(gap.pixels for gap in gaps) < 0.05
        assert max(gap.score for gap in gaps) < 1e-4


def test_the_comparison_sees_other_poses(checkpoint: Checkpoint, exported: Path) -> None:
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
    images = torch.from_numpy(coarse(0, 2, 96, 64))
    with torch.no_grad():
        assert torch.allclose(network.encode(images).score, folded(network).encode(images).score, atol=1e-9)


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


def test_outputs_and_metadata(rich: tuple[Checkpoint, Path]) -> None:
    made, path = rich
    backend = OnnxBackend(path)
    found = backend.run(coarse(3, 2, 64, 96))
    shapes = {name: (value.shape, value.dtype.name) for name, value in found.items()}
    assert shapes == {
        "keypoints": ((2, 30, 17, 2), "float32"), "scores": ((2, 30), "float32"), "raw_scores": ((2, 30), "float32"),
        "valid": ((2, 30), "bool"), "keypoint_scores": ((2, 30, 17), "float32"),
    }  # fmt: skip
    valid = found["valid"]
    assert valid.any()
    np.testing.assert_allclose(found["scores"][valid], made.score_map(found["raw_scores"][valid]), atol=1e-6)
    assert backend.score_map == made.score_map
    assert backend.skeleton == COCO_17
    assert backend.header["outputs"] == list(found)
    predicted = Predictor(path).predict(coarse(3, 1, 96, 96)[0])
    assert predicted.keypoint_scores is not None
    np.testing.assert_allclose(predicted.scores, made.score_map(predicted.raw_scores), atol=1e-6)


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
    assert {name.split(".")[1] for name in changed if name.startswith("head.")} == {
        "keypoint_features",
        "instance_features",
    }


def test_a_picture_does_not_depend_on_its_batch(exported: Path) -> None:
    images = np.random.default_rng(2).integers(0, 256, (3, 64, 96, 3), np.uint8)
    backend = OnnxBackend(exported)
    together, alone = backend.run(images), backend.run(images[1:2])
    np.testing.assert_allclose(together["scores"][1], alone["scores"][0], rtol=1e-4, atol=1e-5)


def test_the_nms_in_the_graph_is_the_predictors(exported: Path) -> None:
    backend = OnnxBackend(exported)
    images = coarse(5, 4, 128, 96)
    found = backend.candidates(images, 30, False)
    for keypoints, scores in zip(found.keypoints_inp, found.raw_scores, strict=True):
        kept = pose_nms(keypoints[np.isfinite(scores)], scores[np.isfinite(scores)], COCO_17.sigmas_array, 0.3)
        assert len(kept) == np.isfinite(scores).sum()


@pytest.mark.parametrize(
    ("wanted", "full"),
    [(["cpu"], ["CPUExecutionProvider"]), (["CUDA", "cpu"], ["CUDAExecutionProvider", "CPUExecutionProvider"]),
     (["CPUExecutionProvider"], ["CPUExecutionProvider"])],
)  # fmt: skip
def test_providers_by_short_name(wanted: list[str], full: list[str]) -> None:
    there = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert find_providers(wanted, there) == full
    with pytest.raises(InputError, match="no provider 'npu' here"):
        find_providers(["npu"], there)


def test_what_cannot_be_exported_leaves_nothing(checkpoint: Checkpoint, tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        export_onnx(checkpoint, tmp_path / "none" / "a.onnx")
    monkeypatch.setattr("calipose.export.parity", lambda *_: Parity(1.0, 0.0, 5))
    with pytest.raises(CaliposeError, match="not kept"):
        export_onnx(checkpoint, tmp_path / "b.onnx")
    assert list(tmp_path.iterdir()) == []


def test_int8(checkpoint: Checkpoint, tmp_path: Path) -> None:
    data = write_drawn_data(tmp_path / "people", 4, EASY, (96, 96), seed=0).parent
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
    assert len(Predictor(tmp_path / "int8.onnx").predict(coarse(0, 1, 96, 96)[0]).picture_size) == 2


def test_predicts_without_torch(exported: Path, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    cv2.imwrite(str(picture), np.random.default_rng(3).integers(0, 256, (120, 90, 3), np.uint8))
    code = (
        "import sys\n"
        "for name in ('torch', 'safetensors', 'accelerate', 'faster_coco_eval', 'onnx', 'av'):\n"
        "    sys.modules[name] = None\n"
        "from calipose import Predictor\n"
        f"poses = Predictor.from_onnx({str(exported)!r}).predict({str(picture)!r})\n"
        "print(len(poses), poses.keypoints_img.shape[1:], poses.picture_size)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1)[1].strip() == "(17, 2) (90, 120)"


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
