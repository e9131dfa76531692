"""Export to one ONNX file: pictures in, poses out, decoding and pose NMS inside (needs torch, onnx, onnxscript).

The graph is `calipose.model`'s own code traced once; so what is exported is what was trained. Positions are clamped
before every sampling, hence all padding modes of a grid sampler agree, TensorRT's and the browser's included.
docs/onnx.md says what is in the file.
"""

from __future__ import annotations

import json
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

import calipose
from calipose.backends.onnx_backend import METADATA_KEY, OnnxBackend
from calipose.calibration import TIE_SLOPE, ScoreMap
from calipose.errors import CaliposeError, InputError
from calipose.files import replacing
from calipose.model.checkpoint import Checkpoint
from calipose.model.decode import find_candidates, pose_nms_mask
from calipose.model.fold import folded
from calipose.model.network import Network

if TYPE_CHECKING:
    import onnx

OPSET = 18  # from 20 on TensorRT reads GridSample as nearest
HALF_FROM = 1024  # weights with at least so many numbers are stored in half precision
EXACT = ("center_to", "query_to", "score", "quality")  # layers of the head that give positions and scores: always fp32
PIXEL_TOLERANCE, SCORE_TOLERANCE = 0.05, 1e-4  # the parity that a file must show to be kept


class DecodedNetwork(nn.Module):
    """Network, decoding, pose NMS and calibration as one graph.

    Input: `images` (b, h, w, 3) uint8 RGB, sides multiples of 32. Outputs: `keypoints` (b, n, k, 2) in input pixels,
    best first; `scores` (b, n), calibrated, and `raw_scores` (b, n), both 0 where not valid; `valid` (b, n): False for
    padding and for poses that the NMS drops; with joint scores `keypoint_scores` (b, n, k).
    """

    def __init__(
        self,
        network: Network,
        sigmas: tuple[float, ...],
        most: int,
        nms_threshold: float,
        score_map: ScoreMap | None = None,
    ) -> None:
        super().__init__()
        self.network, self.most, self.nms_threshold = network, most, nms_threshold
        self.register_buffer("sigmas", torch.tensor(sigmas))
        self.sigmas: Tensor
        score_map = score_map or ScoreMap.identity()
        self.calibrated = not score_map.is_identity
        x, y = (torch.tensor(values, dtype=torch.float64) for values in (score_map.x, score_map.y))
        for name, values in {"x": x, "y": y, "slope": y.diff() / x.diff()}.items():
            self.register_buffer(f"map_{name}", values.float())
        self.map_x: Tensor
        self.map_y: Tensor
        self.map_slope: Tensor

    @property
    def outputs(self) -> list[str]:
        """Names of what `forward` returns, in its order."""
        joints = ["keypoint_scores"] if self.network.head.method.joint_scores else []
        return ["keypoints", "scores", "raw_scores", "valid", *joints]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        found = find_candidates(self.network, images, self.most)
        valid = pose_nms_mask(found.keypoints_inp, found.scores, self.sigmas, self.nms_threshold)
        raw = torch.where(valid, found.scores, 0.0)
        scores = torch.where(valid, self._map(raw), 0.0)
        joints = () if found.keypoint_scores is None else (found.keypoint_scores,)
        return found.keypoints_inp, scores, raw, valid, *joints

    def _map(self, raw: Tensor) -> Tensor:
        """`ScoreMap` as a sum of clipped slopes."""
        if not self.calibrated:
            return raw
        x = self.map_x
        beyond = (raw - x[0]).clamp(max=0) + (raw - x[-1]).clamp(min=0)
        steps = torch.minimum((raw.unsqueeze(-1) - x[:-1]).clamp(min=0), x.diff())
        return self.map_y[0] + (steps * self.map_slope).sum(-1) + TIE_SLOPE * beyond


@dataclass(frozen=True)
class Parity:
    """Largest gaps between an ONNX file and torch: `pixels` of keypoints in the input frame, `score`; of how many
    `poses`.
    """

    pixels: float
    score: float
    poses: int

    @property
    def good(self) -> bool:
        """Whether the file may be kept."""
        return self.poses > 0 and self.pixels <= PIXEL_TOLERANCE and self.score <= SCORE_TOLERANCE


