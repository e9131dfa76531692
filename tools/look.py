"""Draws what the network predicts and learns: loss terms, OKS of Omega's cells, score map, offsets.

    python tools/look.py RUN --data ../shared/data/coco-train --images 3 --out runs/look

For each image four panels: the score map, with its peaks; the label (CIR: the OKS of the pose that each of Omega's
cells predicts); the weighted squared error of Eq. 3 cell by cell; and the offsets, as lines from the best cell of each
person over the keypoint queries (yellow circles) to the keypoints.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch

from calipose.config.settings import AugmentSettings
from calipose.data.augment import augment
from calipose.data.locate import read_data
from calipose.draw import contact_sheet, heat_overlay, save_image
from calipose.geometry import inp_from_cell
from calipose.model.checkpoint import load_checkpoint
from calipose.training.loader import collate
from calipose.training.losses import all_losses
from calipose.training.samples import read_stored
from calipose.training.targets import make_targets, oks_of_cells, scatter_cells, score_label


def main() -> None:
    """Write one sheet of four panels an image."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    checkpoint = load_checkpoint(options.checkpoint)
    network, recipe = checkpoint.network(), checkpoint.recipe
    data = read_data([options.data])
    people = np.diff(data.person_start)
    sigmas = torch.tensor(checkpoint.skeleton.sigmas)
    options.out.mkdir(parents=True, exist_ok=True)
    for i in np.flatnonzero(people > 0)[options.first : options.first + options.images]:
        sample = augment(
            read_stored(data, i), data.labels(i), recipe.size, AugmentSettings.none("long"),
            np.random.default_rng(0), network.backbone.mean, checkpoint.skeleton,
        )  # fmt: skip
        batch = collate([sample])
        targets = make_targets(batch.keypoints_inp, batch.labelled, batch.area_inp, batch.ignore_cell, recipe.loss)
        with torch.no_grad():
            output = network(batch.images, targets.cells)
            losses = all_losses(output, targets, recipe.method, recipe.loss, sigmas)
            queries = network.head.queries(output.maps, targets.cells)
        cell_oks = oks_of_cells(targets, output.displacements, sigmas)
        label = score_label(targets, cell_oks, recipe.method.label, recipe.loss.radius)[0]
        score = output.maps.score[0]
        weight = torch.where(targets.owner[0] >= 0, 1.0, recipe.loss.background_weight) * ~targets.ignore[0]
        error = weight * (score - label) ** 2
        panels = [
            heat_overlay(sample.image, score.numpy(), 0, 1),
            heat_overlay(sample.image, scatter_cells(targets, cell_oks)[0].numpy(), 0, 1),
            heat_overlay(sample.image, error.numpy(), 0, max(float(error.max()), 1e-6)),
            offsets(sample.image, targets, output.displacements[0], queries[0], cell_oks[0]),
        ]
        named = [
            f"score, max {score.max():.2f}",
            f"OKS of Omega's cells, mean {losses.mean_oks:.2f}",
            f"score loss {losses.score:.4f}, worst cell {error.max():.2f}",
            f"offsets, loss {losses.offset:.2f} cells",
        ]
        path = options.out / f"{data.image_path(i).stem}.png"
        save_image(path, contact_sheet(panels, 2, (512, 512), named))
        print(path, {k: round(v, 4) for k, v in losses.to_dict().items()})


def offsets(
    image: np.ndarray, targets: object, moves: torch.Tensor, queries: torch.Tensor, oks: torch.Tensor
) -> np.ndarray:
    """Offsets of each person's best cell: cell -> query (yellow) -> keypoint (green); truth in white."""
    drawn = image.copy()
    person = targets.person_of_cell()[0]
    for p in range(targets.labelled.shape[1]):
        mine = torch.nonzero((person == p) & targets.inside[0]).flatten()
        if not len(mine):
            continue
        best = mine[oks[mine].argmax()]
        cell = targets.cells[0, best].double().numpy()
        points = np.stack(
            [np.broadcast_to(cell, (len(moves), 2)), queries[:, best].numpy(), cell + moves[:, best].numpy()],
            1,
        )
        for line, truth, seen in zip(
            inp_from_cell(points),
            inp_from_cell(targets.keypoints[0, p].numpy()),
            targets.labelled[0, p],
            strict=True,
        ):
            a, b, c = ([round(v * 16) for v in point] for point in line)
            cv2.line(drawn, a, b, (120, 120, 255), 1, cv2.LINE_AA, 4)
            cv2.line(drawn, b, c, (90, 230, 90), 1, cv2.LINE_AA, 4)
            cv2.circle(drawn, b, 48, (255, 220, 0), 1, cv2.LINE_AA, 4)
            cv2.circle(drawn, c, 32, (90, 230, 90), -1, cv2.LINE_AA, 4)
            if seen:
                cv2.circle(drawn, [round(v * 16) for v in truth], 64, (255, 255, 255), 1, cv2.LINE_AA, 4)
    return drawn


if __name__ == "__main__":
    main()
