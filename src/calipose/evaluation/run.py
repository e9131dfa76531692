"""Predicting a whole data set: COCO results of a predictor, and their figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from calipose.config.settings import PredictSettings
from calipose.evaluation.ap import AveragePrecision, evaluate_results
from calipose.evaluation.coco_files import load_images, read_ground_truth
from calipose.evaluation.matching import match_poses
from calipose.evaluation.scores import ScoreFigures, score_quality
from calipose.inference.predictor import Predictor
from calipose.io.atomic import replacing
from calipose.io.images import read_image

Results = list[dict[str, Any]]


def predict_data(
    predictor: Predictor,
    annotations: Path,
    images: Path,
    track: Callable[[list[Any]], Iterable[Any]] = iter,
    category_id: int = 1,
) -> Results:
    """COCO results (numbers not rounded) for every image of an annotation file.

    Images are read as stored, since annotations count in stored pixels. `track` wraps the list of images, for a
    progress bar. `category_id` is the people's in the annotation file.

    Raises:
        InputError: the annotation file lists no images.
        ImageError: an image cannot be read.
    """
    results: Results = []
    for image_id, name in track(load_images(annotations)):
        image = read_image(images / name, ignore_orientation=True)
        results += predictor.predict(image).to_coco(image_id, category_id)
    return results


def setting_of(settings: PredictSettings) -> dict[str, Any]:
    """What figures hold for: every table says it."""
    scales = ", ".join(f"{scale:g}" for scale in settings.scales)
    return {"flip": "yes" if settings.flip else "no", "scales": scales, "short side": f"{settings.short_side} px"}


def evaluate_predictor(
    predictor: Predictor,
    annotations: Path,
    images: Path,
    bootstrap: int = 0,
    track: Callable[[list[Any]], Iterable[Any]] = iter,
) -> tuple[AveragePrecision, dict[str, ScoreFigures], Results]:
    """AP, quality of the scores, and results of a predictor on a data set.

    Raises:
        InputError: the annotation file is broken, or of another skeleton; said before anything is predicted.
        ImageError: an image cannot be read.
    """
    truth = read_ground_truth(annotations, predictor.skeleton)
    results = predict_data(predictor, annotations, images, track, truth.category_id)
    figures = evaluate_results(
        annotations, results, predictor.skeleton, bootstrap, setting=setting_of(predictor.settings)
    )
    return figures, score_quality(match_poses(annotations, results, predictor.skeleton)), results


def save_results(path: Path, results: Results) -> None:
    """Write a COCO results file; it appears whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(results), encoding="utf-8")
