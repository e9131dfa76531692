"""Predicting a whole data set: COCO results of a predictor, and their evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calipose.calibration.shift import colour_of
from calipose.errors import InputError
from calipose.evaluation.evaluation import Evaluation
from calipose.evaluation.ground_truth import GroundTruth, GroundTruthSource, read_ground_truth
from calipose.inference.predictor import Predictor
from calipose.io.atomic import replacing
from calipose.io.images import read_image

Results = list[dict[str, Any]]


@dataclass(frozen=True)
class Share:
    """The part of the images that one of several processes predicts.

    Attributes:
        index: of this process.
        processes: how many there are.
        gather: gives the value of each process, in their order; all of them call it.
    """

    index: int = 0
    processes: int = 1
    gather: Callable[[Any], list[Any]] = lambda value: [value]

    def part(self, items: Sequence[Any]) -> Sequence[Any]:
        """Every n-th item: each is in the part of one process."""
        return items[self.index :: self.processes]


def predict_data(
    predictor: Predictor,
    truth: GroundTruth,
    images: Path,
    track: Callable[[list[Any]], Iterable[Any]] = iter,
    share: Share | None = None,
    colour: dict[int, float] | None = None,
) -> Results:
    """COCO results (numbers not rounded) for every image of an annotation file, in its order.

    Images are read as stored, since annotations count in stored pixels.

    Args:
        predictor: finds the poses.
        truth: the annotation file, read already; it names the images and the people's category.
        images: folder of the images.
        track: wraps the list of images, for a progress bar.
        share: the part of this process, if several predict together; all of them get all results.
        colour: gets `colour_of` each image of this process, by its id.

    Raises:
        InputError: an image has no file name; said before anything is predicted.
        ImageError: an image cannot be read; all processes raise it.
    """
    share = share or Share()
    items = list(truth.in_folder(images).require_files().items())
    found: dict[int, Results] = {}
    problem: InputError | None = None
    try:
        for image_id, name in track(list(share.part(items))):
            image = read_image(images / name, ignore_orientation=True)
            if colour is not None:
                colour[image_id] = colour_of(image)
            found[image_id] = predictor.predict(image).to_coco(image_id, truth.category_id)
    except InputError as error:
        if share.processes == 1:
            raise
        problem = error  # said after the others are done: they wait for this process
    for others, failure in share.gather((found, problem)):
        if failure is not None:
            raise failure
        found |= others
    return [result for image_id, _ in items for result in found[image_id]]


def setting_of(predictor: Predictor) -> dict[str, Any]:
    """What figures hold for: every table says it."""
    settings = predictor.settings
    scales = ", ".join(f"{scale:g}" for scale in settings.scales)
    setting = {"flip": "yes" if settings.flip else "no", "scales": scales, "short side": f"{settings.short_side} px"}
    return setting if predictor.refiner is None else {**setting, "second look": "yes"}


def evaluate_predictor(
    predictor: Predictor,
    ground_truth: GroundTruthSource,
    images: Path,
    bootstrap: int = 0,
    track: Callable[[list[Any]], Iterable[Any]] = iter,
    share: Share | None = None,
) -> Evaluation:
    """Predict a data set and evaluate the results, which are the `entries` of what is returned.

    Args:
        predictor: finds the poses.
        ground_truth: the annotation file, or what `read_ground_truth` gave.
        images: folder of the images.
        bootstrap: resamples of the images for the intervals, 0 for none.
        track: wraps the list of images, for a progress bar.
        share: the part of this process, if several evaluate together.

    Raises:
        InputError: the annotation file is broken, or of another skeleton; said before anything is predicted.
        ImageError: an image cannot be read.
    """
    truth = read_ground_truth(ground_truth, predictor.skeleton).in_folder(images)
    colour: dict[int, float] = {}
    return Evaluation(
        truth,
        predict_data(predictor, truth, images, track, share, colour),
        predictor.skeleton,
        bootstrap=bootstrap,
        setting=setting_of(predictor),
        regions=predictor.calibration.regions,
        colour=colour,
    )


def save_results(path: Path, results: Sequence[Any]) -> None:
    """Write a COCO results file; it appears whole or not at all.

    Raises:
        WriteError: the file cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(results), encoding="utf-8")
