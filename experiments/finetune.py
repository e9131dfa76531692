"""Does it help to start from the default model where the skeleton is another one?

    python experiments/finetune.py --backbone ../shared/weights/mobilenetv2_w150_movenet.safetensors \
        --out runs/finetune [--kinds figure animal] [--seeds 0 1] [--starts 0 1 2 3 4 5] [--set epochs=20]

Draws 200 images to learn from and 100 others of figures whose skeletons are not COCO's (`other_skeletons.py`), and
trains the same network with the same images, steps and seeds from different starts, each by one `calipose train`, two
at a time with one thread each. What has been run already is not run again. Prints AP on the 100 images (95 %
bootstrap over images) and the paired difference to the first start, and draws predictions of all starts beside the
truth into OUT/KIND.png.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

import calipose
from calipose.data.locate import find_data, read_data
from calipose.draw import contact_sheet, draw_poses, save_image
from calipose.evaluation.ap import paired_difference
from calipose.evaluation.run import evaluate_predictor, save_results
from calipose.evaluation.scores import score_figures
from calipose.inference.predictor import Predictor
from calipose.io.images import read_image
from calipose.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from calipose.model.network import Network
from calipose.poses import Poses
from calipose.training.transfer import keypoint_axis, weights_for
from other_skeletons import SKELETONS, write_data

LEARN, UNSEEN, SIDE = 200, 100, 256
DEFAULT = Path(calipose.__file__).parent / "weights" / "onepass.safetensors"
SMALL = ["size=192", "epochs=20", "evaluate_every=20", "predict.short_side=192"]
SHOWN_SCORE = 0.3


@dataclass(frozen=True)
class Start:
    """How a training starts: what is said on the command line beside data, recipe and seed."""

    name: str
    arguments: tuple[str, ...]


def starts(out: Path, kind: str, backbone: Path) -> list[Start]:
    """The default model first; each start with fresh layers also with settings that suit fresh layers better."""
    fast = ("--set", "optim.lr=3e-3", "--set", "backbone.lr_factor=0.3")
    bare = ("--set", f"backbone.weights={bare_backbone(out, backbone)}")
    theirs = ("--set", f"backbone.weights={DEFAULT}")
    return [
        Start("default", ("--init", "default")),
        Start("default, new keypoints fresh", ("--init", str(fresh_keypoints(out, kind)))),
        Start("default's backbone, fresh head", theirs),
        Start("default's backbone, fresh head, lr 3e-3", theirs + fast),
        Start("bare backbone", bare),
        Start("bare backbone, lr 3e-3", bare + fast),
    ]


def bare_backbone(out: Path, backbone: Path) -> Path:
    """MobileNetV2's pose-trained weights under the names of the network with the pyramid, which stays fresh."""
    path = out / "bare.safetensors"
    if not path.exists():
        save_file({f"body.{name}": value for name, value in load_file(backbone).items()}, path)
    return path


def fresh_keypoints(out: Path, kind: str) -> Path:
    """The default model for another skeleton whose new keypoints have fresh layers, instead of the mean."""
    path, skeleton = out / f"{kind}-fresh.safetensors", SKELETONS[kind]
    if path.exists():
        return path
    default = load_checkpoint("default")
    recipe = default.recipe
    torch.manual_seed(0)
    fresh = Network(recipe.backbone.name, len(skeleton), recipe.method).state_dict()
    weights = weights_for(default, skeleton)
    for name, value in weights.items():
        axis = keypoint_axis(name, recipe.method)
        if axis is not None:
            blocks, new = (torch.unflatten(v.float(), axis, (len(skeleton), -1)) for v in (value, fresh[name]))
            chosen = [
                (blocks if keypoint in default.skeleton.keypoints else new).select(axis, i)
                for i, keypoint in enumerate(skeleton.keypoints)
            ]
            weights[name] = torch.stack(chosen, axis).flatten(axis, axis + 1)
    save_checkpoint(path, Checkpoint(recipe, skeleton, weights))
    return path


def folder_of(out: Path, kind: str, start: Start, seed: int) -> Path:
    """The run folder of one training."""
    return out / kind / f"{''.join(c if c.isalnum() else '-' for c in start.name)}-{seed}"


