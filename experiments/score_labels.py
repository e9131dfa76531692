"""What the score learns, on photographs: CIR, Gaussian and discrete labels, with and without the quality branch.

Every row starts from the same weights (tools/default_start.py) and takes the same number of steps on the same
images, with MobileNetV2 frozen; only the label of the score map differs (Table 3). A second study gives the first row
a half and a quarter of the images for the same number of steps: the learning curve over data.

    python experiments/score_labels.py --init runs/start.safetensors --images ../shared/data --out runs/score-labels
    python experiments/score_labels.py --out runs/score-labels --images ../shared/data --table \
        --peer "MoveNet=runs/movenet_val.json" --peer "default model=runs/val_onnx.json"

Trained on the files that tools/default_data.py makes (`--annotations`): coco-learn gives 72 % of the draws, lspet
the rest. Evaluated on `coco-val`, which chooses nothing: figures of calibrated scores are cross-fitted. Every finished
training leaves its COCO results and its record, ROW-SEED.json; started again, the script goes on where it stopped.
`--table` computes all tables from the results and writes reliability.png and reliability.csv (see score_tables.py). A
peer is any model's COCO results file for `coco-val`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from calipose.evaluation.ground_truth import read_ground_truth
from calipose.io.atomic import replacing
from score_tables import Scored, print_studies

LABELS = {
    "CIR": "",
    "Gaussian": "method.label=gaussian",
    "Gaussian + quality branch": "method.label=gaussian method.quality_branch=true",
    "discrete": "method.label=discrete",
    "discrete + quality branch": "method.label=discrete method.quality_branch=true",
}
PARTS = {"CIR": "", "CIR, half of the data": "-2", "CIR, a quarter of the data": "-4"}  # ends of the files' names
ROWS = [*LABELS, *list(PARTS)[1:]]
COCO_SHARE = 0.72  # of the draws; lspet's people are one an image, and mostly sportsmen
MIN_SCORE = 0.01  # of candidates: a Gaussian's scores are lower than an OKS, and none shall lose poses by that


def main() -> None:
    """Train every row, or print the table of the trained ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True, help="folder with coco-train, lspet and coco-val")
    parser.add_argument("--annotations", type=Path, default=Path("runs/default-data"))
    parser.add_argument("--init", type=Path, help="what all trainings start from")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--draws", type=int, default=3000, help="images drawn in a training")
    parser.add_argument("--epochs", type=int, default=3, help="parts of a training, after each of which a line is said")
    parser.add_argument("--short-side", type=int, default=320, help="of the evaluation")
    parser.add_argument("--set", nargs="*", default=[], help="further changes of the recipe 'default'")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="only print and plot what is there")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=RESULTS")
    parser.add_argument("--bootstrap", type=int, default=1000)
    options = parser.parse_args()
    if not options.table:
        if options.init is None:
            parser.error("--init is needed to train")
        for seed in options.seeds:
            for row in options.rows:
                if not record_of(options, row, seed).exists():
                    run_one(options, row, seed)
    print_records(options)


def record_of(options: argparse.Namespace, row: str, seed: int) -> Path:
    """Where the record of one training lies; its results lie beside it."""
    path: Path = options.out / f"{''.join(c if c.isalnum() else '-' for c in row)}-{seed}.json"
    return path


def results_of(record: Path) -> Path:
    """COCO results that belong to a record."""
    return record.with_name(f"{record.stem}-results.json")


