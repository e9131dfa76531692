"""Does hotcoco compute COCO's keypoint figures as pycocotools does? Random problems made to be awkward.

    pip install hotcoco pycocotools
    python experiments/hotcoco_ap.py [--problems 300]

Each problem has equal scores, crowds, people without labelled keypoints, more than 20 poses an image, areas exactly on
the borders of COCO's sizes, empty images and image ids in no order. Prints the largest difference of each figure from
pycocotools, of hotcoco and of Calipose, and the first problem in which hotcoco differs.
"""

import argparse
import contextlib
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from calipose.evaluation.ap import evaluate_results
from calipose.skeleton import COCO_17

FIGURES = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
OURS = {"AP": "ap", "AP50": "ap50", "AP75": "ap75", "APM": "ap_medium", "APL": "ap_large", "AR": "ar"}
BORDERS = (32.0**2, 96.0**2)
TOLERANCE = 1e-9


def problem(seed: int, kinds: tuple[str, ...]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Ground truth and results; `kinds` says which of the awkward things are in it."""
    rng = np.random.default_rng(seed)
    images, annotations, results = [], [], []
    for image_id in (rng.permutation(20) * 7 + 1).tolist():
        images.append({"id": image_id, "file_name": f"{image_id}.jpg", "width": 640, "height": 480})
        for _ in range(int(rng.choice([0, 1, 2, 6]))):
            side, corner = float(np.exp(rng.uniform(np.log(10), np.log(300)))), rng.uniform(0, 300, 2)
            points = corner + rng.uniform(0, side, (17, 2))
            seen = rng.choice([0, 1, 2], 17, p=[0.3, 0.2, 0.5])
            crowd = "crowds" in kinds and rng.random() < 0.15
            if crowd or ("unlabelled" in kinds and rng.random() < 0.15):
                seen[:] = 0
            area = float(rng.choice(BORDERS)) if "borders" in kinds and rng.random() < 0.5 else 0.5 * side * side
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image_id, "category_id": 1, "area": area,
                 "iscrowd": int(crowd),
                 "keypoints": np.column_stack([points * (seen > 0)[:, None], seen]).ravel().tolist(),
                 "num_keypoints": int((seen > 0).sum()), "bbox": [*corner.tolist(), side, side]}
            )  # fmt: skip
            for _ in range(rng.integers(0, 4)):
                results.append((image_id, points + rng.normal(0, side * rng.choice([0.01, 0.04, 0.15]), (17, 2))))
        for _ in range(int(rng.choice([0, 3, 25])) if "many" in kinds else int(rng.integers(0, 3))):
            results.append((image_id, rng.uniform(-50, 450, 2) + rng.uniform(0, 80, (17, 2))))
    scores = rng.random(len(results))
    if "ties" in kinds:
        scores = scores.round(1)
    entries = [
        {"image_id": i, "category_id": 1, "score": float(score),
         "keypoints": np.column_stack([points, np.ones(17)]).ravel().tolist()}
        for (i, points), score in zip(results, scores, strict=True)
    ]  # fmt: skip
    category = {"id": 1, "name": "person", "keypoints": list(COCO_17.keypoints), "skeleton": []}
    return {"images": images, "annotations": annotations, "categories": [category]}, entries


def coco_stats(coco: Any, evaluator: Any, folder: Path) -> list[float]:
    """The ten figures of an implementation with pycocotools' interface, of the files in a folder."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco(str(folder / "truth.json"))
        run = evaluator(truth, truth.loadRes(str(folder / "results.json")), "keypoints")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return [float(value) for value in run.stats]


def main() -> None:
    """Compare on all combinations of kinds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=50, help="of each kind")
    options = parser.parse_args()
    every = ("ties", "crowds", "unlabelled", "many", "borders")
    print(
        f"hotcoco {hotcoco.__version__}: largest difference from pycocotools in {options.problems} problems of a kind"
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for kinds in ((), *((kind,) for kind in every), every):
            worst = {"hotcoco": np.zeros(len(FIGURES)), "calipose": np.zeros(len(OURS))}
            differing = 0
            for seed in range(options.problems):
                truth, results = problem(seed, kinds)
                (folder / "truth.json").write_text(json.dumps(truth))
                (folder / "results.json").write_text(json.dumps(results))
                wanted = np.array(coco_stats(COCO, COCOeval, folder))
                gap = np.abs(np.array(coco_stats(hotcoco.COCO, hotcoco.COCOeval, folder)) - wanted)
                differing += bool((gap > TOLERANCE).any())
                worst["hotcoco"] = np.maximum(worst["hotcoco"], gap)
                figures = evaluate_results(truth, results)
                ours = np.nan_to_num(np.array([getattr(figures, name) for name in OURS.values()]), nan=-1)
                own_gap = np.abs(ours - wanted[[FIGURES.index(name) for name in OURS]])
                worst["calipose"] = np.maximum(worst["calipose"], own_gap)
            name = " ".join(kinds) or "plain"
            figure = FIGURES[int(worst["hotcoco"].argmax())]
            print(f"{name}: hotcoco differs in {differing}, by at most {worst['hotcoco'].max():.2g} ({figure})", end="")
            print(f"; calipose by at most {worst['calipose'].max():.2g}")


if __name__ == "__main__":
    main()
