"""How often each command opens the ground truth and the results, and how long it takes.

    python benchmarks/file_reads.py [--images 500] [--poses 20] [--bootstrap 10] [--command evaluate]

Generated data: every image has some people; its poses are people jittered by little or much, and false positives. Each
command runs in a process of its own that counts the opened files (`sys.addaudithook`). Only the command line is used,
so the same script measures another checkout: `PYTHONPATH=/other/src python benchmarks/file_reads.py`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SIZE = (640, 480)  # pixels of an image
PEOPLE = (1, 6)  # in an image
NAMES = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
COUNTED = """
import atexit, collections, json, os, sys
opens = collections.Counter()
def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], str | os.PathLike) and not str(arguments[1] or "r").startswith("w"):
        opens[os.path.basename(os.fspath(arguments[0]))] += 1
sys.addaudithook(watch)
counts = sys.argv.pop(1)
atexit.register(lambda: open(counts, "w").write(json.dumps(opens)))
from calipose.cli import main
sys.argv[0] = "calipose"
main()
"""


def generate(folder: Path, images: int, poses: int, seed: int = 0) -> None:
    """Write truth.json, a.json and b.json, and an image folder, into `folder`."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    plain = cv2.imencode(".png", np.full((SIZE[1], SIZE[0], 3), 127, np.uint8))[1].tobytes()
    (folder / "images" / "plain.png").write_bytes(plain)
    annotations: list[dict[str, Any]] = []
    results: dict[str, list[dict[str, Any]]] = {"a": [], "b": []}
    for image_id in range(1, images + 1):
        people = []
        for _ in range(rng.integers(*PEOPLE)):
            side = rng.uniform(30, 250)
            points = rng.uniform(0, side, (17, 2)) + rng.uniform(0, np.array(SIZE) - 30, 2)
            flags = np.where(rng.random(17) < 0.8, 2, 0)
            flags[0] = 2
            corner = points.min(0)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "iscrowd": 0,
                    "num_keypoints": int((flags > 0).sum()),
                    "area": float(0.53 * side * side),
                    "bbox": [*corner.tolist(), *np.ptp(points, axis=0).tolist()],
                    "keypoints": np.column_stack([points * (flags > 0)[:, None], flags]).ravel().tolist(),
                }
            )
            people.append((points, side))
        for entries in results.values():
            for i in range(poses):
                points, side = people[i % len(people)]
                noise = rng.uniform(0.005, 0.1) if i < 2 * len(people) else 1.0  # the rest is background
                moved = points + rng.normal(0, noise * side, points.shape)
                score = (
                    float(np.clip(1 - 5 * noise + rng.normal(0, 0.1), 0.001, 1)) if noise < 1 else rng.uniform(0, 0.3)
                )
                triples = np.column_stack([moved, rng.uniform(0.1, 1, 17)])
                common = {"image_id": image_id, "category_id": 1, "score": float(score)}
                entries.append(common | {"keypoints": triples.ravel().tolist()})
    listed = [{"id": i, "file_name": "plain.png", "width": SIZE[0], "height": SIZE[1]} for i in range(1, images + 1)]
    categories = [{"id": 1, "name": "person", "keypoints": NAMES}]
    content = {"images": listed, "annotations": annotations, "categories": categories}
    (folder / "truth.json").write_text(json.dumps(content))
    for name, entries in results.items():
        (folder / f"{name}.json").write_text(json.dumps(entries))


def commands(folder: Path, bootstrap: int) -> dict[str, list[str]]:
    """The words of each command."""
    truth, a, b = (str(folder / f"{name}.json") for name in ("truth", "a", "b"))
    data, few = f"{truth}={folder / 'images'}", ["--bootstrap", str(bootstrap)]
    out = folder / "out"
    return {
        "evaluate": ["evaluate", a, "--ground-truth", truth, *few, "--figures", str(out / "figures.json")],
        "calibrate": ["calibrate", a, "--ground-truth", truth, *few, "--out", str(out / "better.json")],
        "compare": ["compare", a, b, "--ground-truth", truth, "--bootstrap", "100"],
        "report": ["report", a, "--data", data, *few, "--out", str(out / "report")],
        "submit": ["submit", a, "--data", truth, "--name", "mine", "--val", "--out", str(out)],
    }


def measure(words: list[str], folder: Path) -> tuple[dict[str, int], float, str]:
    """Opens by file name, seconds, and what was printed."""
    counts = folder / "counts.json"
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", COUNTED, str(counts), *words], capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stdout}{done.stderr}")
    return json.loads(counts.read_text()), seconds, done.stdout


def main() -> None:
    """Run every command and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--poses", type=int, default=20, help="in each image")
    parser.add_argument("--bootstrap", type=int, default=10, help="resamples, which cost time but no reading")
    parser.add_argument("--command", action="append", default=[], help="only these; may be repeated")
    parser.add_argument("--keep", type=Path, help="folder for the data and what the commands write")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        if not (folder / "truth.json").exists():
            generate(folder, options.images, options.poses)
        (folder / "out").mkdir(exist_ok=True)
        size = sum((folder / f"{name}.json").stat().st_size for name in ("truth", "a")) / 1e6
        print(
            f"{options.images} images x {options.poses} poses, {size:.0f} MB; {options.bootstrap} resamples;", end=" "
        )
        print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {datetime.date.today()}\n")
        print("| command | opens of the ground truth | opens of a results file | seconds |")
        print("|---|---|---|---|")
        for name, words in commands(folder, options.bootstrap).items():
            if not options.command or name in options.command:
                opens, seconds, printed = measure(words, folder)
                (folder / "out" / f"{name}.txt").write_text(printed)
                results = max(opens.get("a.json", 0), opens.get("b.json", 0))
                print(f"| {name} | {opens.get('truth.json', 0)} | {results} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