def train(out: Path, kind: str, start: Start, seed: int, changes: list[str]) -> None:
    """One training by the command line; writes its results on the unseen images."""
    folder, data = folder_of(out, kind, start, seed), out / f"{kind}-learn"
    if (folder / "results.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    resume = ["--resume"] if (folder / "state.safetensors").exists() else []
    command = [sys.executable, "-m", "calipose", "train", "finetune", "--data", str(data), "--out", str(folder)]
    command += ["--skeleton", str(data / "skeleton.json"), *start.arguments, *resume]
    command += [word for change in [*SMALL, *changes, f"seed={seed}"] for word in ("--set", change)]
    with (folder / "log").open("a") as log:
        subprocess.run(command, stdout=log, stderr=log, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    torch.set_num_threads(1)
    unseen = find_data(out / f"{kind}-unseen")
    evaluation = evaluate_predictor(Predictor(folder), *unseen, bootstrap=1000)
    entry = evaluation.ap.to_dict() | {"spearman": score_figures(evaluation.matches[evaluation.shown])["spearman"]}
    (folder / "figures.json").write_text(json.dumps(entry))
    save_results(folder / "results.json", evaluation.entries)


def print_table(out: Path, kind: str, rows: list[Start], seeds: list[int]) -> None:
    """Markdown: each seed's AP with its interval, and default's lead over it."""
    truth = out / f"{kind}-unseen" / "annotations.json"
    print(
        f"\n| {kind}: start | seed | AP (95 %) | AP50 | Spearman | OKS of the last steps "
        f"| lead of '{rows[0].name}' (95 %) | minutes |"
    )
    print("|---" * 8 + "|")
    for start in rows:
        for seed in seeds:
            folder, first = folder_of(out, kind, start, seed), folder_of(out, kind, rows[0], seed)
            if not (folder / "results.json").exists() or not (first / "results.json").exists():
                continue
            f = json.loads((folder / "figures.json").read_text())
            history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
            oks = [line["mean_oks"] for line in history if "mean_oks" in line][-1]
            minutes = load_checkpoint(folder / "last.safetensors").notes["minutes"]
            lead = "-"
            if start != rows[0]:
                results = (json.loads((path / "results.json").read_text()) for path in (first, folder))
                d = paired_difference(truth, *results, SKELETONS[kind])
                lead = f"{d.difference:+.3f} ({d.interval[0]:+.3f} to {d.interval[1]:+.3f})"
            low, high = f["interval"]
            print(
                f"| {start.name} | {seed} | {f['ap']:.3f} ({low:.3f} to {high:.3f}) | {f['ap50']:.3f} "
                f"| {f['spearman'] or 0:.3f} | {oks:.2f} | {lead} | {minutes:.1f} |"
            )


def draw_sheet(out: Path, kind: str, rows: list[Start], seed: int, images: int = 8) -> None:
    """Unseen images: the truth, then the poses of each start's network."""
    unseen = out / f"{kind}-unseen"
    data = read_data([unseen], SKELETONS[kind])
    files = [data.image_path(i) for i in range(images)]
    shown, labels = [], []
    predictors = {s.name: Predictor(folder) for s in rows if (folder := folder_of(out, kind, s, seed)).exists()}
    for i, file in enumerate(files):
        image, people = read_image(file), data.person_start[i : i + 2]
        truth = data.keypoints_img[people[0] : people[1]].astype(np.float64)
        seen = (data.visibility[people[0] : people[1]] > 0).astype(np.float64)
        size = (image.shape[1], image.shape[0])
        true = Poses(truth, np.ones(len(truth)), size, seen, SKELETONS[kind])
        shown.append(draw_poses(image, true, min_keypoint_score=0.5, show_scores=False))
        shown += [draw_poses(image, p.predict(image), min_score=SHOWN_SCORE) for p in predictors.values()]
        labels += ["truth", *predictors]
    save_image(out / f"{kind}.png", contact_sheet(shown, 1 + len(predictors), (SIDE, SIDE), labels))


def main() -> None:
    """Draw, train, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kinds", nargs="+", choices=list(SKELETONS), default=list(SKELETONS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--starts", type=int, nargs="+", help="only these rows, counted from 0")
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    for kind in options.kinds:
        for name, images, seed in ((f"{kind}-learn", LEARN, 1), (f"{kind}-unseen", UNSEEN, 2)):
            if not (options.out / name).exists():
                write_data(options.out / name, kind, images, SIDE, seed)
        rows = starts(options.out, kind, options.backbone)
        rows = rows if options.starts is None else [rows[i] for i in options.starts]
        with ThreadPoolExecutor(options.jobs) as pool:
            jobs = [pool.submit(train, options.out, kind, s, seed, options.set) for seed in options.seeds for s in rows]
            for job in jobs:
                job.result()
        print_table(options.out, kind, rows, options.seeds)
        draw_sheet(options.out, kind, rows, options.seeds[0])


if __name__ == "__main__":
    main()
