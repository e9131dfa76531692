"""Predictor: images in, poses out; backends hide what runs the network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from calipose.calibration.maps import Calibration
from calipose.config.settings import PredictSettings
from calipose.errors import InputError
from calipose.geometry import Floats, apply_affine, invert_affine, pose_nms
from calipose.inference.backends.base import Backend, BatchCandidates
from calipose.inference.scales import ScaleCandidates, merge_scales
from calipose.io.images import INPUT_MULTIPLE, Image, network_input, read_image
from calipose.poses import Poses
from calipose.skeleton import Skeleton

DEFAULT = "default"  # the model that comes with the package


class Predictor:
    """Finds the poses of all people in images.

    Args:
        model: "default" is the model that comes with the package; an ONNX file (needs no torch); a checkpoint, a run
            folder, or a folder that `save_pretrained` wrote (need torch); or a backend.
        settings: of prediction; by default the model's own.
        calibration: what the raw scores mean; by default what the model says.
        device: of a checkpoint: "cpu", "cuda", ...; by default a GPU where there is one.
        providers: of an ONNX file: ONNX Runtime's, such as "cuda"; by default the CPU's.
        threads: of an ONNX file; 0 for ONNX Runtime's own choice.

    Attributes:
        backend: runs the network; predictors of `with_settings` and `with_calibration` share it.

    Raises:
        InputError: the model is missing, damaged, or not Calipose's, or a device or provider is not there.

    A predictor is never changed, and may be called from several threads at once.

    Example:
        >>> predictor = Predictor().with_settings(short_side=384)
        >>> poses = predictor.predict("photo.jpg")
        >>> poses.scores, poses.keypoints_img
    """

    def __init__(
        self,
        model: str | Path | Backend = DEFAULT,
        settings: PredictSettings | None = None,
        *,
        calibration: Calibration | None = None,
        device: str = "",
        providers: list[str] | None = None,
        threads: int = 0,
    ) -> None:
        backend = _open_model(model, device, providers, threads) if isinstance(model, str | Path) else model
        self.backend: Backend = backend
        self._settings = backend.settings if settings is None else settings
        self._calibration = backend.calibration if calibration is None else calibration

    @classmethod
    def from_checkpoint(
        cls, path: str | Path, device: str = "cpu", settings: PredictSettings | None = None
    ) -> Predictor:
        """Predictor of a trained network (needs torch); settings of its recipe unless given.

        Raises:
            InputError: the file is missing, damaged, or not Calipose's, or there is no such device.
        """
        return cls(_open_checkpoint(path, device), settings)

    @classmethod
    def from_onnx(
        cls,
        path: str | Path,
        settings: PredictSettings | None = None,
        providers: list[str] | None = None,
        threads: int = 0,
    ) -> Predictor:
        """Predictor of an exported network, in ONNX Runtime, without torch; settings of its recipe unless given.

        Raises:
            InputError: the file is missing, damaged, or not Calipose's, or a provider is not there.
        """
        from calipose.inference.backends.onnx import OnnxBackend

        return cls(OnnxBackend(path, providers, threads), settings)

    @property
    def settings(self) -> PredictSettings:
        """Settings of prediction; `with_settings` gives a predictor with others."""
        return self._settings

    @property
    def calibration(self) -> Calibration:
        """What the raw scores mean; the identity where the model was never calibrated."""
        return self._calibration

    @property
    def skeleton(self) -> Skeleton:
        """Skeleton of the poses."""
        return self.backend.skeleton

    def with_settings(self, **changes: Any) -> Predictor:
        """A predictor with the same backend and some settings changed, for example `with_settings(flip=True)`.

        Args:
            changes: fields of `PredictSettings`.

        Raises:
            TypeError: there is no such setting.
        """
        return Predictor(self.backend, msgspec.structs.replace(self.settings, **changes), calibration=self.calibration)

    def with_calibration(self, calibration: Calibration) -> Predictor:
        """A predictor with the same backend and another calibration; `Calibration()` leaves the scores raw."""
        return Predictor(self.backend, self.settings, calibration=calibration)

    def warm_up(self) -> None:
        """Run once on an empty image, so that the first real one does not wait for what is set up at first use."""
        side = self.settings.short_side
        self.predict(np.full((side, side, 3), self.backend.pad_colour, np.uint8))

    def predict(self, image: Image | str | Path) -> Poses:
        """Poses in one image: an array (h, w, 3) RGB uint8, or a file.

        Raises:
            InputError: the array is no image.
            ImageError: the file cannot be read.
        """
        return next(self.predict_many([image]))

    __call__ = predict

    def predict_many(self, images: Iterable[Image | str | Path], batch_size: int = 1) -> Iterator[Poses]:
        """Poses of images, in order; at most `batch_size` images are held at a time.

        Only images of equal size after padding go through the network together, so a result never depends on the
        other images.

        Raises:
            InputError: an array is no image, or `batch_size` is below 1.
            ImageError: a file cannot be read; the images before it were predicted.
        """
        if batch_size < 1:
            raise InputError(f"batch_size {batch_size}: at least one image goes through the network")
        waiting = iter(images)
        while True:
            window, problem = _read(islice(waiting, batch_size))
            yield from (poses for poses, _ in self._predict_window(window))
            if problem is not None:
                raise problem
            if not window:
                return

    def predict_with_queries(self, image: Image) -> tuple[Poses, Floats | None]:
        """Poses in an image, and their keypoint queries: the yellow circles of the paper's Figure 2.

        Args:
            image: (h, w, 3) RGB uint8.

        Returns:
            The poses, and queries_img (p, k, 2), or None where the backend has none.
        """
        return self._predict_window([_image(image)])[0]

    def _predict_window(self, images: list[Image]) -> list[tuple[Poses, Floats | None]]:
        """Poses and queries of a few images, those of all scales together."""
        sides = [max(INPUT_MULTIPLE, round(self.settings.short_side * scale)) for scale in self.settings.scales]
        by_scale = [self.candidates_at_size(images, short_side) for short_side in sides]
        results = []
        for image, *candidates in zip(images, *by_scale, strict=True):
            kept = self._apply_nms(candidates[0])
            if len(candidates) > 1:  # each on its own first, as the graph of an ONNX file does
                kept = self._apply_nms(merge_scales([kept, *map(self._apply_nms, candidates[1:])]))
            results.append(self._make_poses(kept, (image.shape[1], image.shape[0])))
        return results

    def candidates_at_size(self, images: list[Image], short_side: int) -> list[ScaleCandidates]:
        """Candidates of a few images at one input size, before calibration, score threshold and pose NMS.

        Images of equal padded size go through the network together.

        Args:
            images: (h, w, 3) RGB uint8 each.
            short_side: of the network's input, in pixels.
        """
        settings = self.settings
        inputs = [network_input(image, short_side, self.backend.pad_colour, settings.max_aspect) for image in images]
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, (pixels, _) in enumerate(inputs):
            groups.setdefault(pixels.shape, []).append(index)
        by_image: dict[int, ScaleCandidates] = {}
        for indices in groups.values():
            batch = np.stack([inputs[index][0] for index in indices])
            candidates = self.backend.candidates(batch, settings.max_poses, settings.flip)
            for row, index in enumerate(indices):
                by_image[index] = _candidates_of_image(candidates, row, inputs[index][1])
        return [by_image[index] for index in range(len(images))]

    def _apply_nms(self, candidates: ScaleCandidates) -> ScaleCandidates:
        """The candidates that pose NMS keeps, best first; by the raw scores, as in the graph of an ONNX file."""
        sigmas, threshold = self.skeleton.sigmas_array, self.settings.nms_threshold
        return candidates[pose_nms(candidates.keypoints_img, candidates.raw_scores, sigmas, threshold)]

    def _make_poses(self, candidates: ScaleCandidates, image_size: tuple[int, int]) -> tuple[Poses, Floats | None]:
        """Poses and queries of one image's candidates after pose NMS: score threshold and calibration."""
        calibration = self.calibration
        chosen = candidates[np.flatnonzero(candidates.raw_scores > self.settings.score_threshold)]
        raw, raw_keypoints = chosen.raw_scores, chosen.raw_keypoint_scores
        p_oks50 = p_oks75 = None
        if not calibration.is_identity:
            p_oks50 = calibration.oks50(raw).clip(0, 1)
            p_oks75 = np.minimum(calibration.oks75(raw).clip(0, 1), p_oks50)
        poses = Poses(
            chosen.keypoints_img,
            calibration.score(raw),
            image_size,
            None if raw_keypoints is None else calibration.calibrate_keypoints(raw_keypoints),
            self.skeleton,
            raw_scores=raw,
            p_oks50=p_oks50,
            p_oks75=p_oks75,
        )
        return poses, chosen.queries_img


