"""Export to one ONNX file: pictures in, poses out, decoding and pose NMS inside (needs torch, onnx, onnxscript).

The graph is `calipose.model`'s own code traced once; so what is exported is what was trained. Positions are clamped
before every sampling, hence all padding modes of a grid sampler agree, TensorRT's and the browser's included.
"""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

import calipose
from calipose.backends.onnx_backend import METADATA_KEY, OnnxBackend
from calipose.errors import CaliposeError, InputError
from calipose.files import replacing
from calipose.model.checkpoint import Checkpoint
from calipose.model.decode import find_candidates, pose_nms_mask
from calipose.model.network import Network

if TYPE_CHECKING:
    import onnx

OPSET = 18  # from 20 on TensorRT reads GridSample as nearest
HALF_FROM = 1024  # weights with at least so many numbers are stored in half precision
PIXEL_TOLERANCE, SCORE_TOLERANCE = 0.05, 1e-4  # the parity that a file must show to be kept


class DecodedNetwork(nn.Module):
    """Network, decoding and pose NMS as one graph.

    Input: `images` (b, h, w, 3) uint8 RGB, sides multiples of 32. Outputs: `keypoints` (b, n, k, 2) in input pixels,
    `scores` (b, n), best first, `valid` (b, n): False for padding and for poses that the NMS drops (score 0).
    """

    def __init__(self, network: Network, sigmas: tuple[float, ...], most: int, nms_threshold: float) -> None:
        super().__init__()
        self.network, self.most, self.nms_threshold = network, most, nms_threshold
        self.register_buffer("sigmas", torch.tensor(sigmas))
        self.sigmas: Tensor

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See the class."""
        found = find_candidates(self.network, images, self.most)
        valid = pose_nms_mask(found.keypoints_inp, found.scores, self.sigmas, self.nms_threshold)
        return found.keypoints_inp, torch.where(valid, found.scores, 0.0), valid


def export_onnx(checkpoint: Checkpoint, path: Path, half: bool = False) -> dict[str, float]:
    """Write an ONNX file that holds everything needed to predict; returns the largest gaps of its parity check.

    The file appears under its name only after its graph has given torch's poses on random pictures of two sizes. `half`
    stores large weights in half precision: half the file, fp32 arithmetic, poses that differ in the third digit.

    Raises:
        InputError: onnx or onnxscript is not installed.
        CaliposeError: the file does not give torch's poses; nothing is kept.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 (the exporter needs it)
    except ImportError:
        raise InputError("export needs onnx and onnxscript: pip install 'calipose[export]'") from None
    settings, skeleton = checkpoint.recipe.predict, checkpoint.skeleton
    network = checkpoint.network()
    graph = DecodedNetwork(network, skeleton.sigmas, settings.max_poses, settings.nms_threshold).eval()
    model = _trace(graph)
    header = {
        "version": calipose.__version__,
        "skeleton": skeleton.to_dict(),
        "predict": checkpoint.recipe.to_dict()["predict"],
        "pad_colour": [round(float(m)) for m in network.mean.flatten()],
        "notes": checkpoint.notes,
    }
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, json.dumps(header)
    with replacing(path) as temporary:
        onnx.save(model, temporary)
        gaps = parity(graph, OnnxBackend(temporary))
        if gaps["pixels"] > PIXEL_TOLERANCE or gaps["score"] > SCORE_TOLERANCE:
            raise CaliposeError(f"the exported file differs from torch by {gaps}; it was not kept")
        if half:
            _store_as_half(model)
            onnx.save(model, temporary)
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
            output_names=["keypoints", "scores", "valid"],
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def _store_as_half(model: onnx.ModelProto) -> None:
    """Store large float weights in half precision, each with a cast back: half the file, fp32 arithmetic."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < HALF_FROM:
            continue
        name = tensor.name
        half = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), f"{name}.half")
        tensor.CopyFrom(half)
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])


def parity(graph: DecodedNetwork, backend: OnnxBackend, pictures: int = 2) -> dict[str, float]:
    """Largest gaps between torch and an ONNX file on random pictures of two sizes.

    Poses are paired by rank; neighbours in rank whose scores are nearer than the tolerance may stand in another order,
    so each pose is compared with the nearest of those.

    Returns: `pixels` between keypoints (input frame), `score`, and how many `poses` were compared.
    """
    random = np.random.default_rng(0)
    pixels = score = 0.0
    poses = 0
    for height, width in ((96, 160), (224, 128)):
        coarse = random.integers(0, 256, (pictures, height // 8, width // 8, 3), np.uint8)
        images = coarse.repeat(8, 1).repeat(8, 2)
        with torch.no_grad():
            keypoints, scores, valid = (t.numpy() for t in graph(torch.from_numpy(images)))
        unit = max(1.0, float(np.abs(scores[valid]).max(initial=0)))  # scores beyond 1 are compared relatively
        for got_keypoints, got_scores, want_keypoints, want_scores in zip(
            *backend.run(images)[:2], keypoints, np.where(valid, scores, -np.inf), strict=True
        ):
            for point, value in zip(want_keypoints, want_scores, strict=True):
                near = np.abs(got_scores - value) <= SCORE_TOLERANCE * unit
                # Among equals with the last candidate, chance decides who is one.
                if not np.isfinite(value) or value - scores.min() <= SCORE_TOLERANCE * unit:
                    continue
                poses += 1
                if not near.any():
                    return {"pixels": float("inf"), "score": float("inf"), "poses": float(poses)}
                gaps = np.abs(got_keypoints[near] - point).max((1, 2))
                pixels = max(pixels, float(gaps.min()))
                score = max(score, float(np.abs(got_scores[near] - value)[gaps.argmin()]) / unit)
    return {"pixels": pixels, "score": score, "poses": float(poses)}
