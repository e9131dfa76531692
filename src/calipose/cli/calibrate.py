"""`calipose calibrate`: what scores mean, learnt from labelled images, for a checkpoint or any results file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from calipose.calibration.maps import Calibration
from calipose.cli.console import say, warn
from calipose.cli.evaluate import print_calibration
from calipose.cli.judging import (
    HOLDS_RESULTS,
    Bootstrap,
    Data,
    ModelOptions,
    OnlyLabelled,
    OpenedSource,
    SkeletonFile,
    Truth,
    find_truth,
    is_results,
    make_folders,
    open_source,
    read_skeleton,
    refuse,
)
from calipose.cli.options import As, Device, Flip, Quiet, Scales, ShortSide
from calipose.config.stored import write_stored
from calipose.errors import InputError
from calipose.evaluation.fitting import calibrate_entries, with_radii
from calipose.evaluation.results import load_results, require_triples
from calipose.evaluation.run import save_results
from calipose.inference.foreign.backend import ForeignBackend
from calipose.inference.opening import FOREIGN_SUFFIXES, is_two_networks, read_two_networks, write_two_networks
from calipose.inference.packaged import FILES, MODEL_SUFFIX, packaged
from calipose.io.atomic import replacing
from calipose.plain_data import parse_json
from calipose.skeleton import COCO_17

if TYPE_CHECKING:
    from calipose.inference.predictor import Predictor
    from calipose.model.checkpoint import Checkpoint
    from calipose.skeleton import Skeleton


def calibrate_command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT|RESULTS",
            help="A .safetensors file, a run folder, 'fast' or 'accurate'; another project's model (.onnx, .tflite); "
            "or the COCO results (.json) of any model.",
        ),
    ],
    data: Data = "",
    ground_truth: Truth = "",
    skeleton: SkeletonFile = None,
    only_labelled: OnlyLabelled = False,
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
    regions: Annotated[
        float | None,
        typer.Option(
            min=0.5,
            max=0.99,
            metavar="COVERAGE",
            help="Of results: also write a radius around each keypoint that holds the annotated place with this "
            "probability, such as 0.9.",
            show_default=False,
        ),
    ] = None,
    form: As = "",
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
    options = ModelOptions(flip, scales, short_side, device, form=form)
    if use is not None and is_results(source):
        refuse(source, HOLDS_RESULTS, flip=flip, scales=scales, short_side=short_side, device=device)
        why = "--use applies maps as they are"
        given = {"data": data, "ground_truth": ground_truth, "only_labelled": only_labelled}
        refuse(source, why, **given, cross_fit=cross, maps=maps)
        make_folders(output)
        _use_maps(Path(source), use, read_skeleton(skeleton), output, regions)
        return
    if is_two_networks(source):
        refuse(source, "a model keeps the regions of every coverage", regions=regions)
        _calibrate_two_networks(source, data, options, output, bootstrap, quiet)
        return
    if Path(source).suffix in FOREIGN_SUFFIXES:
        refuse(source, "another project's model, whose calibration is written beside it", out=output)
        asked = {"use": use, "cross_fit": cross, "maps": maps, "ground_truth": ground_truth}
        refuse(source, "a model, which predicts the images of --data", **asked, only_labelled=only_labelled)
        _calibrate_foreign(source, data, options, skeleton, bootstrap, quiet)
        return
    checkpoints: list[Checkpoint] = []
    target = Path()

    def find_model(name: str) -> Path:
        nonlocal target
        path, checkpoint = _open_checkpoint(name, output)
        checkpoints.append(checkpoint)
        target = output or path
        return path

    opened = open_source(
        source,
        data,
        options,
        ground_truth=ground_truth,
        skeleton=skeleton,
        only_labelled=only_labelled,
        kind="a checkpoint",
        only_results={"use": use, "cross_fit": cross, "maps": maps, "regions": regions},
        find_model=find_model,
    )
    if opened.results is not None:
        make_folders(output, maps)
        name = find_truth(source, data, ground_truth).name
        _calibrate_results(opened, name, output, maps, cross, regions, bootstrap, quiet)
    else:
        make_folders(target)
        _calibrate_checkpoint(opened, checkpoints[0], Path(data.partition("=")[0]).name, target, bootstrap, quiet)


def _open_checkpoint(source: str, output: Path | None) -> tuple[Path, Checkpoint]:
    """The checkpoint that is to be calibrated, if it may be written to where that was asked for."""
    from calipose.model.checkpoint import find_checkpoint, load_checkpoint

    path = find_checkpoint(source)
    if source in FILES and output is None:
        raise InputError(f"{source}: the model that comes with the package stays as it is; name a copy with --out")
    if output is not None and output.suffix != ".safetensors":
        raise InputError(
            f"{output}: name the checkpoint {output.stem}.safetensors; calipose export makes ONNX files of it"
        )
    return path, load_checkpoint(path)


def _fit_anew(opened: OpenedSource, data: str, bootstrap: int, quiet: bool) -> tuple[Predictor, Calibration]:
    """The model, giving its own scores, and the calibration fitted to what it finds; shows both.

    Args:
        opened: the model and its labelled images.
        data: name of the data, which the maps keep.
        bootstrap: resamples of the figures that are shown.
        quiet: show nothing.
    """
    assert opened.predictor is not None
    predictor = opened.predictor.with_calibration(Calibration())
    evaluation = replace(opened, predictor=predictor).evaluation(bootstrap, quiet)
    calibration = evaluation.fit_calibration(predictor.setting, data)
    if not quiet:
        print_calibration(evaluation)
    return predictor, calibration


def _calibrate_checkpoint(
    opened: OpenedSource, checkpoint: Checkpoint, data: str, target: Path, bootstrap: int, quiet: bool
) -> None:
    """Predict, fit, and write the checkpoint with its maps."""
    from calipose.model.checkpoint import save_checkpoint

    predictor, calibration = _fit_anew(opened, data, bootstrap, quiet)
    # The checkpoint predicts from now on as it was calibrated.
    recipe = msgspec.structs.replace(checkpoint.recipe, predict=predictor.settings)
    save_checkpoint(target, replace(checkpoint, calibration=calibration, recipe=recipe))
    say(f"calibrated on {describe(calibration)}: {target}")


def _calibrate_foreign(
    source: str, data: str, options: ModelOptions, skeleton: Path | None, bootstrap: int, quiet: bool
) -> None:
    """Predict, fit, and write what was learnt beside another project's model."""
    if not Path(source).is_file():
        raise InputError(f"{source}: no such file")  # before the data are looked for
    opened = open_source(source, data, options, skeleton=skeleton)
    assert opened.predictor is not None
    backend = opened.predictor.backend
    if not isinstance(backend, ForeignBackend):
        raise InputError(
            f"{source}: an exported file of calipose export; calibrate its checkpoint, and export that again"
        )
    predictor, calibration = _fit_anew(opened, Path(data.partition("=")[0]).name, bootstrap, quiet)
    stored = msgspec.structs.replace(
        backend.stored,
        form=backend.form.name,
        skeleton=None if backend.skeleton is COCO_17 else backend.skeleton,
        predict=predictor.settings,
        calibration=calibration,
    )
    say(f"calibrated on {describe(calibration)}: {write_stored(Path(source), stored)}")


