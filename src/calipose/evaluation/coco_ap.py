"""COCO's average precision by hotcoco, whose figures equal those of pycocotools (experiments/hotcoco_ap.py)."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from calipose.evaluation.ground_truth import GroundTruth
from calipose.evaluation.results import DetectedPoses
from calipose.geometry import Floats

PERSON = 1  # id of the only category
ALL, MEDIUM, LARGE = 0, 1, 2  # indices among pycocotools' sizes of people
AT_50, AT_75 = 0, 5  # indices among the OKS thresholds
FAR = 1e9  # pixels; where a keypoint is put that was not detected: its similarity is 0 with every person


class CocoFigures(NamedTuple):
    """COCO's six figures, 0 to 1; nan where there is no person to find."""

    ap: float
    ap50: float
    ap75: float
    ap_medium: float
    ap_large: float
    ar: float


def coco_figures(truth: GroundTruth, detected: list[DetectedPoses]) -> CocoFigures:
    """The figures of the best 20 poses of each image.

    Args:
        truth: the annotated people.
        detected: the poses of each image, best first.
    """
    results = _results(detected)
    if not results:
        found_none = 0.0 if truth.wanted.sum() else math.nan
        return CocoFigures(*[found_none] * 6)
    import hotcoco  # here, since most commands compute no AP

    annotated = hotcoco.COCO(_dataset(truth))
    if all(np.isfinite(image.keypoints_img).all() for image in detected):
        poses = annotated.loadRes(results)
    else:  # the size of a pose is that of its detected keypoints, and loadRes would take all of them
        poses = hotcoco.COCO(_dataset(truth) | {"annotations": _with_sizes(results, detected)})
    evaluator = hotcoco.COCOeval(annotated, poses, "keypoints")
    evaluator.params.kpt_oks_sigmas = list(truth.skeleton.sigmas)
    evaluator.evaluate()
    evaluator.accumulate()
    accumulated = evaluator.eval or {}
    precision = np.asarray(accumulated["precision"])[:, :, 0, :, 0]  # (threshold, recall, size)
    recall = np.asarray(accumulated["recall"])[:, 0, :, 0]  # (threshold, size)
    return CocoFigures(
        _mean(precision[:, :, ALL]),
        _mean(precision[AT_50, :, ALL]),
        _mean(precision[AT_75, :, ALL]),
        _mean(precision[:, :, MEDIUM]),
        _mean(precision[:, :, LARGE]),
        _mean(recall[:, ALL]),
    )


def _mean(values: Floats) -> float:
    """Mean of figures; -1 stands for "no person to find"."""
    return math.nan if (values < 0).any() else float(values.mean())


def _dataset(truth: GroundTruth) -> dict[str, Any]:
    """The ground truth as COCO's file has it; images are numbered in the order of their ids."""
    annotations: list[dict[str, Any]] = []
    for image, people in enumerate(truth.people):
        visible = np.where(people.labelled, 2.0, 0.0)
        triples = np.concatenate([people.keypoints_img, visible[..., None]], axis=-1).reshape(
            len(people.area), 3 * len(truth.skeleton)
        )
        labelled = np.maximum(people.labelled.sum(1), 1)  # by 0 COCO means: ignored
        counts = np.where(people.ignored & ~people.crowd, 0, labelled)
        columns = zip(
            triples.tolist(),
            counts.tolist(),
            people.area.tolist(),
            people.box.tolist(),
            people.crowd.tolist(),
            strict=True,
        )
        for triple, count, area, box, crowd in columns:
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image, "category_id": PERSON, "keypoints": triple,
                 "num_keypoints": count, "area": area, "bbox": box, "iscrowd": int(crowd)}
            )  # fmt: skip
    return {
        "images": [{"id": image} for image in range(len(truth.people))],
        "annotations": annotations,
        "categories": [{"id": PERSON, "name": "person", "keypoints": list(truth.skeleton.keypoints)}],
    }


def detected_areas(keypoints_img: Floats) -> Floats:
    """`(p,)`: area of the box around the detected keypoints of each pose `(p, k, 2)`; infinite where it is absurd."""
    with np.errstate(over="ignore"):
        area: Floats = (np.nanmax(keypoints_img, 1) - np.nanmin(keypoints_img, 1)).prod(-1)
    return area


def _with_sizes(results: list[dict[str, Any]], detected: list[DetectedPoses]) -> list[dict[str, Any]]:
    """The poses as `loadRes` makes them."""
    areas = np.concatenate([detected_areas(poses.keypoints_img) for poses in detected]).tolist()
    return [
        {**result, "id": i, "area": area, "bbox": [0.0, 0.0, 1.0, 1.0], "iscrowd": 0}
        for i, (result, area) in enumerate(zip(results, areas, strict=True), 1)
    ]


def _results(detected: list[DetectedPoses]) -> list[dict[str, Any]]:
    """The poses as COCO's results file has them."""
    results: list[dict[str, Any]] = []
    for image, poses in enumerate(detected):
        ones = np.ones((*poses.keypoints_img.shape[:2], 1))
        points = np.nan_to_num(poses.keypoints_img, nan=FAR)
        triples = np.concatenate([points, ones], axis=-1).reshape(ones.shape[0], 3 * ones.shape[1])
        for triple, score in zip(triples.tolist(), poses.scores.tolist(), strict=True):
            results.append({"image_id": image, "category_id": PERSON, "keypoints": triple, "score": score})
    return results
