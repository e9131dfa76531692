"""`calipose calibrate`: what scores mean, learnt from labelled images, for a checkpoint or any results file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np
import typer

from calipose.calibration.maps import Calibration, Setting
from calipose.cli.common import Device, Flip, Quiet, Scales, ShortSide, open_predictor, progress_over, say, warn
from calipose.cli.evaluate import print_summary
from calipose.cli.judging import (
    HOLDS_RESULTS,
    Bootstrap,
    Data,
    SkeletonFile,
    Truth,
    find_truth,
    is_results,
    make_folders,
    read_skeleton,
    refuse,
)
from calipose.data.locate import find_data
from calipose.errors import InputError
from calipose.evaluation.calibrate import calibrate_entries, cross_fit, fit_calibration
from calipose.evaluation.coco_files import load_results, read_ground_truth
from calipose.evaluation.matching import match_poses
from calipose.evaluation.run import predict_data, save_results, setting_of
from calipose.evaluation.summary import summarise
from calipose.io.atomic import replacing

if TYPE_CHECKING:
    from calipose.evaluation.coco_files import GroundTruthSource, ResultsSource
    from calipose.skeleton import Skeleton


def calibrate(
    source: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT|RESULTS",
            help="A .safetensors file, a run folder, or 'default'; or the COCO results (.json) of any model.",
        ),
    ],
    data: Data = "",
    ground_truth: Truth = "",
    skeleton: SkeletonFile = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="The results with calibrated scores; or the calibrated checkpoint, by default in its own place.",
        ),
    ] = None,
    maps: Annotated[
        Path | None, typer.Option("--maps", metavar="FILE", help="Also write the maps, for results to come (JSON).")
    ] = None,
    use: Annotated[
        Path | None,
        typer.Option(
            "--use", metavar="FILE", help="Of results: apply the maps of such a file; no ground truth needed."
        ),
    ] = None,
    cross: Annotated[
        bool,
        typer.Option(
            "--cross-fit", help="Of results: calibrate each image by the others, to be judged on the same images."
        ),
    ] = False,
    flip: Flip = False,
    scales: Scales = "",
    short_side: ShortSide = None,
    bootstrap: Bootstrap = 200,
    device: Device = "",
    quiet: Quiet = False,
) -> None:
    """Make scores the expected OKS, by labelled images that the model was not trained on.

    Shows what the scores are worth before and after; "calibrated" figures are cross-fitted: each image is judged by
    maps that were fitted on others.
    """
    if is_results(source):
        refuse(source, HOLDS_RESULTS, flip=flip, scales=scales, short_side=short_side, device=device)
        make_folders(output, maps)
        results, of = Path(source), read_skeleton(skeleton)
        if use is not None:
            why = "--use applies maps as they are"
            refuse(source, why, data=data, ground_truth=ground_truth, cross_fit=cross, maps=maps)
            _use_maps(results, use, of, output)
            return
        annotations = find_truth(source, data, ground_truth)
        _calibrate_results(results, annotations, of, output, maps, cross, bootstrap, quiet)
        return
    why = "a checkpoint, which predicts the images of --data"
    refuse(source, why, ground_truth=ground_truth, skeleton=skeleton, use=use, cross_fit=cross, maps=maps)
    if not data:
        raise InputError(f"{source}: a checkpoint predicts the images of --data; name them")
    from calipose.model.checkpoint import find_checkpoint, load_checkpoint, save_checkpoint

    path = find_checkpoint(source)
    if source == "default" and output is None:
        raise InputError("default: the model that comes with the package stays as it is; name a copy with --out")
    if output is not None and output.suffix != ".safetensors":
        raise InputError(
            f"{output}: name the checkpoint {output.stem}.safetensors; calipose export makes ONNX files of it"
        )
    checkpoint = load_checkpoint(path)
    annotations, images = find_data(data)
    predictor = open_predictor(path, device, flip, short_side, scales=scales)
    predictor = predictor.with_calibration(Calibration())  # the network's own scores
    category_id = read_ground_truth(annotations, predictor.skeleton).category_id
    target = output or path
    make_folders(target)
    found = predict_data(predictor, annotations, images, progress_over("Predicting", quiet), category_id)
    calibration = _fit(annotations, found, predictor.skeleton, predictor.settings.setting, data)
    if not quiet:
        print_summary(summarise(annotations, found, predictor.skeleton, bootstrap, setting_of(predictor.settings)))
    # The checkpoint predicts from now on as it was calibrated.
    recipe = msgspec.structs.replace(checkpoint.recipe, predict=predictor.settings)
    save_checkpoint(target, replace(checkpoint, calibration=calibration, recipe=recipe))
    say(f"calibrated on {describe(calibration)}: {target}")


def _calibrate_results(
    path: Path,
    annotations: Path,
    skeleton: Skeleton,
    output: Path | None,
    maps: Path | None,
    cross: bool,
    bootstrap: int,
    quiet: bool,
) -> None:
    """The whole for a results file."""
    if cross and output is None:
        raise InputError("--cross-fit: name the results that it calibrates with --out")
    calibration = _fit(annotations, path, skeleton, None, str(annotations))
    if not quiet:
        print_summary(summarise(annotations, path, skeleton, bootstrap))
    if output is not None:
        matches = cross_fit(match_poses(annotations, path, skeleton)) if cross else None
        save_results(output, calibrate_entries(path, calibration, matches))
        how = "cross-fitted on" if cross else "calibrated on"
        say(f"{how} {describe(calibration)}: {output}")
    if maps is not None:
        entries = {"keypoints": len(skeleton), "calibration": calibration.to_dict()}
        with replacing(maps) as temporary:
            temporary.write_text(json.dumps(entries), encoding="utf-8")
        say(f"maps: {maps}")
    if output is None and maps is None:
        say("nothing was written: --out FILE for calibrated results, --maps FILE for the maps")


def _use_maps(path: Path, maps: Path, skeleton: Skeleton, output: Path | None) -> None:
    """Calibrate a results file with maps that `--maps` wrote."""
    if output is None:
        raise InputError("--use: name the calibrated results with --out")
    calibration, keypoints = read_maps(maps)
    if keypoints != len(skeleton):
        raise InputError(f"{maps}: made for {keypoints} keypoints, skeleton '{skeleton.name}' has {len(skeleton)}")
    entries = load_results(path)
    for i, entry in enumerate(entries):
        if len(entry["keypoints"]) != 3 * keypoints:
            raise InputError(
                f"{path}: entry {i}: {len(entry['keypoints'])} numbers in 'keypoints', not {3 * keypoints}"
            )
    scores = np.array([entry["score"] for entry in entries])
    low, high = calibration.score.x[0], calibration.score.x[-1]
    beyond = int(((scores < low - (high - low) / 10) | (scores > high + (high - low) / 10)).sum())
    if beyond:
        warn(
            f"{beyond} of {len(scores)} scores lie outside of {low:.3g} to {high:.3g}, where the maps were fitted;"
            " are these scores of the same model, not calibrated yet?"
        )
    save_results(output, calibrate_entries(entries, calibration))
    say(f"with the maps of {describe(calibration)}: {output}")


def _fit(
    ground_truth: GroundTruthSource, results: ResultsSource, skeleton: Skeleton, setting: Setting | None, data: str
) -> Calibration:
    """The calibration by some results."""
    matches = match_poses(ground_truth, results, skeleton)
    people = int(read_ground_truth(ground_truth, skeleton).wanted.sum())
    return fit_calibration(matches, people, setting, Path(data.partition("=")[0]).name)


def describe(calibration: Calibration) -> str:
    """Where a calibration comes from, in words."""
    of = calibration.score
    return f"{of.poses} poses of {of.images} images of {of.data} ({of.kind})"


def read_maps(path: Path) -> tuple[Calibration, int]:
    """Maps that `--maps` wrote, and for how many keypoints.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        keypoints, maps = int(entries["keypoints"]), entries["calibration"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: no maps that calipose calibrate --maps wrote ({error!r})") from None
    return Calibration.from_dict(maps, str(path)), keypoints
