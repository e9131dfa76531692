"""An ONNX file whose backbone computes in 8 bits, by ONNX Runtime's own static quantization."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calipose.calibration.maps import Calibration
from calipose.config.stored import renew_stored
from calipose.data.locate import find_data
from calipose.errors import InputError
from calipose.evaluation.ap import AveragePrecision
from calipose.evaluation.ground_truth import GroundTruth, read_ground_truth
from calipose.evaluation.run import evaluate_predictor
from calipose.export.onnx import SCOPES, export_onnx
from calipose.inference.backends.onnx import METADATA_KEY
from calipose.inference.predictor import Predictor
from calipose.io.atomic import replacing
from calipose.io.images import network_input, read_image

if TYPE_CHECKING:
    import onnx

    from calipose.model.checkpoint import Checkpoint

CALIBRATION_IMAGES = 32


def export_int8(checkpoint: Checkpoint, path: Path, data: str) -> tuple[AveragePrecision, AveragePrecision]:
    """Write an ONNX file with the backbone in 8 bits; returns AP of the fp32 file and of this one on `data`.

    Weights are quantized a channel, activations by the mean of their ranges on the first images of `data`. The head,
    which gives positions and scores, stays in fp32. The file is not calibrated.

    Raises:
        InputError: onnx is not installed, or the data set cannot be used.
        CaliposeError: the fp32 file, which is made first, does not give torch's poses.
    """
    import onnx

    annotations, images = find_data(data)
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "fp32.onnx"
        # Scores in 8 bits are others: what was calibrated in fp32 does not hold for them.
        export_onnx(replace(checkpoint, calibration=Calibration()), plain)
        predictor = Predictor.from_onnx(plain)
        truth = read_ground_truth(annotations, predictor.skeleton)
        before = evaluate_predictor(predictor, truth, images).ap
        quantized = Path(folder) / "int8.onnx"
        _quantize(plain, quantized, calibration_inputs(predictor, truth, images))
        after = evaluate_predictor(Predictor.from_onnx(quantized), truth, images).ap
        model = onnx.load(quantized)
        for entry in model.metadata_props:
            if entry.key == METADATA_KEY:
                entry.value = json.dumps({**json.loads(entry.value), "weights": "backbone int8, head float32"})
        with replacing(path) as temporary:
            onnx.save(model, temporary)
    renew_stored(path, Calibration())
    return before, after


def calibration_inputs(predictor: Predictor, truth: GroundTruth, images: Path) -> list[dict[str, Any]]:
    """Network inputs of the first images of a data set.

    Raises:
        InputError: an image has no file name.
    """
    names = list(truth.in_folder(images).require_files().values())
    settings, colour = predictor.settings, predictor.backend.pad_colour
    chosen = [read_image(images / name, ignore_orientation=True) for name in names[:CALIBRATION_IMAGES]]
    inputs = [network_input(image, settings.short_side, colour, settings.max_aspect)[0] for image in chosen]
    return [{"images": pixels[np.newaxis]} for pixels in inputs]


def backbone_convolutions(model: onnx.ModelProto) -> tuple[list[str], list[str]]:
    """Names of the convolutions of the backbone, and of all others, by where the exporter says they come from."""
    inside: list[str] = []
    outside: list[str] = []
    for node in model.graph.node:
        if node.op_type == "Conv":
            scopes = {entry.key: entry.value for entry in node.metadata_props}.get(SCOPES, "")
            (inside if "network.backbone" in scopes else outside).append(node.name)
    return inside, outside


def _quantize(source: Path, target: Path, inputs: list[dict[str, Any]]) -> None:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.waiting = iter(inputs)

        def get_next(self) -> dict[str, Any] | None:
            return next(self.waiting, None)

    inside, _ = backbone_convolutions(onnx.load(source))
    if not inside:
        raise InputError("int8: the exported graph does not say which convolutions are the backbone's")
    quantize_static(
        str(source),
        str(target),
        Reader(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        nodes_to_quantize=inside,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        # The mean of the images' ranges: the widest is set by a few outliers, and leaves few steps to all else.
        extra_options={"CalibMovingAverage": True},
    )
