"""MobileNetV2: names, widths, TensorFlow's padding, and the weights of MoveNet's backbone."""

from pathlib import Path

import cv2
import pytest
import torch
import torch.nn.functional as F

from calipose.model.backbones.build import build_backbone
from calipose.model.weights import load_weights


# Channels as timm 1.0.31 gives them for mobilenetv2_050, _100 and _140; 1.5 as in the shared weights.
@pytest.mark.parametrize(
    ("width", "channels"),
    [
        ("0.5", (16, 16, 48, 160)),
        ("1.0", (24, 32, 96, 320)),
        ("1.4", (32, 48, 136, 448)),
        ("1.5", (40, 48, 144, 480)),
    ],
)
def test_widths(width: str, channels: tuple[int, ...]) -> None:
    with torch.device("meta"):
        assert build_backbone(f"mobilenetv2-{width}").channels == channels


def test_same_padding() -> None:
    """Strided convolutions read rows 2i, 2i + 1, 2i + 2: none above the image, one below it."""
    backbone = build_backbone("mobilenetv2-0.35").eval()
    stem = backbone.get_submodule("conv_stem")
    weight = stem.weight
    assert isinstance(weight, torch.Tensor)
    image = torch.randn(1, 3, 32, 64)
    seen: list[torch.Tensor] = []
    stem.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.inference_mode():
        backbone(image)
    padded = F.pad(image, (0, 1, 0, 1))
    patch = padded[0, :, 30:33, 62:65]  # the last cell's: it sees one row and column of padding
    assert seen[0].shape[-2:] == (16, 32)
    torch.testing.assert_close(seen[0][0, :, 15, 31], torch.einsum("ocij,cij->o", weight, patch))


@pytest.fixture(scope="module")
def movenet(shared: Path) -> Path:
    """The backbone of MoveNet MultiPose."""
    return shared / "weights" / "mobilenetv2_w150_movenet.safetensors"


def test_movenet_weights(movenet: Path) -> None:
    backbone = build_backbone("mobilenetv2-1.5").eval()
    report = load_weights(backbone, str(movenet))
    assert len(report.loaded) == 255
    assert (report.skipped, report.missing, report.mismatched) == ((), (), ())
    # Folded batch norms: running_var 1 - eps makes the eps 1e-5 of ours an identity.
    bn = backbone.get_submodule("blocks.3.1.bn2").to(torch.float64)
    x = torch.randn(2, 576, 3, 3, dtype=torch.float64)
    assert isinstance(bn, torch.nn.BatchNorm2d)
    torch.testing.assert_close(bn(x), x + bn.bias[:, None, None], rtol=1e-7, atol=1e-7)


# Of 000000006818.jpg (upper left 416 x 320): for each map the standard deviation, and the first four channels
# of its last cell. Computed with ai-edge-litert from movenet_multipose_fp16.tflite, keeping all tensors
# (block_2_add, block_5_add, block_12_add, block_16_project). With the interpreter's own weights our maps are
# within 4e-6 of the maximum; the safetensors file rounds some of them otherwise in half precision's last bit.
MOVENET_MAPS = (
    (5.17754, (2.67726, -0.61155, -0.75361, 4.65795)),
    (2.30294, (0.72900, -1.50267, 7.59002, 1.34500)),
    (5.45562, (-1.83447, 4.43706, 6.56366, 13.66496)),
    (2.06211, (-1.54214, -3.77780, 0.78910, 2.99455)),
)


@pytest.mark.photographs
def test_movenet_values(shared: Path, movenet: Path) -> None:
    """Loading, padding and normalisation together give what MoveNet's interpreter computes."""
    file = shared / "data" / "coco-val" / "images" / "000000006818.jpg"
    if not file.is_file():
        pytest.skip(f"{file.name} is not among the shared photographs")
    bgr = cv2.imread(str(file))
    assert bgr is not None
    rgb = bgr[:320, :416, ::-1].copy()
    backbone = build_backbone("mobilenetv2-1.5").eval()
    load_weights(backbone, str(movenet))
    image = torch.from_numpy(rgb).permute(2, 0, 1).float()[None]
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (backbone.mean, backbone.std))
    with torch.inference_mode():
        maps = backbone((image - mean) / std)
    for x, (deviation, corner) in zip(maps, MOVENET_MAPS, strict=True):
        assert float(x.std()) == pytest.approx(deviation, rel=1e-3)
        torch.testing.assert_close(x[0, :4, -1, -1], torch.tensor(corner), rtol=0, atol=5e-3)