def _open_model(model: str | Path, device: str, providers: list[str] | None, threads: int) -> Backend:
    """The backend of a model by its name or file."""
    path = default_model() if str(model) == DEFAULT else Path(model)
    if path.suffix != ".onnx":
        return _open_checkpoint(path, device)
    from calipose.inference.backends.onnx import OnnxBackend

    if device not in {"", "cpu"} and not providers:
        providers = [device]
    return OnnxBackend(path, providers, threads)


def _open_checkpoint(path: str | Path, device: str) -> Backend:
    """The backend of a checkpoint."""
    try:
        from calipose.inference.backends.torch import TorchBackend
        from calipose.model.checkpoint import load_checkpoint
        from calipose.model.device import choose_device
    except ModuleNotFoundError as error:
        raise InputError(f"{path}: a checkpoint needs {error.name}: pip install 'calipose[train]'") from None

    checkpoint = load_checkpoint(path)
    return TorchBackend(
        checkpoint.network(),
        checkpoint.skeleton,
        choose_device(device),
        calibration=checkpoint.calibration,
        settings=checkpoint.recipe.predict,
    )


def _candidates_of_image(batch: BatchCandidates, row: int, inp_from_img: Floats) -> ScaleCandidates:
    """The candidates of one image of a batch, without padding, in the image's frame."""
    real = np.flatnonzero(batch.raw_scores[row] > -np.inf)
    img_from_inp = invert_affine(inp_from_img)
    raw_keypoints, queries = batch.raw_keypoint_scores, batch.queries_inp
    return ScaleCandidates(
        apply_affine(img_from_inp, batch.keypoints_inp[row][real]),
        batch.raw_scores[row][real],
        None if raw_keypoints is None else raw_keypoints[row][real],
        None if queries is None else apply_affine(img_from_inp, queries[row][real]),
    )


def default_model(suffix: str = ".onnx") -> Path:
    """The file of the model that comes with the package: ".onnx", or ".safetensors" for the checkpoint.

    Raises:
        InputError: this installation has none.
    """
    path = Path(str(resources.files("calipose").joinpath("weights", f"default{suffix}")))
    if not path.is_file():
        raise InputError(f"this installation holds no default{suffix}; name a model: an .onnx file or a checkpoint")
    return path


def _read(sources: Iterable[Image | str | Path]) -> tuple[list[Image], InputError | None]:
    """The images, up to the first that cannot be read, and what is wrong with that one."""
    images: list[Image] = []
    try:
        for source in sources:
            images.append(_image(source))
    except InputError as error:
        return images, error
    return images, None


def _image(source: Image | str | Path) -> Image:
    """The image itself, checked.

    Raises:
        InputError: an array that is no image; ImageError: a file that cannot be read.
    """
    if not isinstance(source, np.ndarray):
        return read_image(source)
    if source.ndim != 3 or source.shape[2] != 3 or source.dtype != np.uint8 or not source.size:
        raise InputError(
            f"image is an array of {source.dtype} with shape {source.shape}; (h, w, 3) RGB uint8 is needed"
        )
    return source
