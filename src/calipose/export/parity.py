"""Whether an exported file gives torch's poses (needs torch)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from calipose.data.synthetic.scene import HARD, synthesize_scene
from calipose.export.graph import DecodedNetwork
from calipose.geometry import Floats, inp_from_cell, pose_nms
from calipose.inference.backends.onnx import OnnxBackend
from calipose.model.decode import PEAK_WINDOW, score_map

PIXEL_TOLERANCE, SCORE_TOLERANCE = 0.05, 1e-4  # the parity that a file must show to be kept


@dataclass(frozen=True)
class Parity:
    """Largest gaps between an ONNX file and torch.

    Attributes:
        pixels: between keypoints, in the input frame.
        score: between scores, those of keypoints included; relative to the best score where that is beyond 1.
        poses: how many were compared.
        rounding: how far half precision moved the keypoints (pixels) and scores of a pose, the median; None without.
    """

    pixels: float
    score: float
    poses: int
    rounding: tuple[float, float] | None = None

    @property
    def good(self) -> bool:
        """Whether the file may be kept."""
        return self.poses > 0 and self.pixels <= PIXEL_TOLERANCE and self.score <= SCORE_TOLERANCE


def synthetic_batches(images: int = 2) -> list[NDArray[np.uint8]]:
    """Batches (b, h, w, 3) of synthetic people, of several sizes."""
    random = np.random.default_rng(0)
    sizes = ((160, 96), (128, 224), (64, 64))
    return [np.stack([synthesize_scene(random, size, HARD).image for _ in range(images)]) for size in sizes]


def measure_parity(graph: DecodedNetwork, backend: OnnxBackend) -> Parity:
    """Largest gaps between torch and an ONNX file on synthetic images of several sizes."""
    gaps = [compare(graph, backend, images) for images in synthetic_batches()]
    return Parity(
        float(np.max([g.pixels for g in gaps])), float(np.max([g.score for g in gaps])), sum(g.poses for g in gaps)
    )


@torch.no_grad()
def compare(graph: DecodedNetwork, backend: OnnxBackend, images: NDArray[np.uint8]) -> Parity:
    """Largest gaps between torch and an ONNX file on `images` (b, h, w, 3).

    Each candidate of the file is paired with the nearest in keypoints of torch's possible ones, and each of torch's
    sure ones with the nearest of the file's. Where scores differ by less than the tolerance, rounding may decide which
    of two cells is the peak: both are possible, neither is sure. What pose NMS keeps of the file's candidates must be
    what the predictor keeps, unless an OKS is as near to the threshold.
    """
    found = backend.run(images)
    pixels, scores = [0.0], [0.0]
    poses = 0
    for row, image in enumerate(images):
        keypoints, raw, raw_keypoints, sure = _possible(graph, image)
        real = found["raw_scores"][row] > -np.inf
        got = {name: values[row][real] for name, values in found.items()}
        if not len(raw) or not real.any() or not _same_nms(graph, got):
            return Parity(float("inf"), float("inf"), poses)
        away = np.abs(got["keypoints"][:, None] - keypoints).max((2, 3))  # (the file's, torch's)
        nearest = away.argmin(1)
        unit = max(1.0, float(np.abs(raw).max()))
        last = got["raw_scores"].min() if len(nearest) == graph.max_poses else -np.inf  # worse ones had no place
        wanted = sure & (raw > last + SCORE_TOLERANCE * unit)
        pixels += [away.min(1).max(), away.min(0)[wanted].max(initial=0)]
        mapped = np.where(got["valid"], graph.calibration.score(got["raw_scores"]), 0)
        scores += [np.abs(got["raw_scores"] - raw[nearest]).max() / unit, np.abs(got["scores"] - mapped).max() / unit]
        if raw_keypoints is not None:
            got_raw, calibration = got["raw_keypoint_scores"], graph.calibration
            scores.append(np.abs(got_raw - raw_keypoints[nearest]).max())
            scores.append(np.abs(got["keypoint_scores"] - calibration.calibrate_keypoints(got_raw)).max())
        poses += len(nearest)
    return Parity(float(np.max(pixels)), float(np.max(scores)), poses)  # not a number stays so, and is not good


def _possible(
    graph: DecodedNetwork, image: NDArray[np.uint8]
) -> tuple[Floats, Floats, Floats | None, NDArray[np.bool_]]:
    """Torch's poses at every cell of an image (h, w, 3) that is a peak but for rounding.

    Returns:
        keypoints_inp (m, k, 2), raw scores (m,), raw keypoint scores (m, k) or None, and which of them rounding cannot
        undo.
    """
    maps = graph.network.encode(torch.from_numpy(image).unsqueeze(0))
    score = score_map(graph.network, maps)[0]
    tolerance = SCORE_TOLERANCE * max(1.0, float(score.abs().max()))
    there = sure_there = torch.ones_like(score, dtype=torch.bool)
    if number := graph.network.head.method.sparse_cells:
        assert maps.presence is not None
        presence = maps.presence[0]
        least = presence.flatten().topk(min(number, presence.numel())).values[-1]
        there, sure_there = presence >= least - tolerance, presence > least + tolerance
        if number >= presence.numel():
            sure_there = there
    # A peak that rounding cannot undo is above all that may be there; a possible one is not below what surely is.
    highest, second = _best_two(torch.where(there, score, -torch.inf))
    y, x = (there & (score >= _best_two(torch.where(sure_there, score, -torch.inf))[0] - tolerance)).nonzero(
        as_tuple=True
    )
    sure = sure_there & (score == highest) & (highest - second > tolerance)
    cells = torch.stack([x, y], -1)
    moves, joints = graph.network.head.keypoints_at(maps, cells.unsqueeze(0))
    keypoints = inp_from_cell((cells + moves[0]).transpose(0, 1).numpy())
    values = score[y, x].double().numpy()
    raw_keypoints = None if joints is None else joints[0].T.double().numpy()
    return keypoints, values, raw_keypoints, sure[y, x].numpy()


def _best_two(score: Tensor) -> tuple[Tensor, Tensor]:
    """The two highest values (h, w) of each cell's neighbourhood in a map (h, w)."""
    around = F.pad(score[None, None], [PEAK_WINDOW // 2] * 4, value=-torch.inf)
    best = F.unfold(around, PEAK_WINDOW)[0].topk(2, dim=0).values.view(2, *score.shape)
    return best[0], best[1]


def _same_nms(graph: DecodedNetwork, found: dict[str, NDArray[Any]]) -> bool:
    """Whether the graph keeps the candidates that the predictor keeps; passed over where rounding may decide."""
    sigmas = graph.sigmas.double().numpy()
    near = [graph.nms_threshold + gap for gap in (0, -SCORE_TOLERANCE, SCORE_TOLERANCE)]
    kept = [set(pose_nms(found["keypoints"], found["raw_scores"], sigmas, threshold).tolist()) for threshold in near]
    return kept[0] != kept[1] or kept[0] != kept[2] or kept[0] == set(np.flatnonzero(found["valid"]).tolist())


@torch.no_grad()
def measure_rounding(graph: DecodedNetwork, backend: OnnxBackend) -> tuple[float, float]:
    """How far the file's poses are from those of torch's network as it was trained: pixels and score, medians."""
    moved = []
    for images in synthetic_batches():
        want = dict(zip(graph.outputs, (t.numpy() for t in graph(torch.from_numpy(images))), strict=True))
        got = backend.run(images)
        for row in range(len(images)):
            ours, theirs = got["valid"][row], want["valid"][row]
            away = np.abs(got["keypoints"][row][ours][:, None] - want["keypoints"][row][theirs]).max((2, 3))
            scores = np.abs(got["scores"][row][ours] - want["scores"][row][theirs][away.argmin(1)])
            moved.append(np.stack([away.min(1), scores]))
    pixels, score = np.median(np.concatenate(moved, 1), 1)
    return float(pixels), float(score)
