"""Sixteen photographs learnt by heart: does everything between image and AP fit together?

    python experiments/overfit.py --backbone FILE --out runs/overfit

Takes 4:3 photographs of ../shared/data/coco-train in which every person is labelled, at least 48 px high at the input
and COCO counts them (area); trains the `photo` recipe on them without augmentation; prints AP on the same images and
draws the loss curve. At 256 px such an image becomes 256 x 192 with 32 px above and below, in training and in
prediction alike to the stride, so both see the same thing.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import matplotlib
import numpy as np
import torch

from calipose.config.recipe import load_recipe
from calipose.config.settings import AugmentSettings
from calipose.data.locate import find_data, read_data
from calipose.data.store import KeypointData
from calipose.evaluation.run import evaluate_predictor
from calipose.inference.predictor import Predictor
from calipose.training.loop import Trainer

matplotlib.use("Agg")
from matplotlib import pyplot as plt

SIZE, IMAGES, LEAST_HEIGHT_INP = 256, 16, 48


def choose(data: KeypointData) -> np.ndarray:
    """The first sixteen images that qualify."""
    chosen = []
    for i in range(len(data)):
        width, height = data.sizes[i]
        labels = data.labels(i)
        if width * 3 != height * 4 or not len(labels.area_img) or labels.regions_img or not labels.people_complete:
            continue
        heights = [np.nanmax(o[:, 1]) - np.nanmin(o[:, 1]) for o in labels.outlines_img]
        if min(heights) * SIZE / width >= LEAST_HEIGHT_INP:
            chosen.append(i)
    return np.array(chosen[:IMAGES])


def main() -> None:
    """Train on the same few photographs again and again, and print AP on them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/coco-train")
    parser.add_argument("--backbone", required=True, help="MoveNet's backbone, as recipe photo wants it")
    parser.add_argument("--out", type=Path, default=Path("runs/overfit"))
    parser.add_argument("--epochs", type=int, default=260)
    options = parser.parse_args()

    annotations, images = find_data(options.data)
    everything = read_data([options.data])
    chosen = choose(everything)
    data = everything.subset(chosen)
    overrides = [
        f"size={SIZE}", "batch_size=8", f"epochs={options.epochs}", f"predict.short_side={SIZE * 3 // 4}",
        "optim.ema=0.98", "optim.weight_decay=0.0", "optim.warmup_steps=20", "backbone.lr_factor=0.5",
        f"backbone.weights={options.backbone}",
    ]  # fmt: skip
    recipe = load_recipe("photo", overrides)
    recipe = type(recipe).from_dict({**recipe.to_dict(), "augment": AugmentSettings.none("long")})
    start = time.time()
    trainer = Trainer(recipe, data, options.out)
    result = trainer.run()

    truth = json.loads(annotations.read_text())
    ids = set(data.image_ids.tolist())
    truth["images"] = [i for i in truth["images"] if i["id"] in ids]
    truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] in ids]
    own = options.out / "annotations.json"
    own.write_text(json.dumps(truth))
    evaluation = evaluate_predictor(Predictor.from_checkpoint(result.last), own, images)
    print(evaluation.ap)
    print(f"Pearson correlation of score and OKS {evaluation.scores['score']['pearson']:.3f}")
    print(f"{(time.time() - start) / 60:.1f} minutes, {torch.get_num_threads()} threads, {platform.processor()}")
    draw_curve(trainer.record.history, options.out / "loss.png", evaluation.ap.ap)


def draw_curve(history: list[dict[str, float]], path: Path, ap: float) -> None:
    """Both losses and the mean OKS of Omega's cells over the steps."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    steps = [line["step"] for line in history]
    left.semilogy(steps, [line["offset"] for line in history], label="offset loss (Eq. 6)")
    left.semilogy(steps, [line["score"] for line in history], label="score loss (Eq. 3)")
    left.set(xlabel="step", ylabel="loss")
    left.legend()
    right.plot(steps, [line["mean_oks"] for line in history])
    right.set(
        xlabel="step",
        ylabel="mean OKS of Omega's cells",
        ylim=(0, 1),
        title=f"AP on the 16 images: {ap:.3f}",
    )
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
