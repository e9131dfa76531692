"""The paper's Tables 2 and 3 in small, and the readings it leaves open, under equal budget.

    calipose synthesize runs/hard-train --images 3000 --preset hard --size 256x256 --seed 3
    calipose synthesize runs/hard-val --images 300 --preset hard --size 256x256 --seed 4
    python experiments/ablation.py --recipe synthetic --train runs/hard-train --val runs/hard-val --seeds 0 1 2 \
        --set epochs=1 --out runs/ablation-synthetic [--group tables|open] [--jobs 2]

Every row is trained from the same seeds on the same images for the same number of steps, in a process of its own with
one thread; what has been run already is not run again. Prints mean and range over the seeds of AP, of Spearman's
correlation of score and OKS (all poses with score >= 0.05, and the best 20 an image).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TABLES = {
    "T2.1 gaussian": "method.label=gaussian method.kqe=false method.pose_query=none",
    "T2.2 CIR": "method.kqe=false method.pose_query=none",
    "T2.3 CIR+KQE": "method.pose_query=none",
    "T2.4 gaussian+KQE+PQE (T3)": "method.label=gaussian",
    "T2.5 CIR+KQE+PQE (T3)": "",
    "T3 discrete": "method.label=discrete",
    "T3 discrete+QEB": "method.label=discrete method.quality_branch=true",
    "T3 gaussian+QEB": "method.label=gaussian method.quality_branch=true",
}
OPEN = {
    "defaults": "",
    "score / weights": "loss.score_divisor=weights",
    "offsets / sqrt(area), x 20": "loss.offset_unit=sqrt_area loss.offset_beta=0.1 loss.offset_weight=20",
    "score / weights, offsets / sqrt(area)": (
        "loss.score_divisor=weights loss.offset_unit=sqrt_area loss.offset_beta=0.1"
    ),
    "box centre": "loss.center=box",
    "semantic points read at the centre": "method.semantic_at=center",
}


def run_one(options: argparse.Namespace) -> None:
    """One row and seed, in this process; writes its figures as JSON."""
    import cv2
    import torch

    from calipose.config.recipe import load_recipe
    from calipose.data.locate import find_data, read_data
    from calipose.evaluation.run import evaluate_predictor
    from calipose.inference.predictor import Predictor
    from calipose.training.loop import Trainer

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    recipe = load_recipe(options.recipe, [*options.set, *options.overrides.split(), f"seed={options.seed}"])
    trainer = Trainer(
        recipe, read_data(options.train), options.out, resume=(options.out / "state.safetensors").exists()
    )
    result = trainer.run()
    predictor = Predictor.from_checkpoint(result.last)
    evaluation = evaluate_predictor(predictor, *find_data(options.val))
    entry = {
        "ap": evaluation.ap.ap,
        "ap50": evaluation.ap.ap50,
        "spearman": evaluation.scores["score"]["spearman"],
        "spearman20": evaluation.scores["best"]["spearman"],
        "pearson": evaluation.scores["score"]["pearson"],
        "minutes": result.minutes,
    }
    (options.out / "figures.json").write_text(json.dumps(entry))


def main() -> None:
    """Train every row with every seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--train", action="append", required=True)
    parser.add_argument("--val", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--group", choices=["tables", "open"], default="tables")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--overrides", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        run_one(options)
        return

    rows = TABLES if options.group == "tables" else OPEN
    folders = {
        (row, seed): options.out / f"{''.join(c if c.isalnum() else '-' for c in row)}-{seed}"
        for seed in options.seeds
        for row in rows
    }

    def start(key: tuple[str, int]) -> None:
        row, seed = key
        if (folders[key] / "figures.json").exists():
            return
        folders[key].mkdir(parents=True, exist_ok=True)
        command = [sys.executable, __file__, "--recipe", options.recipe, "--val", options.val, "--row", row]
        command += [word for source in options.train for word in ("--train", source)]
        command += ["--out", str(folders[key]), "--seed", str(seed), f"--overrides={rows[row]}"]
        command += ["--set", *options.set] if options.set else []
        with (folders[key] / "log").open("w") as log:
            subprocess.run(command, stdout=log, stderr=log, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(start, folders))
    print_table(rows, options.seeds, folders)


def print_table(rows: dict[str, str], seeds: list[int], folders: dict[tuple[str, int], Path]) -> None:
    """Markdown: mean, and lowest to highest over the seeds."""
    columns = ("ap", "ap50", "spearman", "spearman20", "pearson", "minutes")
    print("| row | seeds | " + " | ".join(columns) + " |\n|---" * 1 + "|---" * (len(columns) + 1) + "|")
    for row in rows:
        files = [folders[row, seed] / "figures.json" for seed in seeds]
        entries = [json.loads(file.read_text()) for file in files if file.exists()]
        cells = []
        for column in columns:
            values = [entry[column] for entry in entries]
            mean = sum(values) / max(len(values), 1)
            cells.append(f"{mean:.3f} ({min(values):.3f} to {max(values):.3f})" if values else "failed, see its log")
        print(f"| {row} | {len(entries)} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
