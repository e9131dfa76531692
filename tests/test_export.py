"""One ONNX file gives torch's poses, for every size and batch, and predicts where torch cannot be imported."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from calipose.backends.onnx_backend import OnnxBackend
from calipose.errors import InputError
from calipose.export import DecodedNetwork, _store_as_half, export_onnx
from calipose.geometry import pose_nms
from calipose.model.checkpoint import Checkpoint
from calipose.model.decode import pose_nms_mask
from calipose.model.network import Network
from calipose.predictor import Predictor
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


@pytest.fixture(scope="module")
def exported(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    gaps = export_onnx(checkpoint, path)
    assert gaps["poses"] > 50
    return path


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 96, 160), (2, 320, 64)])
def test_onnx_gives_torchs_poses(checkpoint: Checkpoint, exported: Path, shape: tuple[int, int, int]) -> None:
    random = np.random.default_rng(1)
    b, h, w = shape
    images = random.integers(0, 256, (b, h // 8, w // 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    graph = DecodedNetwork(checkpoint.network(), COCO_17.sigmas, 30, 0.7).eval()
    with torch.no_grad():
        keypoints, scores, valid = (t.numpy() for t in graph(torch.from_numpy(images)))
    got_keypoints, got_scores, _ = OnnxBackend(exported).run(images)
    for i in range(b):
        want, got = keypoints[i][valid[i]], got_keypoints[i][np.isfinite(got_scores[i])]
        assert len(want) == len(got) > 0
        gap = np.abs(want[:, None] - got[None]).max((2, 3)).min(1)
        assert gap.max() < 0.05
        unit = max(1, np.abs(scores[i][valid[i]]).max())
        assert np.abs(scores[i][valid[i]] - got_scores[i][np.isfinite(got_scores[i])]).max() < 1e-4 * unit


def test_half_precision_halves_the_file(checkpoint: Checkpoint, exported: Path, tmp_path: Path) -> None:
    model = onnx.load(exported)
    _store_as_half(model)
    onnx.save(model, tmp_path / "half.onnx")
    assert (tmp_path / "half.onnx").stat().st_size < 0.9 * exported.stat().st_size
    images = np.random.default_rng(1).integers(0, 256, (1, 8, 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    best = [OnnxBackend(path).run(images)[1].max() for path in (exported, tmp_path / "half.onnx")]
    assert abs(best[0] - best[1]) < 0.02 * max(1, abs(best[0]))


def test_a_picture_does_not_depend_on_its_batch(exported: Path) -> None:
    images = np.random.default_rng(2).integers(0, 256, (3, 64, 96, 3), np.uint8)
    backend = OnnxBackend(exported)
    together, alone = backend.run(images), backend.run(images[1:2])
    np.testing.assert_allclose(together[1][1], alone[1][0], rtol=1e-4, atol=1e-5)


def test_predicts_without_torch(exported: Path, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    cv2.imwrite(str(picture), np.random.default_rng(3).integers(0, 256, (120, 90, 3), np.uint8))
    code = (
        "import sys; sys.modules['torch'] = None\n"
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
