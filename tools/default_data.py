r"""The data of a further training of `onepass` (docs/default-model.md): labelled images and what `accurate` sees.

`see` runs `accurate`, with flip at the second look and at several sizes, over the images of `coco-train` and
`lspet`, and writes what it sees with raw and calibrated scores; it goes on where it was stopped. `merge` puts labels
and seen poses together: in LSP Extended, which labels one person's 12 body joints an image, the labelled person gets a
face, and joints that are surely elsewhere, or of the other side, are corrected; in both sets, people whom nobody
labelled become people or are ignored. A tenth of COCO's images is kept apart, to choose with, and stays as it is.

    python tools/default_data.py see ../shared/data/lspet --out runs/seen-lspet.jsonl --short-side 320 --scales 0.5,1
    python tools/default_data.py see ../shared/data/coco-train --out runs/seen-coco.jsonl --short-side 512 \
        --scales 0.5,1,1.4
    python tools/default_data.py merge ../shared/data --seen runs --out runs/default-data [--choose raw]
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from calipose.geometry import AREA_PER_BOX, keypoint_similarity, oks, pose_nms
from calipose.inference.predictor import Predictor
from calipose.inference.refiner import TwoLooks, see_twice
from calipose.io.images import read_image
from calipose.skeleton import COCO_17

SURE, UNSURE = 0.5, 0.1  # expected OKS from which a pose is a person; below which it is nothing
JOINT = 0.5  # expected similarity from which a joint counts as labelled
CORRECT, FAR = 0.7, 0.3  # a label is wrong if the seen joint is at least so sure, and its similarity is below
SAME, OTHER = 0.5, 0.3  # OKS from which two poses are of one person; below which they are not
LEAST_JOINTS = 5
FACE = slice(0, 5)

Pose = dict[str, Any]


def see(data: Path, out: Path, short_side: int, scales: tuple[float, ...], model: str) -> None:
    """Write the poses of `accurate` in each image of `data`, one line an image."""
    predictor = Predictor(model).with_settings(short_side=short_side, scales=scales, score_threshold=0.08)
    assert predictor.refiner is not None
    content = json.loads((data / "annotations.json").read_text())
    done = {json.loads(line)["image_id"] for line in out.read_text().splitlines()} if out.exists() else set()
    with out.open("a") as file:
        for entry in content["images"]:
            if entry["id"] in done:
                continue
            image = read_image(data / "images" / entry["file_name"], ignore_orientation=True)
            first = predictor.first_look([image])[0]
            both = see_twice(image, first, predictor.refiner, predictor.second_look, flip=True)
            poses = describe(both, first.raw_scores, predictor)
            file.write(json.dumps({"image_id": entry["id"], "poses": poses}) + "\n")
            file.flush()


def describe(both: TwoLooks, first_scores: np.ndarray, predictor: Predictor) -> list[Pose]:
    """Seen poses after pose NMS, with their first raw score and raw confidences beside the calibrated scores."""
    look, calibration = predictor.second_look, predictor.calibration
    raw = look.pose(first_scores, both.confidences.mean(1), both.agreement.mean(1))
    joints = calibration.calibrate_keypoints(
        look.keypoint(both.first_keypoint_scores, both.confidences, both.agreement)
    )
    scores = calibration.score(raw)
    order = np.argsort(-raw, kind="stable")
    sigmas, threshold = predictor.skeleton.sigmas_array, predictor.settings.nms_threshold
    return [
        {
            "score": float(scores[i]),
            "first": float(first_scores[i]),
            "confidences": both.confidences[i].round(4).tolist(),
            "keypoints": np.c_[both.keypoints_img[i], joints[i]].round(3).tolist(),
        }
        for i in order[pose_nms(both.keypoints_img[order], raw[order], sigmas, threshold)]
    ]


def read_seen(path: Path) -> dict[int, list[Pose]]:
    """Seen poses by image, their keypoints as arrays (k, 3): x, y and expected similarity."""
    seen = {}
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        arrays = ("keypoints", "confidences")
        seen[entry["image_id"]] = [pose | {key: np.array(pose[key]) for key in arrays} for pose in entry["poses"]]
    return seen


def box_of(points: np.ndarray) -> list[float]:
    """Left, top, width, height of points (n, 2)."""
    low, high = points.min(0), points.max(0)
    return [round(float(v), 2) for v in (*low, *(high - low))]


def added(image_id: int, pose: Pose, choice: Choice, counts: Counter[str]) -> dict[str, Any] | None:
    """An annotation of a seen pose that nobody labelled: a person, a region to ignore, or None."""
    points = pose["keypoints"]
    sure = choice.joints(pose)
    keep = choice.is_person(pose) and sure.sum() >= LEAST_JOINTS
    if not keep and not choice.is_ignored(pose):
        return None
    counts["people added" if keep else "people ignored"] += 1
    chosen = points[sure, :2] if keep else points[:, :2]
    box = box_of(chosen)
    labels = np.where((sure & keep)[:, None], np.c_[points[:, :2], np.full(len(points), 2)], 0)
    return {
        "image_id": image_id, "category_id": 1, "iscrowd": 0, "bbox": box, "area": AREA_PER_BOX * box[2] * box[3],
        "num_keypoints": int((labels[:, 2] > 0).sum()), "keypoints": labels.flatten().tolist(),
    }  # fmt: skip


class Choice:
    """Which seen poses and joints are taken for right: by calibrated scores, by as many raw ones, or all.

    Args:
        name: "calibrated", "raw" or "all".
        seen: all poses there are; "raw" takes as many poses, and joints, as "calibrated" does.
    """

    def __init__(self, name: str, seen: list[Pose]) -> None:
        self.name = name
        if name == "raw":  # the first look's raw score, and the heat map's raw confidence
            firsts = np.sort([pose["first"] for pose in seen])[::-1]
            people = sum(pose["score"] >= SURE for pose in seen)
            possible = sum(pose["score"] >= UNSURE for pose in seen)
            self.sure, self.unsure = firsts[people - 1], firsts[possible - 1]
            confidences = np.sort(np.concatenate([pose["confidences"] for pose in seen]))[::-1]
            self.joint = confidences[sum(int((pose["keypoints"][:, 2] >= JOINT).sum()) for pose in seen) - 1]

    def is_person(self, pose: Pose) -> bool:
        """Whether the pose is right."""
        if self.name == "raw":
            return bool(pose["first"] >= self.sure)
        return self.name == "all" or pose["score"] >= SURE

    def is_ignored(self, pose: Pose) -> bool:
        """Whether a pose that may be wrong is still somebody, perhaps."""
        return bool(pose["first"] >= self.unsure) if self.name == "raw" else pose["score"] >= UNSURE

    def joints(self, pose: Pose, least: float = JOINT) -> np.ndarray:
        """Which joints (k,) are right."""
        if self.name == "raw":
            return pose["confidences"] >= self.joint
        return np.ones(len(pose["keypoints"]), bool) if self.name == "all" else pose["keypoints"][:, 2] >= least


def merge_lspet(
    annotation: dict[str, Any], seen: list[Pose], choice: Choice, counts: Counter[str]
) -> list[dict[str, Any]]:
    """Annotations of one image of LSP Extended: the labelled person, completed and corrected, and other people."""
    sigmas = COCO_17.sigmas_array
    truth = np.array(annotation["keypoints"], float).reshape(-1, 3)
    mirrored = list(COCO_17.flip_index)

    def likeness(pose: Pose, order: list[int] | slice) -> float:
        labelled = truth[:, 2] > 0
        return float(oks(pose["keypoints"][order, :2], truth[:, :2], labelled, annotation["area"], sigmas))

    same = [likeness(pose, slice(None)) for pose in seen]
    other_way = [likeness(pose, mirrored) for pose in seen]
    best = int(np.argmax(np.maximum(same, other_way))) if seen else -1
    if seen and other_way[best] > max(SAME, same[best] + 0.2):
        truth, same[best] = truth[mirrored], other_way[best]
        counts["sides exchanged"] += 1
    if seen and same[best] >= SAME:
        joints = seen[best]["keypoints"]
        labelled = truth[:, 2] > 0
        squared = ((joints[:, :2] - truth[:, :2]) ** 2).sum(1)
        near = keypoint_similarity(squared, annotation["area"], sigmas)
        wrong = labelled & (near < FAR) & choice.joints(seen[best], CORRECT)
        new = ~labelled & choice.joints(seen[best])
        counts["joints corrected"] += int(wrong.sum())
        counts["joints added"] += int(new.sum())
        truth = np.where((wrong | new)[:, None], np.c_[joints[:, :2], np.full(len(joints), 2)], truth)
    merged = [{**annotation, "keypoints": truth.flatten().tolist(), "num_keypoints": int((truth[:, 2] > 0).sum())}]
    for i, pose in enumerate(seen):
        if i != best and max(same[i], other_way[i]) < OTHER:
            merged.append(added(annotation["image_id"], pose, choice, counts))
    return [person for person in merged if person is not None]


def merge_coco(
    annotations: list[dict[str, Any]], image_id: int, seen: list[Pose], choice: Choice, counts: Counter[str]
) -> list[dict[str, Any]]:
    """Annotations of one image of COCO, and the people whom nobody labelled."""
    labelled = [a for a in annotations if a["num_keypoints"]]
    merged = list(annotations)
    for pose in seen:
        truths = [np.array(a["keypoints"], float).reshape(-1, 3) for a in labelled]
        like = [
            float(oks(pose["keypoints"][:, :2], t[:, :2], t[:, 2] > 0, a["area"], COCO_17.sigmas_array))
            for a, t in zip(labelled, truths, strict=True)
        ]
        if not any(value >= OTHER / 2 for value in like):
            person = added(image_id, pose, choice, counts)
            merged += [] if person is None else [person]
    return merged


def subset(content: dict[str, Any], image_ids: set[int]) -> dict[str, Any]:
    """The chosen images of an annotation file."""
    return {
        **content,
        "images": [image for image in content["images"] if image["id"] in image_ids],
        "annotations": [a for a in content["annotations"] if a["image_id"] in image_ids],
    }


def numbered(content: dict[str, Any], annotations: list[dict[str, Any]]) -> dict[str, Any]:
    """The annotation file with other annotations, numbered anew."""
    return {**content, "annotations": [{**a, "id": i} for i, a in enumerate(annotations, 1)]}


def merge(data: Path, seen: Path | None, out: Path, name: str) -> None:
    """Write the annotation files; without `seen` those of the labels alone."""
    out.mkdir(parents=True, exist_ok=True)
    coco = json.loads((data / "coco-train" / "annotations.json").read_text())
    ids = np.random.default_rng(0).permutation([image["id"] for image in coco["images"]])
    tenth = len(ids) // 10
    lspet = json.loads((data / "lspet" / "annotations.json").read_text())
    files = {
        "coco-choose": subset(coco, {int(i) for i in ids[:tenth]}),
        "coco-learn": subset(coco, {int(i) for i in ids[tenth:]}),
        "lspet": lspet,
    }
    if seen is not None:
        for key, file in (("lspet", "seen-lspet.jsonl"), ("coco-learn", "seen-coco.jsonl")):
            counts: Counter[str] = Counter()
            by_image = read_seen(seen / file)
            choice = Choice(name, [pose for poses in by_image.values() for pose in poses])
            content = files[key]
            labels: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in content["images"]}
            for annotation in content["annotations"]:
                labels[annotation["image_id"]].append(annotation)
            merged = []
            for image_id, annotations in labels.items():
                poses = by_image.get(image_id, [])
                if key == "lspet":
                    merged += [a for one in annotations for a in merge_lspet(one, poses, choice, counts)]
                else:
                    merged += merge_coco(annotations, image_id, poses, choice, counts)
            # An image that was not seen would teach that its unlabelled people are background.
            files[key] = subset(numbered(content, merged), set(by_image))
            print(key, dict(counts))
    for key, content in files.items():
        (out / f"{key}.json").write_text(json.dumps(content))
        print(f"{key}: {len(content['images'])} images, {len(content['annotations'])} annotations")


def main() -> None:
    """See, or merge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["see", "merge"])
    parser.add_argument("data", type=Path, help="for see: a folder with annotations.json; for merge: that of all sets")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="accurate")
    parser.add_argument("--short-side", type=int, default=448)
    parser.add_argument("--scales", default="0.5,1")
    parser.add_argument("--seen", type=Path, help="folder of seen-lspet.jsonl and seen-coco.jsonl")
    parser.add_argument("--choose", choices=["calibrated", "raw", "all"], default="calibrated")
    options = parser.parse_args()
    if options.step == "see":
        scales = tuple(float(scale) for scale in options.scales.split(","))
        see(options.data, options.out, options.short_side, scales, options.model)
    else:
        merge(options.data, options.seen, options.out, options.choose)


if __name__ == "__main__":
    main()
