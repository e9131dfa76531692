"""What the commands share that evaluate models and results files: their arguments, and opening what these name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calipose.cli.console import progress_over
from calipose.cli.model import open_predictor
from calipose.data.locate import DATA_HELP, find_annotations, find_data
from calipose.errors import InputError
from calipose.evaluation.evaluation import Evaluation
from calipose.evaluation.ground_truth import GroundTruth, read_ground_truth
from calipose.evaluation.run import predict_data, setting_of
from calipose.inference.opening import FOREIGN_SUFFIXES
from calipose.inference.packaged import MODEL_SUFFIX
from calipose.io.atomic import make_folder
from calipose.skeleton import COCO_17, Skeleton

if TYPE_CHECKING:
    from calipose.evaluation.results import ResultsSource
    from calipose.inference.predictor import Predictor

Source = Annotated[
    str,
    typer.Argument(
        metavar="MODEL|RESULTS",
        help="accurate, fast, onepass, a .safetensors or .onnx file, a run folder, another project's model (.onnx, "
        ".tflite); or the COCO results (.json) of any model.",
    ),
]
HOLDS_RESULTS = "this is a results file, so no model runs"
Data = Annotated[str, typer.Option(metavar="DATA", help=f"Of a model: the labelled images to predict. {DATA_HELP}.")]
Truth = Annotated[
    str, typer.Option("--ground-truth", metavar="FILE", help="Of a results file: the annotations to compare it with.")
]
SkeletonFile = Annotated[
    Path | None,
    typer.Option(
        "--skeleton",
        metavar="FILE",
        help="Keypoints of a results file, or of another project's model, if they are not COCO's 17 (.json, .toml).",
    ),
]
OnlyLabelled = Annotated[
    bool,
    typer.Option(
        "--only-labelled", help="Ignore results of images that are not annotated, instead of stopping at them."
    ),
]
Bootstrap = Annotated[
    int, typer.Option(min=0, metavar="N", help="Resamples of the images for the 95 % intervals; 0: no intervals.")
]


@dataclass(frozen=True)
class ModelOptions:
    """How a model is to predict: options that a results file refuses.

    Attributes:
        flip: as the option.
        scales: as the option.
        short_side: as the option.
        device: as the option.
        need_torch: a checkpoint is needed, for what an ONNX file cannot.
        form: of another project's model, as the option `--as`.
    """

    flip: bool = False
    scales: str = ""
    short_side: int | None = None
    device: str = ""
    need_torch: bool = False
    form: str = ""


@dataclass(frozen=True)
class OpenedSource:
    """A results file, or a model with the images that it predicts; either with its ground truth, which is read.

    Attributes:
        truth: the annotations.
        skeleton: of the poses.
        images: folder of the images; None where none is named.
        results: the results file; None for a model.
        predictor: the model; None for a results file.
        only_labelled: leave out results of images that are not labelled.
    """

    truth: GroundTruth
    skeleton: Skeleton
    images: Path | None = None
    results: Path | None = None
    predictor: Predictor | None = None
    only_labelled: bool = False

    @property
    def setting(self) -> dict[str, Any]:
        """What figures hold for."""
        if self.predictor is not None:
            return setting_of(self.predictor)
        return {} if self.results is None else {"results": self.results.name}

    def poses(self, quiet: bool, colour: dict[int, float] | None = None) -> ResultsSource:
        """The results file, or the poses of the model, which predicts the images now.

        Args:
            quiet: show no progress.
            colour: gets the colour of each image that is predicted (see `predict_data`).
        """
        if self.results is not None:
            return self.results
        assert self.predictor is not None
        assert self.images is not None
        track = progress_over("Predicting", quiet)
        return predict_data(self.predictor, self.truth, self.images, track, colour=colour)

    def evaluation(self, bootstrap: int, quiet: bool) -> Evaluation:
        """Of the poses."""
        colour: dict[int, float] = {}
        poses = self.poses(quiet, colour)
        return Evaluation(
            self.truth,
            poses,
            self.skeleton,
            bootstrap=bootstrap,
            setting=self.setting,
            only_labelled=self.only_labelled,
            regions=None if self.predictor is None else self.predictor.calibration.regions,
            colour=colour,
        )


def open_source(
    source: str,
    data: str,
    options: ModelOptions,
    *,
    ground_truth: str = "",
    skeleton: Path | None = None,
    only_labelled: bool = False,
    kind: str = "a model",
    needs_images: bool = False,
    only_models: Mapping[str, object] | None = None,
    only_results: Mapping[str, object] | None = None,
    find_model: Callable[[str], str | Path] = str,
    read: Callable[[Path, Skeleton], GroundTruth] = read_ground_truth,
) -> OpenedSource:
    """What a command is to work on: a results file where the source is a .json file, else a model.

    Args:
        source: as the argument.
        data: as the option.
        options: for a model only.
        ground_truth: as the option, for a results file only.
        skeleton: as the option, for a results file only.
        only_labelled: likewise.
        kind: what messages call a model.
        needs_images: the command shows images, so a results file needs `data` too.
        only_models: further options, by name, that a results file refuses.
        only_results: further options, by name, that a model refuses.
        find_model: source -> the model to open, once the options are known to fit.
        read: reads the annotations.

    Raises:
        InputError: options do not go with the source, or something of it cannot be read.
    """
    if is_results(source):
        path, images = find_data(data) if needs_images else (find_truth(source, data, ground_truth), None)
        asked = {"flip": options.flip, "scales": options.scales, "short_side": options.short_side, "as": options.form}
        refuse(source, HOLDS_RESULTS, **asked | {"device": options.device} | dict(only_models or {}))
        chosen = read_skeleton(skeleton)
        truth = read(path, chosen)
        if images is not None:
            truth = truth.in_folder(images)
        return OpenedSource(truth, chosen, images, results=Path(source), only_labelled=only_labelled)

    results_only = {"ground_truth": ground_truth, "only_labelled": only_labelled, **(only_results or {})}
    refuse(source, f"{kind} predicts the images of --data ANNOTATIONS.json=IMAGES", **results_only)
    if Path(source).suffix not in FOREIGN_SUFFIXES:
        refuse(source, f"{kind} of Calipose knows its skeleton", skeleton=skeleton)
    if not data:
        raise InputError(f"{source}: {kind} predicts the images of --data; add --data ANNOTATIONS.json=IMAGES")
    model = find_model(source)
    path, images = find_data(data)
    predictor = open_predictor(
        model,
        options.device,
        options.flip,
        options.short_side,
        scales=options.scales,
        need_torch=options.need_torch,
        form=options.form,
        skeleton=None if skeleton is None else Skeleton.from_file(skeleton),
    )
    truth = read(path, predictor.skeleton).in_folder(images)  # before hours of prediction
    return OpenedSource(truth, predictor.skeleton, images, predictor=predictor)


def is_results(source: str) -> bool:
    """Whether a source is a results file, and no model."""
    return Path(source).suffix.lower() == ".json" and not source.lower().endswith(MODEL_SUFFIX)


def refuse(source: str, why: str, **options: object) -> None:
    """Say that options do not go with a source.

    Args:
        source: as the argument.
        why: what the source is.
        options: by name, with their values.

    Raises:
        InputError: one of them is given.
    """
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value]
    if given:
        raise InputError(f"{source}: {why}; leave out {', '.join(given)}")


def find_truth(source: str, data: str, ground_truth: str) -> Path:
    """The annotations that a results file is judged by.

    Args:
        source: as the argument.
        data: as the option.
        ground_truth: as the option.

    Raises:
        InputError: neither or both options name them, or they are not there.
    """
    if data and ground_truth:
        raise InputError(f"{source}: --data and --ground-truth both name annotations; leave out one of them")
    if not data and not ground_truth:
        raise InputError(f"{source}: a results file is judged by annotations; add --ground-truth ANNOTATIONS.json")
    return find_annotations(ground_truth or data.partition("=")[0])[0]


def make_folders(*files: Path | None) -> None:
    """Make the folders that files will be written to, before the work begins.

    Raises:
        InputError: one cannot be made, or a file is a folder.
    """
    for file in files:
        if file is not None:
            make_folder(file.parent)
            if file.is_dir():
                raise InputError(f"{file}: this is a folder; name a file")


def read_skeleton(path: Path | None) -> Skeleton:
    """Of a results file: COCO's unless a file says otherwise."""
    return COCO_17 if path is None else Skeleton.from_file(path)
