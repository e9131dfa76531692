"""`calipose calibrate`: what scores mean, learnt from labelled images, for any model (results: calibrate_results)."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from calipose.calibration.maps import Calibration
from calipose.cli.calibrate_results import calibrate_results, describe, use_maps
from calipose.cli.console import say
from calipose.cli.evaluation_tables import print_calibration
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
from calipose.config.stored import StoredModel, write_stored
from calipose.errors import InputError
from calipose.inference.foreign.backend import ForeignBackend
from calipose.inference.opening import FOREIGN_SUFFIXES, is_two_networks, read_two_networks, write_two_networks
from calipose.inference.packaged import FILES, MODEL_SUFFIX, ONEPASS, packaged
from calipose.io.atomic import replacing
from calipose.skeleton import COCO_17

if TYPE_CHECKING:
    from calipose.inference.predictor import Predictor
    from calipose.model.checkpoint import Checkpoint


def calibrate_command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|RESULTS",
            help="accurate, fast, onepass, a .safetensors or .onnx file, a run folder, another project's model (.onnx, "
            ".tflite); or the COCO results (.json) of any model.",
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
            help="File for the calibrated results or model. Without it, a model of your own is replaced, or gets its "
            "calibration in a file beside it (.onnx, .tflite).",
        ),
    ] = None,
    maps: Annotated[
        Path | None,
        typer.Option(
            "--maps",
            metavar="FILE",
            help="Of results: also write the maps (JSON), for later results of the same model.",
        ),
    ] = None,
    use: Annotated[
        Path | None,
        typer.Option(
            "--use", metavar="FILE", help="Of results: apply maps that --maps wrote; this needs no annotations."
        ),
    ] = None,
    cross: Annotated[
        bool,
        typer.Option(
            "--cross-fit",
            help="Of results: calibrate each image with maps of the other images, so that the file may be evaluated on "
            "the same images.",
        ),
    ] = False,
    radii: Annotated[
        float | None,
        typer.Option(
            min=0.5,
            max=0.99,
            metavar="COVERAGE",
            help="Of results: also write a radius for each keypoint, so that this share of the annotated keypoints "
            "lies inside, such as 0.9.",
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
    """Fit the scores to labelled images that the model was not trained on: a score is then the OKS to expect.

    The tables show how far scores can be trusted before and after.
    The figures after calibration are cross-fitted: each image is measured with maps fitted on the other images.
    """
    options = ModelOptions(flip, scales, short_side, device, form=form)
    if not is_results(source):
        why = "a calibrated model has the regions of every coverage, and 'calipose predict --regions' draws them"
        refuse(source, why, radii=radii)
    if use is not None and is_results(source):
        refuse(source, HOLDS_RESULTS, flip=flip, scales=scales, short_side=short_side, device=device)
        why = "--use applies maps as they are"
        given = {"data": data, "ground_truth": ground_truth, "only_labelled": only_labelled}
        refuse(source, why, **given, cross_fit=cross, maps=maps)
        make_folders(output)
        use_maps(Path(source), use, read_skeleton(skeleton), output, radii)
        return
    of_results = {
        "use": use, "cross_fit": cross, "maps": maps, "ground_truth": ground_truth, "only_labelled": only_labelled,
    }  # fmt: skip
    if is_two_networks(source):
        refuse(source, "a model predicts the images of --data", **of_results, skeleton=skeleton)
        _calibrate_two_networks(source, data, options, output, bootstrap, quiet)
        return
    if Path(source).suffix in FOREIGN_SUFFIXES or (
        source == ONEPASS and output is not None and output.suffix == ".onnx"
    ):
        refuse(source, "a model predicts the images of --data", **of_results)
        if source == ONEPASS:
            refuse(source, "an ONNX file does not flip", flip=flip)
        else:
            refuse(source, "the calibration of this model is written beside it", out=output)
        _calibrate_beside(source, data, options, skeleton, output, bootstrap, quiet)
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
        only_results={"use": use, "cross_fit": cross, "maps": maps},
        find_model=find_model,
    )
    if opened.results is not None:
        make_folders(output, maps)
        name = find_truth(source, data, ground_truth).name
        calibrate_results(opened, name, output, maps, cross, radii, bootstrap, quiet)
    else:
        make_folders(target)
        _calibrate_checkpoint(opened, checkpoints[0], Path(data.partition("=")[0]).name, target, bootstrap, quiet)


def _open_checkpoint(source: str, output: Path | None) -> tuple[Path, Checkpoint]:
    """The checkpoint that is to be calibrated, if it may be written to where that was asked for."""
    from calipose.model.checkpoint import find_checkpoint, load_checkpoint

    path = find_checkpoint(source)
    if source in FILES and output is None:
        raise InputError(
            f"{source}: the packaged model stays as it is; write its calibrated copy with --out NAME.onnx, or, to train"
            " with, --out NAME.safetensors"
        )
    if output is not None and output.suffix != ".safetensors":
        raise InputError(
            f"{output}: a calibrated checkpoint is a .safetensors file; write {output.stem}.safetensors, and then an"
            f" ONNX file with 'calipose export {output.stem}.safetensors {output.stem}.onnx'"
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


def _calibrate_beside(
    source: str,
    data: str,
    options: ModelOptions,
    skeleton: Path | None,
    output: Path | None,
    bootstrap: int,
    quiet: bool,
) -> None:
    """Predict, fit, and write what was learnt beside an ONNX or .tflite file, which stays as it is.

    Args:
        source: that file; or "onepass", which is copied to `output` first.
        data: as the option.
        options: of the prediction.
        skeleton: of another project's model.
        output: for the copy of "onepass".
        bootstrap: resamples of the figures that are shown.
        quiet: show nothing.
    """
    if source != ONEPASS and not Path(source).is_file():
        raise InputError(f"{source}: no such file")  # before the data are looked for
    make_folders(output)
    opened = open_source(source, data, options, skeleton=skeleton)
    assert opened.predictor is not None
    backend = opened.predictor.backend
    name = Path(data.partition("=")[0]).name
    if isinstance(backend, ForeignBackend):
        predictor, calibration = _fit_anew(opened, name, bootstrap, quiet)
        stored = msgspec.structs.replace(
            backend.stored,
            form=backend.form.name,
            skeleton=None if backend.skeleton is COCO_17 else backend.skeleton,
            predict=predictor.settings,
            calibration=calibration,
        )
    else:
        why = "an exported file keeps the sizes that it was exported with"
        refuse(source, why, short_side=options.short_side, scales=options.scales)
        _, calibration = _fit_anew(opened, name, bootstrap, quiet)
        stored = StoredModel(calibration=calibration)
    file = Path(source)
    if output is not None:
        with replacing(output) as temporary:
            shutil.copyfile(packaged(source), temporary)
        file = output
    say(f"calibrated on {describe(calibration)}: {file} with {write_stored(file, stored)} beside it")


def _calibrate_two_networks(
    source: str, data: str, options: ModelOptions, output: Path | None, bootstrap: int, quiet: bool
) -> None:
    """Predict, fit, and write the model of two networks with its maps."""
    if output is None or not output.name.endswith(MODEL_SUFFIX):  # before hours of prediction
        raise InputError(
            f"{source}: a model of two networks, fitted to the images of --data; name its calibrated copy with"
            f" --out NAME{MODEL_SUFFIX}"
        )
    opened = open_source(source, data, options)
    make_folders(output)
    name = Path(data.partition("=")[0]).name
    predictor, calibration = _fit_anew(opened, name, bootstrap, quiet)
    model = read_two_networks(packaged(source) if source in FILES else Path(source))
    changed = msgspec.structs.replace(model, predict=predictor.settings, calibration=calibration)
    write_two_networks(output, changed)
    say(f"calibrated on {describe(calibration)}: {output}")
