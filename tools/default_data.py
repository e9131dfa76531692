"""The data that the default model learns from: LSP Extended with its teacher's view, and COCO split in two.

LSP Extended labels one person's 12 body joints an image. MoveNet MultiPose (the teacher) has looked at the same
images: its faces are added to the labelled person where it sees the same pose; the other people it is sure of become
people, those it is not sure of are ignored; left and right are exchanged where the teacher sees the same pose the other
way round. A tenth of COCO's images is kept apart, to choose with.

    python tools/default_data.py ../shared/data --out runs/default-data
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from calipose.geometry import oks
from calipose.skeleton import COCO_17

AREA_OF_BOX = 0.53  # of a person's area (COCO's segmentation) in the box around the joints
SURE, UNSURE = 0.3, 0.1  # the teacher's scores
JOINT = 0.3  # the teacher's confidence from which a joint counts as labelled
SAME, OTHER = 0.5, 0.3  # OKS from which two poses are of one person; below which they are not
FACE = slice(0, 5)


def box_of(points: np.ndarray) -> list[float]:
    """Left, top, width, height of points (n, 2)."""
    low, high = points.min(0), points.max(0)
    return [round(float(v), 2) for v in (*low, *(high - low))]


def area_of(points: np.ndarray) -> float:
    """Area of the person with these joints (n, 2), estimated."""
    _, _, width, height = box_of(points)
    return AREA_OF_BOX * width * height


def merge(annotation: dict[str, Any], seen: list[dict[str, Any]], counts: Counter[str]) -> list[dict[str, Any]]:
    """Annotations of one image: the labelled person with the teacher's face, the teacher's other people."""
    sigmas = COCO_17.sigmas_array
    truth = np.array(annotation["keypoints"]).reshape(-1, 3)
    labelled = truth[:, 2] > 0
    poses = [np.array(pose["keypoints"]).reshape(-1, 3) for pose in seen]
    mirrored = COCO_17.flip_index

    def likeness(pose: np.ndarray, order: np.ndarray | slice = slice(None)) -> float:
        return float(oks(pose[order, :2], truth[:, :2], labelled, annotation["area"], sigmas))

    same = [likeness(pose) for pose in poses]
    other_way = [likeness(pose, mirrored) for pose in poses]
    best = int(np.argmax(np.maximum(same, other_way))) if poses else -1
    if poses and other_way[best] > max(SAME, same[best] + 0.2):
        truth, counts["sides exchanged"] = truth[mirrored], counts["sides exchanged"] + 1
        labelled = truth[:, 2] > 0
        same[best] = other_way[best]
    if poses and same[best] >= SAME:
        face = poses[best][FACE]
        truth[FACE] = np.where(face[:, 2:] >= JOINT, np.c_[face[:, :2], np.full(len(face), 2)], 0)
        counts["faces"] += 1
    merged = [{**annotation, "keypoints": truth.flatten().tolist(), "num_keypoints": int((truth[:, 2] > 0).sum())}]
    for i, (pose, entry) in enumerate(zip(poses, seen, strict=True)):
        if i == best or max(same[i], other_way[i]) >= OTHER or entry["score"] < UNSURE:
            continue
        sure = pose[:, 2] >= JOINT
        keep = entry["score"] >= SURE and sure.sum() >= 5
        counts["people added" if keep else "people ignored"] += 1
        points = pose[sure, :2] if keep else pose[:, :2]
        person = {
            "image_id": annotation["image_id"], "category_id": 1, "iscrowd": 0, "bbox": box_of(points),
            "area": area_of(points), "num_keypoints": int(sure.sum()) if keep else 0,
        }  # fmt: skip
        joints = np.where(sure[:, None], np.c_[pose[:, :2], np.full(len(pose), 2)], 0) if keep else np.zeros((17, 3))
        merged.append({**person, "keypoints": joints.flatten().tolist()})
    return merged


def merged_lspet(folder: Path, counts: Counter[str]) -> dict[str, Any]:
    """LSP Extended's annotation file, merged."""
    content = json.loads((folder / "annotations.json").read_text())
    seen: dict[int, list[dict[str, Any]]] = {}
    for pose in json.loads((folder / "teacher.json").read_text()):
        seen.setdefault(pose["image_id"], []).append(pose)
    merged = [a for one in content["annotations"] for a in merge(one, seen.get(one["image_id"], []), counts)]
    return {**content, "annotations": [{**a, "id": i} for i, a in enumerate(merged, 1)]}


def subset(content: dict[str, Any], image_ids: set[int]) -> dict[str, Any]:
    """The chosen images of an annotation file."""
    return {
        **content,
        "images": [image for image in content["images"] if image["id"] in image_ids],
        "annotations": [a for a in content["annotations"] if a["image_id"] in image_ids],
    }


def main() -> None:
    """Write the annotation files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with coco-train and lspet")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    files = {"lspet": merged_lspet(arguments.data / "lspet", counts)}
    coco = json.loads((arguments.data / "coco-train" / "annotations.json").read_text())
    ids = np.random.default_rng(0).permutation([image["id"] for image in coco["images"]])
    tenth = len(ids) // 10
    files["coco-choose"] = subset(coco, {int(i) for i in ids[:tenth]})
    files["coco-learn"] = subset(coco, {int(i) for i in ids[tenth:]})
    for part in (4, 2):  # for the learning curve
        files[f"coco-learn-{part}"] = subset(coco, {int(i) for i in ids[tenth:][::part]})
        lsp = {image["id"] for image in files["lspet"]["images"][::part]}
        files[f"lspet-{part}"] = subset(files["lspet"], lsp)
    for name, content in files.items():
        (arguments.out / f"{name}.json").write_text(json.dumps(content))
        print(f"{name}: {len(content['images'])} images, {len(content['annotations'])} annotations")
    print(dict(counts))


if __name__ == "__main__":
    main()
