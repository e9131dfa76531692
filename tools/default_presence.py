"""The presence map of a trained network, fitted anew by least squares: which cells hold the dense form's peaks?

Training shapes it with the discrete label, which is the same for all cells of a person; what counts is the rank of the
cells that are peaks of the score. The target is the root of the score at the peaks of the dense score map and the cells
around them, 0 elsewhere; the other weights stay.

    python tools/default_presence.py CHECKPOINT --data ANNOTATIONS.json=IMAGES [--images 110] --out FILE [--cells 2048]
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import torch
import torch.nn.functional as F

from calipose.data.locate import read_data
from calipose.io.images import network_input, read_image
from calipose.model.checkpoint import load_checkpoint, save_checkpoint
from calipose.model.decode import PEAK_WINDOW, score_map

LEAST = 0.03  # of a peak's score
ELSEWHERE = 0.05  # weight of the other cells
RIDGE = 1e-3


@torch.no_grad()
def main() -> None:
    """Fit and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--data", action="append", required=True)
    parser.add_argument("--images", type=int, default=170)
    parser.add_argument("--cells", type=int, default=2048)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    checkpoint = load_checkpoint(options.checkpoint)
    width = checkpoint.recipe.method.instance_width
    method = msgspec.structs.replace(checkpoint.recipe.method, sparse_cells=options.cells)
    recipe = msgspec.structs.replace(checkpoint.recipe, method=method)
    unfitted = {"head.presence.weight": torch.zeros(1, width, 1, 1), "head.presence.bias": torch.zeros(1)}
    checkpoint = replace(checkpoint, recipe=recipe, weights=unfitted | checkpoint.weights)
    network = checkpoint.network().eval()
    colour = [round(float(m)) for m in network.mean.flatten()]
    data = read_data(options.data)
    gram = torch.zeros(width + 1, width + 1, dtype=torch.float64)
    moment = torch.zeros(width + 1, dtype=torch.float64)
    for i in np.random.default_rng(0).permutation(len(data))[: options.images]:
        image = read_image(data.image_path(int(i)), ignore_orientation=True)
        pixels = network_input(image, checkpoint.recipe.predict.short_side, colour)[0]
        images = torch.from_numpy(pixels).unsqueeze(0)
        score = score_map(network, network.encode(images)).clamp(0, 1).unsqueeze(1)
        highest = F.max_pool2d(score, PEAK_WINDOW, 1, PEAK_WINDOW // 2)
        peaks = torch.where((score == highest) & (score > LEAST), score, 0.0)
        target = F.max_pool2d(peaks, 3, 1, 1).sqrt().flatten().double()
        instance = network.encode_sparse(images).instance[0].flatten(1).T.double()
        features = torch.cat([instance, torch.ones(len(instance), 1, dtype=torch.float64)], 1)
        weight = torch.where(target > 0, 1.0, ELSEWHERE).unsqueeze(1)
        gram += (features * weight).T @ features
        moment += features.T @ (weight.squeeze(1) * target)
    fitted = torch.linalg.solve(gram + RIDGE * gram.diag().mean() * torch.eye(width + 1), moment).float()
    weights = {
        **checkpoint.weights,
        "head.presence.weight": fitted[:-1].view(1, -1, 1, 1).clone(),
        "head.presence.bias": fitted[-1:].clone(),
    }
    save_checkpoint(options.out, replace(checkpoint, weights=weights))
    print(options.out)


if __name__ == "__main__":
    main()
