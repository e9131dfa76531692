"""Matching and AP at COCO's size, against pycocotools in the same run.

    python benchmarks/matching.py [--images 5000] [--poses 20] [--turns 3] [--layouts FILE.npz]

The people are the annotated ones of `coco-layouts.npz` (COCO train2017 without images); the poses of an image are
its people, jittered by little or much, and people of other images. Both sides start from the same objects in memory,
read files not counted, check or index them, and end with the figures of AP. They take turns, so that a slow moment
hits both; CPU seconds are counted. The six figures of both must agree to 1e-9.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import datetime
import gc
import io
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from calipose.evaluation.ap import evaluate_results
from calipose.evaluation.matching import match_poses
from calipose.skeleton import COCO_17

LAYOUTS = Path(__file__).resolve().parents[2] / "shared" / "data" / "coco-layouts.npz"
FIGURES = ("ap", "ap50", "ap75", "ap_medium", "ap_large", "ar")
UNKNOWN_SIZE = (640.0, 480.0)  # pixels, where the layouts do not know an image's
AREA_OF_BOX = 0.6  # the layouts have no mask; COCO's fill a little more than half of their box

Entries = list[dict[str, Any]]


def drawn_problem(layouts: Path, images: int, poses: int, seed: int = 0) -> tuple[dict[str, Any], Entries]:
    """Ground truth of so many images as COCO's content, and `poses` results for each."""
    data = np.load(layouts)
    rng = np.random.default_rng(seed)
    ids, first = np.unique(data["image_id"], return_index=True)
    chosen = np.sort(rng.choice(len(ids), images, replace=False))
    last = np.append(first[1:], len(data["image_id"]))
    size = np.where(data["size"] > 0, data["size"], UNKNOWN_SIZE)
    points = data["xy"] / 65535 * size[:, None]
    box = data["box"] / 65535 * np.tile(size, 2)  # centre, size
    annotations: Entries = []
    results: Entries = []
    for i in chosen:
        people = np.arange(first[i], last[i])
        for person in people:
            v = data["v"][person]
            corner, extent = box[person, :2] - box[person, 2:] / 2, box[person, 2:]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": int(ids[i]),
                    "category_id": 1,
                    "keypoints": np.column_stack([points[person] * (v > 0)[:, None], v]).ravel().tolist(),
                    "num_keypoints": int((v > 0).sum()),
                    "area": float(extent.prod()) * AREA_OF_BOX,
                    "bbox": [*corner.tolist(), *extent.tolist()],
                    "iscrowd": 0,
                }
            )
        sources = np.concatenate([np.repeat(people, 2), rng.integers(0, len(points), poses)])[:poses]
        spread = np.sqrt(box[sources, 2:].prod(1)) * rng.choice([0.02, 0.05, 0.15], poses)
        moved = points[sources] + rng.normal(0, 1, (poses, 17, 2)) * spread[:, None, None]
        scores = np.clip(rng.normal(1.5, 0.3, poses) - spread / np.sqrt(box[sources, 2:].prod(1)) * 5, 0, None)
        for triple, score in zip(np.pad(moved, ((0, 0), (0, 0), (0, 1)), constant_values=1), scores, strict=True):
            entry = {"image_id": int(ids[i]), "category_id": 1, "keypoints": triple.ravel().tolist()}
            results.append(entry | {"score": float(score)})
    images = [{"id": int(ids[i])} for i in chosen]
    categories = [{"id": 1, "name": "person", "keypoints": list(COCO_17.keypoints)}]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def oracle(truth: dict[str, Any], results: Entries) -> list[float]:
    """What pycocotools says, from objects in memory that it may change."""
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO()
        ground_truth.dataset = truth
        ground_truth.createIndex()
        evaluation = COCOeval(ground_truth, ground_truth.loadRes(results), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(figure) for figure in evaluation.stats[:6]]


def seconds(task: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """CPU seconds that it took, and what came out; rubbish of the turn before is not its own.

    All of it runs in one thread, where CPU seconds are the time that passes on an idle machine.
    """
    gc.collect()
    start = time.process_time()
    result = task(*arguments)
    return time.process_time() - start, result


def machine() -> str:
    """One line that a figure is void without."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    packages = ", ".join(f"{name} {version(name)}" for name in ("calipose", "numpy", "pycocotools"))
    return (
        f"{datetime.date.today()}, {names[0] if names else platform.processor()}, {len(os.sched_getaffinity(0))} cores,"
        f" OMP_NUM_THREADS {os.environ.get('OMP_NUM_THREADS', 'not set')}, load {os.getloadavg()[0]:.1f} before,"
        f" Python {platform.python_version()}, {packages}"
    )


def main() -> None:
    """Print the medians, their ratios and the greatest difference of the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--poses", type=int, default=20, help="of each image")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--layouts", type=Path, default=LAYOUTS)
    options = parser.parse_args()
    print(machine())
    truth, results = drawn_problem(options.layouts, options.images, options.poses)
    print(f"{len(truth['images'])} images, {len(truth['annotations'])} people, {len(results)} poses")

    times: dict[str, list[float]] = {"pycocotools": [], "evaluate_results": [], "match_poses": []}
    for _ in range(options.turns):
        spent, expected = seconds(oracle, *copy.deepcopy((truth, results)))
        times["pycocotools"].append(spent)
        spent, ours = seconds(evaluate_results, truth, results)
        times["evaluate_results"].append(spent)
        spent, _ = seconds(match_poses, truth, results)
        times["match_poses"].append(spent)
    base = statistics.median(times["pycocotools"])
    for name, values in times.items():
        middle = statistics.median(values)
        print(f"{name:<17} {middle:6.2f} s ({min(values):.2f} to {max(values):.2f})  {base / middle:5.2f} x as fast")
    figures = np.array([getattr(ours, name) for name in FIGURES])
    apart = float(np.abs(figures - expected).max())
    print(f"AP {ours.ap:.6f}; the six figures differ by at most {apart:.1e}")
    if not apart <= 1e-9:
        raise SystemExit("the figures are not pycocotools'")


if __name__ == "__main__":
    main()
