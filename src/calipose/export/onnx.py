"""Export to one ONNX file: images in, poses out, decoding and pose NMS inside (needs torch, onnx, onnxscript).

The graph is `calipose.model`'s own code traced once; so what is exported is what was trained. Positions are clamped
before every sampling, hence all padding modes of a grid sampler agree, TensorRT's and the browser's included.
docs/onnx.md says what is in the file.
"""

from __future__ import annotations

import json
import logging
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import torch

from calipose._version import __version__
from calipose.config.stored import renew_stored
from calipose.errors import CaliposeError, InputError, install_hint
from calipose.export.graph import DecodedNetwork
from calipose.export.parity import Parity, measure_parity, measure_rounding
from calipose.inference.backends.onnx import METADATA_KEY, OnnxBackend
from calipose.io.atomic import replacing
from calipose.model.checkpoint import Checkpoint
from calipose.model.fold import folded
from calipose.model.network import Network

if TYPE_CHECKING:
    import onnx

SCOPES = "pkg.torch.onnx.name_scopes"  # where torch's exporter says what part of the network a node comes from
OPSET = 18  # from 20 on TensorRT reads GridSample as nearest
HALF_FROM = 1024  # weights with at least so many numbers are stored in half precision
EXACT = (
    "center_to",
    "query_to",
    "score",
    "quality",
    "presence",
)  # layers of the head that give positions and scores: always fp32
MIN_CELLS = 64  # of the score map of an image of 32 x 32 pixels


def export_onnx(checkpoint: Checkpoint, path: Path, half: bool = False) -> Parity:
    """Write an ONNX file that holds everything needed to predict; returns its parity with torch.

    The file appears under its name only after it has given torch's poses on synthetic images of several sizes. `half`
    rounds the features' weights to half precision first and stores them so: half the file, fp32 arithmetic, and the
    parity is that with the rounded network.

    Raises:
        InputError: onnx or onnxscript is not installed, or the file cannot be written, or the recipe asks for more
            poses an image than the smallest input has cells.
        CaliposeError: the file does not give torch's poses; nothing is kept.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 (the exporter needs it)
    except ImportError:
        raise InputError(f"export needs onnx and onnxscript: {install_hint('export')}") from None
    if path.suffix != ".onnx":
        raise InputError(f"{path}: an exported file ends in .onnx; write {path.stem}.onnx")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}")
    settings, skeleton = checkpoint.recipe.predict, checkpoint.skeleton
    if settings.max_poses > MIN_CELLS:
        raise InputError(f"predict.max_poses {settings.max_poses}: an exported file gives at most {MIN_CELLS} poses")
    network = folded(checkpoint.network())
    if half:
        round_to_half(network)
    graph = DecodedNetwork(
        network, skeleton.sigmas, settings.max_poses, settings.nms_threshold, checkpoint.calibration
    ).eval()
    model = _trace(graph)
    header = {
        "version": __version__,
        "recipe": checkpoint.recipe.name,
        "backbone": checkpoint.recipe.backbone.name,
        "outputs": graph.outputs,
        "skeleton": skeleton.to_dict(),
        # Flipping needs the maps of two images, which the file does not give.
        "predict": msgspec.to_builtins(msgspec.structs.replace(settings, flip=False)),
        "pad_colour": [round(float(m)) for m in network.mean.flatten()],
        "normalisation": "inside: images are uint8 RGB",
        "calibration": checkpoint.calibration.to_dict(),
        "weights": "float16, cast to float32" if half else "float32",
        "notes": checkpoint.notes,
    }
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, json.dumps(header)
    if half:
        _store_as_half(model)
    with replacing(path) as temporary:
        onnx.save(model, temporary)
        backend = OnnxBackend(temporary)
        gaps = measure_parity(graph, backend)
        if not gaps.good:
            raise CaliposeError(f"the exported file differs from torch: {gaps}; it was not kept")
    renew_stored(path, checkpoint.calibration)
    if half:
        graph.network = checkpoint.network()
        gaps = replace(gaps, rounding=measure_rounding(graph, backend))
    return gaps


def _trace(graph: DecodedNetwork) -> onnx.ModelProto:
    """The graph as ONNX, with free batch, height and width (multiples of 32)."""
    batch = torch.export.Dim("batch", min=1, max=1024)
    rows, columns = torch.export.Dim("rows", min=2, max=256), torch.export.Dim("columns", min=2, max=256)
    example = torch.randint(0, 256, (2, 96, 128, 3), dtype=torch.uint8)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes={"images": {0: batch, 1: 32 * rows, 2: 32 * columns}},
            input_names=["images"],
            output_names=graph.outputs,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _tidy(model, graph.max_poses)
    return model


def _tidy(model: onnx.ModelProto, max_poses: int) -> None:
    """Name the free dimensions, and remove the exporter's notes on lines and paths of source code.

    The part of the network that a node belongs to stays.
    """
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    for entry in (*model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output):
        kept = [(e.key, e.value) for e in entry.metadata_props if e.key == SCOPES]
        del entry.metadata_props[:]
        for key, value in kept:
            entry.metadata_props.add(key=key, value=value)
    for name, dim in zip(("batch", "height", "width"), model.graph.input[0].type.tensor_type.shape.dim, strict=False):
        dim.dim_param = name
    for output in model.graph.output:
        output.type.tensor_type.shape.dim[0].dim_param = "batch"
        output.type.tensor_type.shape.dim[1].dim_value = max_poses


@torch.no_grad()
def round_to_half(network: Network) -> None:
    """Round the weights that half precision is meant for: large, and not of the layers of positions and scores."""
    for name, parameter in network.named_parameters():
        if parameter.numel() >= HALF_FROM and is_feature(name):
            parameter.copy_(parameter.half().float())


def is_feature(name: str) -> bool:
    """Whether a network's parameter of that name makes features, and not positions or scores."""
    layer = name.removeprefix("head.")
    return layer == name or not layer.startswith(EXACT)


def _store_as_half(model: onnx.ModelProto) -> None:
    """Store what half precision holds exactly in half precision, each with a cast back to fp32."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < HALF_FROM:
            continue
        values = numpy_helper.to_array(tensor)
        rounded = values.astype(np.float16)
        if not np.array_equal(rounded.astype(np.float32), values):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(rounded, f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])