def run_one(options: argparse.Namespace, row: str, seed: int) -> None:
    """Train, predict `coco-val`, write results and record."""
    import cv2
    import msgspec
    import torch

    from calipose.config.recipe import load_recipe
    from calipose.data.locate import find_data, read_data
    from calipose.evaluation.run import predict_data, save_results
    from calipose.inference.predictor import Predictor
    from calipose.training.loop import Stopped, Trainer

    cv2.setNumThreads(1)
    torch.set_num_threads(options.threads)
    record = record_of(options, row, seed)
    out = record.with_suffix("")
    part = PARTS.get(row, "")
    sources = [
        f"{options.annotations}/coco-learn{part}.json={options.images}/coco-train/images",
        f"{options.annotations}/lspet{part}.json={options.images}/lspet/images",
    ]
    data = read_data(sources)
    counts = np.bincount(data.folder)
    draws = options.draws / options.epochs * np.array([COCO_SHARE, 1 - COCO_SHARE])
    recipe = load_recipe(
        "onepass",
        [
            "size=256", "backbone.freeze=body", f"epochs={options.epochs}", f"seed={seed}",
            f"data.repeat={(draws / counts).tolist()}", *LABELS.get(row, "").split(), *options.set,
        ],
    )  # fmt: skip
    epoch = [0]

    def progress(step: int, total: int, losses: dict[str, float]) -> None:
        if step * options.epochs // total > epoch[0]:
            epoch[0] = step * options.epochs // total
            figures = "  ".join(f"{k} {losses[k]:.3f}" for k in ("score", "quality", "offset", "keypoint", "mean_oks"))
            print(f"{row}, seed {seed}: epoch {epoch[0]}, step {step}  {figures}", flush=True)

    started = (out / "state.safetensors").exists()
    start = out.with_suffix(".start.safetensors")
    initial = None if started else start_of(options.init, recipe, start)
    trainer = Trainer(recipe, data, out, resume=started, initial=initial, progress=progress)
    start.unlink(missing_ok=True)
    try:
        result = trainer.run()
    except Stopped:
        raise SystemExit(f"{row}, seed {seed}: stopped after step {trainer.step}; the script goes on there") from None
    decoding = msgspec.structs.replace(
        recipe.predict, short_side=options.short_side, score_threshold=MIN_SCORE, flip=False
    )
    predictor = Predictor.from_checkpoint(result.last, settings=decoding)
    annotations, images = find_data(options.images / "coco-val")
    truth = read_ground_truth(annotations, predictor.skeleton)
    save_results(results_of(record), predict_data(predictor, truth, images))
    entry = {
        "row": row, "seed": seed, "minutes": result.minutes, "steps": trainer.total_steps, "threads": options.threads,
        "images": counts.tolist(), "short_side": options.short_side, "last_losses": result.history[-1],
    }  # fmt: skip
    with replacing(record) as temporary:
        temporary.write_text(json.dumps(entry, indent=1))
    print(f"{row}, seed {seed}: {result.minutes:.1f} min; {results_of(record)}", flush=True)


def start_of(initial: Path, recipe: Any, path: Path) -> Path:
    """The common start as a checkpoint of this recipe's network: a quality branch is not in it, and starts fresh."""
    import torch

    from calipose.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
    from calipose.model.network import Network

    common = load_checkpoint(initial)
    torch.manual_seed(recipe.seed)
    network = Network(recipe.backbone.name, len(common.skeleton), recipe.method)
    fresh = {name: value for name, value in network.state_dict().items() if name.startswith("head.quality.")}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, Checkpoint(recipe, common.skeleton, common.weights | fresh, {"start": str(initial)}))
    return path


def print_records(options: argparse.Namespace) -> None:
    """Tables and plot of the finished trainings and the peers."""
    annotations = options.images / "coco-val" / "annotations.json"
    scored = []
    for row in options.rows:
        for seed in options.seeds:
            file = record_of(options, row, seed)
            if file.exists():
                record = json.loads(file.read_text())
                scored.append(Scored.from_results(annotations, results_of(file), row, seed, record))
    for peer in options.peer:
        name, _, results = peer.partition("=")
        scored.append(Scored.from_results(annotations, Path(results), name))
    if not scored:
        print("no records yet")
        return
    names = dict.fromkeys(one.name for one in scored)
    studies = {
        "Labels of the score": [name for name in names if name in LABELS or name not in ROWS],
        "Learning curve over data": [name for name in PARTS if name in names],
    }
    print_studies(scored, studies, annotations, options.out, options.bootstrap)


if __name__ == "__main__":
    main()