def export_onnx(checkpoint: Checkpoint, path: Path, half: bool = False) -> Parity:
    """Write an ONNX file that holds everything needed to predict; returns its parity with torch.

    The file appears under its name only after it has given torch's poses on random pictures of several sizes. `half`
    rounds the features' weights to half precision first and stores them so: half the file, fp32 arithmetic, and the
    parity is that with the rounded network.

    Raises:
        InputError: onnx or onnxscript is not installed, or the file cannot be written.
        CaliposeError: the file does not give torch's poses; nothing is kept.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 (the exporter needs it)
    except ImportError:
        raise InputError("export needs onnx and onnxscript: pip install 'calipose[export]'") from None
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}")
    settings, skeleton = checkpoint.recipe.predict, checkpoint.skeleton
    network = folded(checkpoint.network())
    if half:
        round_to_half(network)
    graph = DecodedNetwork(
        network, skeleton.sigmas, settings.max_poses, settings.nms_threshold, checkpoint.score_map
    ).eval()
    model = _trace(graph)
    header = {
        "version": calipose.__version__,
        "recipe": checkpoint.recipe.name,
        "backbone": checkpoint.recipe.backbone.name,
        "outputs": graph.outputs,
        "skeleton": skeleton.to_dict(),
        # Flipping needs the maps of two pictures, which the file does not give.
        "predict": msgspec.to_builtins(msgspec.structs.replace(settings, flip=False)),
        "pad_colour": [round(float(m)) for m in network.mean.flatten()],
        "normalisation": "inside: images are uint8 RGB",
        "score_map": checkpoint.score_map.to_dict(),
        "weights": "float16, cast to float32" if half else "float32",
        "notes": checkpoint.notes,
    }
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, json.dumps(header)
    if half:
        _store_as_half(model)
    with replacing(path) as temporary:
        onnx.save(model, temporary)
        gaps = parity(graph, OnnxBackend(temporary))
        if not gaps.good:
            raise CaliposeError(f"the exported file differs from torch: {gaps}; it was not kept")
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
    return program.model_proto


@torch.no_grad()
def round_to_half(network: Network) -> None:
    """Round the weights that half precision is meant for: large, and not of the layers of positions and scores."""
    for name, parameter in network.named_parameters():
        layer = name.removeprefix("head.")
        if parameter.numel() >= HALF_FROM and not (name != layer and layer.startswith(EXACT)):
            parameter.copy_(parameter.half().float())


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


def parity(graph: DecodedNetwork, backend: OnnxBackend, pictures: int = 2) -> Parity:
    """Largest gaps between torch and an ONNX file on random pictures of several sizes."""
    random = np.random.default_rng(0)
    gaps = []
    for height, width in ((96, 160), (224, 128), (64, 64)):
        coarse = random.integers(0, 256, (pictures, height // 8, width // 8, 3), np.uint8)
        gaps.append(compare(graph, backend, coarse.repeat(8, 1).repeat(8, 2)))
    return Parity(max(g.pixels for g in gaps), max(g.score for g in gaps), sum(g.poses for g in gaps))


def compare(graph: DecodedNetwork, backend: OnnxBackend, images: np.ndarray) -> Parity:
    """Largest gaps between torch and an ONNX file on `images` (b, h, w, 3).

    Each of torch's poses is paired with the nearest of the file's whose score differs by less than the tolerance. What
    a gap in scores below the tolerance decides is passed over: which of two equals is better, hence kept, and which
    cell of two equals is the peak.
    """
    with torch.no_grad():
        want = dict(zip(graph.outputs, (t.numpy() for t in graph(torch.from_numpy(images))), strict=True))
    got = backend.run(images)
    pixels = score = 0.0
    poses = 0
    for row in range(len(images)):
        valid, found = want["valid"][row], got["valid"][row]
        values = want["raw_scores"][row]
        unit = max(1.0, float(np.abs(values[valid]).max(initial=0)))  # scores beyond 1 are compared relatively
        sure = valid & (values - values[valid].min(initial=np.inf) > SCORE_TOLERANCE * unit)
        for place in np.flatnonzero(sure):
            close = np.flatnonzero(found & (np.abs(got["raw_scores"][row] - values[place]) <= SCORE_TOLERANCE * unit))
            equals = valid & (np.abs(values - values[place]) <= SCORE_TOLERANCE * unit)
            if not len(close) and equals.sum() > 1:
                continue
            poses += 1
            if not len(close):
                return Parity(float("inf"), float("inf"), poses)
            away = np.abs(got["keypoints"][row][close] - want["keypoints"][row][place]).max((1, 2))
            if away.min() > PIXEL_TOLERANCE and equals.sum() > 1:
                continue
            nearest = close[away.argmin()]
            pixels = max(pixels, float(away.min()))
            for name in ("scores", "raw_scores", "keypoint_scores"):
                if name in want:
                    gap = np.abs(got[name][row][nearest] - want[name][row][place]).max()
                    score = max(score, float(gap) / unit)
    return Parity(pixels, score, poses)
