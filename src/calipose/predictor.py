"""Predictor: pictures in, poses out; backends hide what runs the network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from calipose.backends import Backend
from calipose.errors import InputError
from calipose.geometry import Floats, apply_affine, invert_affine, pose_nms
from calipose.images import Picture, network_input, read_picture
from calipose.poses import Poses
from calipose.recipe import PredictSettings
from calipose.skeleton import Skeleton


class Predictor:
    """Finds the poses of all people in pictures.

    Args: `backend`, which runs the network; `settings` of decoding. `Predictor.from_checkpoint` makes both.
    """

    def __init__(self, backend: Backend, settings: PredictSettings | None = None) -> None:
        self.backend = backend
        self.settings = settings or PredictSettings()

    @classmethod
    def from_checkpoint(
        cls, path: str | Path, device: str = "cpu", settings: PredictSettings | None = None
    ) -> Predictor:
        """Predictor of a trained network (needs torch); settings of its recipe unless given.

        Raises:
            InputError: the file is missing, damaged, or not Calipose's.
        """
        from calipose.backends.torch_backend import TorchBackend
        from calipose.model.checkpoint import load_checkpoint

        checkpoint = load_checkpoint(path)
        backend = TorchBackend(checkpoint.network(), checkpoint.skeleton, device)
        return cls(backend, settings or checkpoint.recipe.predict)

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
        from calipose.backends.onnx_backend import OnnxBackend

        backend = OnnxBackend(path, providers, threads)
        return cls(backend, settings or backend.settings)

    @property
    def skeleton(self) -> Skeleton:
        """Skeleton of the poses."""
        return self.backend.skeleton

    def predict(self, picture: Picture | str | Path) -> Poses:
        """Poses in one picture: an array (h, w, 3) RGB uint8, or a file.

        Raises:
            InputError: the array is no picture.
            PictureError: the file cannot be read.
        """
        return next(self.predict_many([picture]))

    __call__ = predict

    def predict_many(self, pictures: Iterable[Picture | str | Path]) -> Iterator[Poses]:
        """Poses of pictures one by one, in order; a result never depends on the other pictures.

        Raises:
            InputError: an array is no picture.
            PictureError: a file cannot be read.
        """
        for source in pictures:
            picture = source if isinstance(source, np.ndarray) else read_picture(source)
            yield self.predict_with_queries(picture)[0]

    def predict_with_queries(self, picture: Picture) -> tuple[Poses, Floats | None]:
        """Poses in a picture (h, w, 3) RGB uint8, and their keypoint queries_img (p, k, 2) (the yellow circles of
        Figure 2), or None where the network has none.
        """
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
            raise InputError(
                f"picture is an array of {picture.dtype} with shape {picture.shape}; (h, w, 3) RGB uint8 is needed"
            )
        settings = self.settings
        image, inp_from_img = network_input(picture, settings.short_side, self.backend.pad_colour, settings.max_aspect)
        keypoints_inp, scores, queries_inp = self.backend.candidates(image[None], settings.max_poses, settings.flip)
        good = scores[0] > settings.score_threshold
        img_from_inp = invert_affine(inp_from_img)
        keypoints_img = apply_affine(img_from_inp, keypoints_inp[0][good])
        kept = pose_nms(keypoints_img, scores[0][good], self.skeleton.sigmas_array, settings.nms_threshold)
        height, width = picture.shape[:2]
        poses = Poses(keypoints_img[kept], scores[0][good][kept], (width, height), skeleton=self.skeleton)
        return poses, None if queries_inp is None else apply_affine(img_from_inp, queries_inp[0][good][kept])
