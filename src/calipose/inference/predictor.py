"""Predictor: images in, poses out; backends hide what runs the network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from calipose.calibration.maps import Calibration, Setting
from calipose.calibration.second_look import SecondLook
from calipose.config.settings import PredictSettings
from calipose.errors import InputError
from calipose.geometry import Floats, pose_nms
from calipose.inference.backends.base import Backend, OwnInput
from calipose.inference.opening import OpenModel, open_model
from calipose.inference.packaged import DEFAULT
from calipose.inference.refiner import Refiner, look_again
from calipose.inference.scales import ScaleCandidates, candidates_of_image, merge_scales
from calipose.io.images import INPUT_MULTIPLE, Image, network_input
from calipose.io.still import StillImage, read_several, several_images, still_image
from calipose.poses import Poses
from calipose.skeleton import Skeleton


class Predictor:
    """Finds the poses of all people in images.

    Args:
        model: "accurate" (the default), "fast" or "onepass", which come with the package; an ONNX file (needs no
            torch), also of several other projects (docs/other-models.md), whose .tflite files need LiteRT; a
            checkpoint, a run folder, or a folder that `save_pretrained` wrote (need torch); a .model.json file, which
            names two networks (docs/second-look.md); or a backend.
        settings: of prediction; by default the model's own.
        calibration: what the raw scores mean; by default what the model says.
        refiner: a network for one person that looks at each pose again; by default the model's own, if it has one.
        second_look: how it looks, and what its result is worth; by default what the model says.
        device: of a checkpoint: "cpu", "cuda", ...; by default a GPU where there is one.
        providers: of an ONNX file: ONNX Runtime's, such as "cuda"; by default the CPU's.
        threads: of an ONNX file; 0 for ONNX Runtime's own choice.
        form: of another project's model (.onnx, .tflite), such as "rtmo" (docs/other-models.md); by default as its
            inputs and outputs say.
        skeleton: of another project's model, if its keypoints are not COCO's 17.
        with_torch: run the checkpoint of a packaged model, which can flip and has queries, and not its ONNX file.

    Attributes:
        backend: runs the network; predictors of `with_settings` and `with_calibration` share it.
        refiner: looks at each pose again; None for one pass.
        second_look: how it looks.

    Raises:
        InputError: the model is missing, damaged, or not Calipose's, or a device or provider is not there.

    A predictor is never changed, may be called from several threads at once, and may be sent to other processes
    (pickle, joblib, Ray): there an ONNX file is opened again, at the same path, and a network is sent with its weights.

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
        refiner: Refiner | None = None,
        second_look: SecondLook | None = None,
        device: str = "",
        providers: list[str] | None = None,
        threads: int = 0,
        with_torch: bool = False,
        form: str = "",
        skeleton: Skeleton | None = None,
    ) -> None:
        if isinstance(model, str | Path):
            opened = open_model(model, device, providers, threads, with_torch, form, skeleton)
        else:
            opened = OpenModel(model, model.settings, model.calibration)
        self.backend: Backend = opened.backend
        self.refiner = opened.refiner if refiner is None else refiner
        self.second_look = opened.second_look if second_look is None else second_look
        self._settings = opened.settings if settings is None else settings
        self._calibration = opened.calibration if calibration is None else calibration
        if self.refiner is not None and self.refiner.skeleton.keypoints != self.skeleton.keypoints:
            raise InputError(
                f"the second look gives skeleton '{self.refiner.skeleton.name}', the model '{self.skeleton.name}'"
            )

    @classmethod
    def from_checkpoint(
        cls, path: str | Path, device: str = "cpu", settings: PredictSettings | None = None
    ) -> Predictor:
        """Predictor of a trained network; needs torch.

        Args:
            path: a .safetensors file or a run folder.
            device: "cpu", "cuda", ...
            settings: of prediction; by default those of the checkpoint's recipe.

        Returns:
            A predictor that runs the network in torch.

        Raises:
            InputError: the file is missing, damaged, or not Calipose's, or there is no such device.
        """
        return cls(path, settings, device=device)

    @classmethod
    def from_onnx(
        cls,
        path: str | Path,
        settings: PredictSettings | None = None,
        providers: list[str] | None = None,
        threads: int = 0,
    ) -> Predictor:
        """Predictor of an exported network, without torch.

        Args:
            path: an .onnx file that `calipose export` wrote.
            settings: of prediction; by default those in the file.
            providers: ONNX Runtime's, such as ["cuda"]; by default the CPU's.
            threads: 0 for ONNX Runtime's own choice.

        Returns:
            A predictor that runs the file in ONNX Runtime.

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
    def setting(self) -> Setting:
        """How the poses are predicted, as far as their scores depend on it."""
        return msgspec.structs.replace(self.settings.setting, second_look=self.refiner is not None)

    @property
    def calibration(self) -> Calibration:
        """What the raw scores mean; the identity where the model was never calibrated."""
        return self._calibration

    @property
    def skeleton(self) -> Skeleton:
        """Skeleton of the poses."""
        return self.backend.skeleton

    def with_settings(self, **changes: Any) -> Predictor:
        """A predictor with some settings changed, for example `with_settings(flip=True)`.

        Args:
            changes: fields of `PredictSettings`.

        Returns:
            A new predictor with the same backend.

        Raises:
            TypeError: there is no such setting.
        """
        return self._with(msgspec.structs.replace(self.settings, **changes), self.calibration)

    def with_calibration(self, calibration: Calibration) -> Predictor:
        """A predictor with another calibration.

        Args:
            calibration: the maps; `Calibration()` leaves the scores raw.

        Returns:
            A new predictor with the same backend.
        """
        return self._with(self.settings, calibration)

    def _with(self, settings: PredictSettings, calibration: Calibration) -> Predictor:
        return Predictor(
            self.backend, settings, calibration=calibration, refiner=self.refiner, second_look=self.second_look
        )

    def warm_up(self) -> None:
        """Run once on an empty image, so that the first real one does not wait for what is set up at first use."""
        side = self.settings.short_side
        self.predict(np.full((side, side, 3), self.backend.pad_colour, np.uint8))

    def predict(self, image: StillImage) -> Poses:
        """Poses in one image.

        Args:
            image: a file's path; a URL; the bytes of a file, or an open binary file; a PIL image; or an array (h, w, 3)
                RGB or (h, w) grey, uint8, of numpy or whatever numpy converts, such as a torch tensor on the CPU.

        Returns:
            All poses whose raw score (that of the first look, where there are two) is above
            `settings.score_threshold`, best first, in pixels of the upright image; `Poses.above` leaves weak ones out.

        Raises:
            ImageError: it cannot be read or is no image; the message says what is needed.
            InputError: the model is damaged: its file cannot be run, or it gives numbers that are not finite.
        """
        return next(self.predict_many([image]))

    __call__ = predict

    def predict_many(self, images: Iterable[StillImage], batch_size: int = 1) -> Iterator[Poses]:
        """Poses of images, in order; at most `batch_size` images are held at a time.

        Only images of equal size after padding go through the network together, so a result never depends on the
        other images.

        Args:
            images: each as `predict` takes it.
            batch_size: at least 1.

        Returns:
            An iterator of the poses of each image, as `predict` gives them.

        Raises:
            InputError: `images` is a single image, or `batch_size` is below 1.
            ImageError: an image cannot be read; the images before it were predicted.
        """
        waiting = several_images(images, batch_size)
        while True:
            window, problem = read_several(islice(waiting, batch_size))
            yield from (poses for poses, _ in self._predict_window(window))
            if problem is not None:
                raise problem
            if not window:
                return

    def predict_with_queries(self, image: StillImage) -> tuple[Poses, Floats | None]:
        """Poses in an image, and their keypoint queries: the yellow circles of the paper's Figure 2.

        Args:
            image: as `predict` takes it.

        Returns:
            The poses, and queries_img (p, k, 2), or None where the backend has none.
        """
        return self._predict_window([still_image(image)])[0]

    def _predict_window(self, images: list[Image]) -> list[tuple[Poses, Floats | None]]:
        """Poses and queries of a few images, those of all scales together."""
        results = []
        for image, first in zip(images, self.first_look(images), strict=True):
            kept = first
            if self.refiner is not None and len(kept.raw_scores):
                threshold, flip = self.settings.nms_threshold, self.settings.flip
                kept = look_again(image, kept, self.refiner, self.second_look, threshold, flip)
            results.append(self._make_poses(kept, (image.shape[1], image.shape[0])))
        return results

    def first_look(self, images: list[Image]) -> list[ScaleCandidates]:
        """What one pass finds in a few images, before calibration and second look.

        Args:
            images: (h, w, 3) RGB uint8 each.

        Returns:
            The candidates of each image, in pixels of the image, best first.
        """
        sides = [max(INPUT_MULTIPLE, round(self.settings.short_side * scale)) for scale in self.settings.scales]
        by_scale = [self.candidates_at_size(images, short_side) for short_side in sides]
        found = []
        for candidates in zip(*by_scale, strict=True):
            kept = self._apply_nms(candidates[0])
            if len(candidates) > 1:  # each on its own first, as the graph of an ONNX file does
                kept = self._apply_nms(merge_scales([kept, *map(self._apply_nms, candidates[1:])]))
            found.append(kept[np.flatnonzero(kept.raw_scores > self.settings.score_threshold)])
        return found

    def candidates_at_size(self, images: list[Image], short_side: int) -> list[ScaleCandidates]:
        """Candidates of a few images at one input size, before calibration, score threshold and pose NMS.

        Images of equal padded size go through the network together.

        Args:
            images: (h, w, 3) RGB uint8 each.
            short_side: of the network's input, in pixels.

        Returns:
            The candidates of each image, in pixels of the image.
        """
        settings = self.settings
        if isinstance(self.backend, OwnInput):
            inputs = [self.backend.network_input(image, short_side) for image in images]
        else:
            colour = self.backend.pad_colour
            inputs = [network_input(image, short_side, colour, settings.max_aspect) for image in images]
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, (pixels, _) in enumerate(inputs):
            groups.setdefault(pixels.shape, []).append(index)
        by_image: dict[int, ScaleCandidates] = {}
        for indices in groups.values():
            batch = np.stack([inputs[index][0] for index in indices])
            candidates = self.backend.candidates(batch, settings.max_poses, settings.flip)
            for row, index in enumerate(indices):
                by_image[index] = candidates_of_image(candidates, row, inputs[index][1])
        return [by_image[index] for index in range(len(images))]

    def _apply_nms(self, candidates: ScaleCandidates) -> ScaleCandidates:
        """The candidates that pose NMS keeps, best first; by the raw scores, as in the graph of an ONNX file."""
        sigmas, threshold = self.skeleton.sigmas_array, self.settings.nms_threshold
        return candidates[pose_nms(candidates.keypoints_img, candidates.raw_scores, sigmas, threshold)]

    def _make_poses(self, chosen: ScaleCandidates, image_size: tuple[int, int]) -> tuple[Poses, Floats | None]:
        """Calibrated poses, and queries, of one image's chosen candidates."""
        calibration = self.calibration
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
            regions=calibration.regions,
        )
        return poses, chosen.queries_img
