"""The start of the training of `onepass`: MoveNet MultiPose's knowledge in our network, without any training.

Reads the published .tflite file (Apache-2.0): backbone, pyramid and the hidden layers of its heads become those of
the backbone `movenet-1.5`. In our head some features of each keypoint are set so that the keypoint query starts at the
keypoint that MoveNet regresses from the same cell, and others so that MoveNet's heat map and offset of that keypoint
can be read at the query. The batch norms of the head are set to pass these through, with statistics from images.
The score starts as it does in every training, near 0.

    python tools/default_start.py TFLITE --data DATA --out runs/start.safetensors [--recipe onepass]

Needs the package `tflite` (the file format's reader).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from calipose.config.recipe import load_recipe
from calipose.config.settings import AugmentSettings
from calipose.data.locate import read_data
from calipose.model.backbones.movenet import HEADS, HIDDEN, MoveNetPyramid
from calipose.model.checkpoint import Checkpoint, save_checkpoint
from calipose.model.network import Network
from calipose.skeleton import COCO_17
from calipose.training.loader import training_batches
from calipose.training.order import EpochBatches
from calipose.training.samples import ImageCache, TrainingImages

BATCHES = 40  # for the statistics of the batch norms


class TfliteFile:
    """Convolutions of a .tflite file, by the index of their operator."""

    def __init__(self, path: Path) -> None:
        import tflite

        self.model = tflite.Model.GetRootAs(path.read_bytes(), 0)
        self.graph = self.model.Subgraphs(0)
        self.kinds = {value: name for name, value in vars(tflite.BuiltinOperator).items() if isinstance(value, int)}
        self.half: dict[int, int] = {}  # a dequantised tensor -> the stored one
        self.convolutions: list[Any] = []
        for i in range(self.graph.OperatorsLength()):
            operator = self.graph.Operators(i)
            code = self.model.OperatorCodes(operator.OpcodeIndex())
            kind = self.kinds[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
            if kind == "DEQUANTIZE":
                self.half[operator.Outputs(0)] = operator.Inputs(0)
            elif kind in {"CONV_2D", "DEPTHWISE_CONV_2D"}:
                self.convolutions.append((kind, operator))

    def constant(self, tensor: int) -> np.ndarray:
        """Values of a stored tensor, float32."""
        stored = self.graph.Tensors(self.half.get(tensor, tensor))
        kind = np.float16 if tensor in self.half else np.float32
        values = self.model.Buffers(stored.Buffer()).DataAsNumpy().view(kind)
        return values.reshape(stored.ShapeAsNumpy()).astype(np.float32)

    def convolution(self, index: int) -> tuple[Tensor, Tensor]:
        """Weight (out, in / groups, rows, columns) and bias of convolution number `index`."""
        kind, operator = self.convolutions[index]
        weight, bias = self.constant(operator.Inputs(1)), self.constant(operator.Inputs(2))
        order = (3, 0, 1, 2) if kind == "DEPTHWISE_CONV_2D" else (0, 3, 1, 2)
        return torch.from_numpy(weight.transpose(order).copy()), torch.from_numpy(bias)

    def places_of(self, inputs: int, outputs: int) -> list[int]:
        """Indices of the 1x1 convolutions of that size."""
        sizes = [self.graph.Tensors(operator.Inputs(1)).ShapeAsNumpy().tolist() for _, operator in self.convolutions]
        return [i for i, size in enumerate(sizes) if size == [outputs, 1, 1, inputs]]


def load_movenet(backbone: MoveNetPyramid, file: TfliteFile) -> dict[str, tuple[Tensor, Tensor]]:
    """Fill the backbone; returns MoveNet's last layers by the names of `HEADS`."""
    for norm in (m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.reset_parameters()
        norm.running_var.fill_(1 - norm.eps)  # type: ignore[union-attr, operator]
    ours = [(name, m) for name, m in backbone.body.named_modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in backbone.body.modules() if isinstance(m, nn.BatchNorm2d)]
    # The pyramid's projections stand between MobileNetV2's layers in the file; they are the 1x1 ones of these sizes.
    laterals = [file.places_of(m.in_channels, m.out_channels)[-1] for m in backbone.laterals]  # type: ignore[arg-type]
    body = [i for i in range(len(ours) + len(laterals)) if i not in laterals]
    for index, (name, module), norm in zip(body, ours, norms, strict=True):
        weight, bias = file.convolution(index)
        assert weight.shape == module.weight.shape, (name, weight.shape, module.weight.shape)
        module.weight.data.copy_(weight)
        norm.bias.data.copy_(bias)
    for module, index in zip(backbone.laterals, laterals, strict=True):
        _copy(module, file.convolution(index))
    index = len(body) + len(laterals)
    _copy(backbone.top[0], file.convolution(index))
    _copy(backbone.top[2], file.convolution(index + 1))
    index += 2
    for smooth in backbone.smooths:
        _copy_separable(smooth, file, index)
        index += 2
    lasts = {}
    while index + 2 < len(file.convolutions):
        last = file.convolution(index + 2)
        name = _head_of(len(last[1]), "displacement" in lasts or "offset" in lasts, file, index)
        if name in HEADS:
            _copy_separable(backbone.heads[name], file, index)
            lasts[name] = last
        index += 3
    assert set(lasts) == set(HEADS), lasts.keys()
    return lasts


def _head_of(outputs: int, second: bool, file: TfliteFile, index: int) -> str:
    """Which of MoveNet's heads has so many outputs; of the two with 34 the offsets come first in the file."""
    if outputs == 2 * len(COCO_17):
        return "displacement" if second else "offset"
    return {1: "center", len(COCO_17): "heatmap"}.get(outputs, "box")


def _copy(module: Any, layer: tuple[Tensor, Tensor]) -> None:
    assert module.weight.shape == layer[0].shape, (module.weight.shape, layer[0].shape)
    module.weight.data.copy_(layer[0])
    if module.bias is not None:
        module.bias.data.copy_(layer[1])


def _copy_separable(module: Any, file: TfliteFile, index: int) -> None:
    _copy(module[0], file.convolution(index))
    assert not file.convolution(index)[1].any()
    _copy(module[1], file.convolution(index + 1))


def teach_head(network: Network, lasts: dict[str, tuple[Tensor, Tensor]], batches: list[Tensor]) -> None:
    """Set the first features of each keypoint, and the layer from centre to query, to what MoveNet says.

    Features of keypoint i, each ReLU of +v or -v so that a linear layer has v itself: displacement x, y (features 0 to
    3), heat map's logit (4, 5), offset x, y (6 to 9). MoveNet's numbers are (y, x), in cells, from the cell's corner.
    """
    head, k = network.head, len(COCO_17)
    width = head.method.keypoint_width
    weight = head.keypoint_features.weight.data.view(k, width, -1)
    shift = torch.zeros(k, width)
    columns = {name: slice(HIDDEN * i, HIDDEN * (i + 1)) for i, name in enumerate(HEADS)}
    for i in range(k):
        rows = [
            ("displacement", 2 * i + 1),
            ("displacement", 2 * i),
            ("heatmap", i),
            ("offset", 2 * i + 1),
            ("offset", 2 * i),
        ]
        for j, (name, row) in enumerate(rows[: width // 2]):
            last_weight, last_bias = lasts[name]
            constant = last_bias[row] - (0.0 if name == "heatmap" else 0.5)  # the cell's corner -> its centre
            for sign, feature in ((1.0, 2 * j), (-1.0, 2 * j + 1)):
                weight[i, feature] = 0
                weight[i, feature, columns[name]] = sign * last_weight[row, :, 0, 0]
                shift[i, feature] = sign * constant
        query = head.center_to_query.weight.data.view(k, 2, width)
        query[i] = 0
        query[i, 0, :2] = torch.tensor([1.0, -1.0])
        query[i, 1, 2:4] = torch.tensor([1.0, -1.0])
        if width >= 10:  # the offset that MoveNet sees at the query, the mean over the semantic points
            last = head.query_to_keypoint.weight.data.view(k, -1, width)
            share = 1 / max(1, head.method.semantic_points)
            last[i, 0, 6:8] = share * torch.tensor([1.0, -1.0])
            last[i, 1, 8:10] = share * torch.tensor([1.0, -1.0])
    mean, std = projected_statistics(network, batches)
    norm = head.keypoint_norm
    taught = torch.arange(width) < min(10, width // 2 * 2)
    taught = taught.repeat(k)
    norm.running_mean.copy_(mean)  # type: ignore[union-attr]
    norm.running_var.copy_(std**2)  # type: ignore[union-attr]
    norm.weight.data[taught] = std[taught]
    norm.bias.data[taught] = (mean + shift.flatten())[taught]


@torch.no_grad()
def projected_statistics(network: Network, batches: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each keypoint feature before its batch norm."""
    head = network.eval().head
    captured: list[Tensor] = []
    plain = nn.BatchNorm2d(head.keypoint_norm.num_features)  # in training mode it sees the projection itself
    hook = plain.register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0].double()))
    original, head.keypoint_norm = head.keypoint_norm, plain.train()
    sums = torch.zeros(2, plain.num_features, dtype=torch.float64)
    count = 0
    for images in batches:
        network.encode(images)
        values = captured.pop()
        sums += torch.stack([values.sum((0, 2, 3)), (values**2).sum((0, 2, 3))])
        count += values[:, 0].numel()
    hook.remove()
    head.keypoint_norm = original
    mean = sums[0] / count
    return mean.float(), (sums[1] / count - mean**2).clamp(min=1e-12).sqrt().float()


def main() -> None:
    """Write the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tflite", type=Path)
    parser.add_argument("--data", action="append", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", default="onepass")
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe, arguments.set)
    torch.manual_seed(recipe.seed)
    network = Network(recipe.backbone.name, len(COCO_17), recipe.method)
    assert isinstance(network.backbone, MoveNetPyramid)
    lasts = load_movenet(network.backbone, TfliteFile(arguments.tflite))
    data = read_data(arguments.data)
    images = TrainingImages(data, recipe.size, AugmentSettings(), network.backbone.mean, 0, ImageCache(data))
    order = EpochBatches(np.ones(len(data)), 8, 0, 0)
    batches = [batch.images for batch, _ in zip(training_batches(images, order), range(BATCHES), strict=False)]
    teach_head(network, lasts, batches)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    notes = {"start": "MoveNet MultiPose's layers, untrained by us"}
    save_checkpoint(arguments.out, Checkpoint(recipe, COCO_17, network.state_dict(), notes))
    print(f"{arguments.out}: {sum(p.numel() for p in network.parameters()) / 1e6:.2f} M parameters")


if __name__ == "__main__":
    main()
