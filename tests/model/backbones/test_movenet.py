"""MobileNetV2 with MoveNet's pyramid: shapes, frames, and MoveNet's own numbers from the published file."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from calipose.config.method import Method
from calipose.model.backbones.build import build_backbone
from calipose.model.backbones.movenet import HEADS, HIDDEN, MoveNetPyramid
from calipose.model.network import Network

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))


def test_channels_and_sizes() -> None:
    backbone = build_backbone("movenet-0.35").eval()
    with torch.inference_mode():
        maps = backbone(torch.randn(1, 3, 64, 96))
    assert [tuple(m.shape[1:]) for m in maps] == [(384, 16, 24), (32, 8, 12), (64, 4, 6), (64, 2, 3)]
    assert backbone.channels == (384, 32, 64, 64)


@pytest.fixture(scope="module")
def movenet(shared: Path) -> tuple[Network, dict, Path]:
    pytest.importorskip("tflite", reason="reads the .tflite file: pip install tflite")
    from default_start import TfliteFile, load_movenet

    file = shared / "weights" / "movenet_multipose_fp16.tflite"
    torch.manual_seed(0)
    network = Network("movenet-1.5", 17, Method(keypoint_width=16)).eval()
    assert isinstance(network.backbone, MoveNetPyramid)
    return network, load_movenet(network.backbone, TfliteFile(file)), file


@pytest.mark.photographs
def test_the_published_files_own_poses(movenet: tuple[Network, dict, Path], shared: Path) -> None:
    """Peak of the centre head, displacements there: what the .tflite file's own decoding starts from."""
    pytest.importorskip("ai_edge_litert", reason="runs the .tflite file: pip install ai-edge-litert")
    from ai_edge_litert.interpreter import Interpreter

    from calipose.io.images import read_image

    network, lasts, file = movenet
    images = sorted((shared / "data" / "coco-train" / "images").iterdir())
    interpreter = Interpreter(str(file))
    compared = 0
    for path in images:
        if compared == 3:
            break
        image = read_image(path, ignore_orientation=True)[:256, :256]
        if image.shape != (256, 256, 3):
            continue
        entry = interpreter.get_input_details()[0]
        interpreter.resize_tensor_input(entry["index"], [1, 256, 256, 3])
        interpreter.allocate_tensors()
        interpreter.set_tensor(entry["index"], image[None].astype(entry["dtype"]))
        interpreter.invoke()
        found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
        best = found[found[:, 55].argmax()]
        if best[55] < 0.3:
            continue
        images = torch.from_numpy(image[None]).permute(0, 3, 1, 2).float()
        with torch.inference_mode():
            hidden = network.backbone((images - 127.5) / 127.5)[0]
        maps = {
            name: torch.nn.functional.conv2d(hidden[:, HIDDEN * i : HIDDEN * (i + 1)], *lasts[name])[0]
            for i, name in enumerate(HEADS)
        }
        center = maps["center"][0]
        y, x = divmod(int(center.argmax()), center.shape[1])
        regressed = maps["displacement"][:, y, x].view(17, 2).numpy() + np.array([y, x])
        kept = best[:51].reshape(17, 3)
        sure = kept[:, 2] > 0.4
        # Its decoding moves each joint to the nearest peak of its heat map: near what was regressed.
        assert np.abs(regressed[sure] * 4 / 256 - kept[sure, :2]).mean() < 0.03
        compared += 1
    assert compared == 3


@pytest.mark.photographs
def test_the_queries_start_at_movenets_keypoints(movenet: tuple[Network, dict, Path], shared: Path) -> None:
    from calipose.io.images import read_image
    from default_start import teach_head

    network, lasts, _ = movenet
    paths = sorted((shared / "data" / "coco-train" / "images").iterdir())[:40]
    images = [read_image(path, ignore_orientation=True)[:224, :224] for path in paths]
    images = torch.from_numpy(np.stack([p for p in images if p.shape == (224, 224, 3)][:8]))
    teach_head(network, lasts, [images])
    with torch.inference_mode():
        maps = network.eval().encode(images)
        normalised = (images.permute(0, 3, 1, 2).float() - 127.5) / 127.5
        hidden = network.backbone(normalised)[0][:, HIDDEN * 2 : HIDDEN * 3]
        wanted = torch.nn.functional.conv2d(hidden, *lasts["displacement"]).unflatten(1, (17, 2)).flip(2) - 0.5
    assert (maps.displacement - wanted).abs().max() < 1e-2