def _calibrate_two_networks(
    source: str, data: str, options: ModelOptions, output: Path | None, bootstrap: int, quiet: bool
) -> None:
    """Predict, fit, and write the model of two networks with its maps."""
    opened = open_source(source, data, options)
    if output is None:
        raise InputError(f"{source}: a model of two networks; name its calibrated copy NAME{MODEL_SUFFIX} with --out")
    make_folders(output)
    name = Path(data.partition("=")[0]).name
    predictor, calibration = _fit_anew(opened, name, bootstrap, quiet)
    model = read_two_networks(packaged(source) if source in FILES else Path(source))
    changed = msgspec.structs.replace(model, predict=predictor.settings, calibration=calibration)
    write_two_networks(output, changed)
    say(f"calibrated on {describe(calibration)}: {output}")


def _calibrate_results(
    opened: OpenedSource,
    data: str,
    output: Path | None,
    maps: Path | None,
    cross: bool,
    regions: float | None,
    bootstrap: int,
    quiet: bool,
) -> None:
    """Fit the maps to a results file, and write what was asked for."""
    if cross and output is None:
        raise InputError("--cross-fit: name the results that it calibrates with --out")
    if regions is not None and (cross or output is None):
        raise InputError("--regions: name the results that get them with --out, and leave out --cross-fit")
    evaluation = opened.evaluation(bootstrap, quiet)
    calibration = evaluation.fit_calibration(data=data)
    if not quiet:
        print_calibration(evaluation)
    if output is not None:
        entries = evaluation.calibrated_entries(None if cross else calibration)
        if regions is not None:
            entries = with_radii(entries, calibration, opened.skeleton, regions)
        save_results(output, entries)
        how = "cross-fitted on" if cross else "calibrated on"
        say(f"{how} {describe(calibration)}: {output}")
    if maps is not None:
        content = {"keypoints": len(opened.skeleton), "calibration": calibration.to_dict()}
        with replacing(maps) as temporary:
            temporary.write_text(json.dumps(content), encoding="utf-8")
        say(f"maps: {maps}")
    if output is None and maps is None:
        say("nothing was written: --out FILE for calibrated results, --maps FILE for the maps")


def _use_maps(path: Path, maps: Path, skeleton: Skeleton, output: Path | None, regions: float | None) -> None:
    """Calibrate a results file with maps that `--maps` wrote."""
    if output is None:
        raise InputError("--use: name the calibrated results with --out")
    calibration, keypoints = read_maps(maps)
    if keypoints != len(skeleton):
        raise InputError(f"{maps}: made for {keypoints} keypoints, skeleton '{skeleton.name}' has {len(skeleton)}")
    results = load_results(path)
    require_triples(results)
    for i, record in enumerate(results.records):
        if len(record.keypoints) != 3 * keypoints:
            raise InputError(f"{path}: entry {i}: {len(record.keypoints)} numbers in 'keypoints', not {3 * keypoints}")
    scores = results.scores
    low, high = calibration.score.x[0], calibration.score.x[-1]
    beyond = int(((scores < low - (high - low) / 10) | (scores > high + (high - low) / 10)).sum())
    if beyond:
        warn(
            f"{beyond} of {len(scores)} scores lie outside of {low:.3g} to {high:.3g}, where the maps were fitted;"
            " are these scores of the same model, not calibrated yet?"
        )
    entries = calibrate_entries(results, calibration)
    if regions is not None:
        entries = with_radii(entries, calibration, skeleton, regions)
    save_results(output, entries)
    say(f"with the maps of {describe(calibration)}: {output}")


def describe(calibration: Calibration) -> str:
    """Where a calibration comes from, in words."""
    fitted, regions = calibration.score, calibration.regions
    text = f"{fitted.poses} poses of {fitted.images} images of {fitted.data} ({fitted.kind})"
    if regions.is_empty:
        return f"{text}, without regions ({regions.refusal})" if regions.refusal else text
    return f"{text}, regions up to coverage {regions.max_coverage:g}"


def read_maps(path: Path) -> tuple[Calibration, int]:
    """Maps that `--maps` wrote, and for how many keypoints.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    try:
        entries = parse_json(path.read_bytes(), str(path))
        keypoints, maps = int(entries["keypoints"]), entries["calibration"]
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise InputError(f"{path}: no maps that calipose calibrate --maps wrote ({error!r})") from None
    return Calibration.from_dict(maps, str(path)), keypoints
